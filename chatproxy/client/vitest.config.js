import { defaultServerConditions } from "vite";
import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: { conditions: ["source", ...defaultServerConditions] },
  ssr: { resolve: { conditions: ["source", ...defaultServerConditions] } },
  test: {
    include: ["test/**/*.test.{js,jsx}"],
    environment: "node",
    restoreMocks: true,
    unstubGlobals: true,
    isolate: false, // a process for each file costs a third,
    pool: "threads", // and processes cost more than threads
    testTimeout: 60_000, // of what takes a second on a machine at rest
  },
});
