import react from "@vitejs/plugin-react";
import { defaultClientConditions, defineConfig } from "vite";

import { pageFiles } from "./page-files.js";

const SERVER = "http://127.0.0.1:8000";

export default defineConfig({
  base: "/",
  plugins: [react(), pageFiles()],
  // The source of @chatproxy/client, so that it need not be built first.
  resolve: { conditions: ["source", ...defaultClientConditions] },
  build: {
    outDir: "../static",
    emptyOutDir: true,
    sourcemap: false,
    target: "es2022",
    // The page's policy forbids inline code, and every browser that runs this knows the real thing.
    modulePreload: { polyfill: false },
    // The policy allows data: for images, but a file of its own can be cached.
    assetsInlineLimit: 0,
    // The licences of what is bundled ask to be passed on with it.
    license: { fileName: "licenses.md" },
    reportCompressedSize: true,
  },
  server: { proxy: { "/api": SERVER, "/page.json": SERVER } },
  preview: { proxy: { "/api": SERVER, "/page.json": SERVER } },
});
