import react from "@vitejs/plugin-react";
import { defaultClientConditions, defineConfig } from "vite";

const SERVER = "http://127.0.0.1:8000";

/** KaTeX names each font in three formats. Every browser that runs this reads the first. */
const woff2Only = {
  name: "woff2-only",
  /** @type {"pre"} */
  enforce: "pre",
  /**
   * @param {string} css
   * @param {string} id
   */
  transform(css, id) {
    return /katex.*\.css$/.test(id) ? css.replace(/,url\([^)]+\.(?:woff|ttf)\) format\("\w+"\)/g, "") : null;
  },
};

export default defineConfig({
  base: "/",
  plugins: [react(), woff2Only],
  // The source of @chatproxy/client, so that it need not be built first.
  resolve: { conditions: ["source", ...defaultClientConditions] },
  build: {
    outDir: "../static",
    emptyOutDir: true,
    sourcemap: false,
    target: "es2022",
    // The frame of a diagram is a page of its own, with a policy of its own.
    rolldownOptions: { input: ["index.html", "diagram.html"] },
    // The page's policy forbids inline code, and every browser that runs this knows the real thing.
    modulePreload: { polyfill: false },
    // The policy allows data: for images, but a file of its own can be cached.
    assetsInlineLimit: 0,
    // The licences of what is bundled ask to be passed on with it.
    license: { fileName: "licenses.md" },
    reportCompressedSize: true,
    // Mermaid's layouts are large, and few diagrams need them.
    chunkSizeWarningLimit: 1000,
  },
  server: { proxy: { "/api": SERVER, "/page.json": SERVER } },
  preview: { proxy: { "/api": SERVER, "/page.json": SERVER } },
});
