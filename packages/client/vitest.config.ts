import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.{ts,tsx}"],
    environment: "node",
    restoreMocks: true,
    unstubGlobals: true,
    isolate: false, // a process for each file costs a third,
    pool: "threads", // and processes cost more than threads
    testTimeout: 60_000, // of what takes a second on a machine at rest
  },
});
