import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

import react from "@vitejs/plugin-react";
import { defaultClientConditions, defineConfig } from "vite";

import { pageFiles } from "./page-files.js";

const SERVER = "http://127.0.0.1:8000";

/** What gets smaller; pictures and fonts are compressed already. */
const SHRINKS = /^assets\/.*\.(?:css|js|json|mjs|svg)$/;
/** Bytes; anything smaller takes one packet in any case. */
const SMALL = 1024;

/**
 * Lays a `.br` and a `.gz` beside each asset that they make smaller; the server sends what the
 * browser accepts. They are made here because Python has no brotli, and a wheel has no Node.
 * @param {boolean} well with all that they can, which takes as long as the rest of the build
 * @returns {import("vite").Plugin}
 */
function compress(well) {
  const params = { [constants.BROTLI_PARAM_QUALITY]: well ? constants.BROTLI_MAX_QUALITY : 1 };
  return {
    name: "compress",
    apply: "build",
    writeBundle({ dir = "" }, bundle) {
      for (const name of Object.keys(bundle).filter((name) => SHRINKS.test(name))) {
        const path = join(dir, name);
        const content = readFileSync(path);
        if (content.length >= SMALL) {
          writeFileSync(`${path}.br`, brotliCompressSync(content, { params }));
          writeFileSync(`${path}.gz`, gzipSync(content, { level: well ? 9 : 1 }));
        }
      }
    },
  };
}

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

/**
 * All that the page begins with is one file, because over a slow line each further one takes its time:
 * the page's own modules, and what they import. What the frame of a diagram shares with it is not in
 * there.
 */
const GROUPS = [
  { name: "loader", test: /vite\/preload-helper/, priority: 1 },
  {
    name: "page",
    /** @type {["$initial"]} */
    tags: ["$initial"],
    test: /\/client\/src\/(?!.*diagram)/,
  },
];

// With `--mode comparison`, to be compared with another build (see same-build.js).
export default defineConfig(({ mode }) => ({
  // Relative to the page, which may be below a path.
  base: "./",
  plugins: [react(), pageFiles(), woff2Only, compress(mode !== "comparison")],
  // The source of @chatproxy/client, so that it need not be built first.
  resolve: { conditions: ["source", ...defaultClientConditions] },
  build: {
    outDir: "../static",
    emptyOutDir: true,
    sourcemap: false,
    target: "es2022",
    // The frame of a diagram is a page of its own, with a policy of its own.
    rolldownOptions: {
      input: ["index.html", "diagram.html"],
      output: { codeSplitting: { groups: GROUPS } },
    },
    // The page's policy forbids inline code, and every browser that runs this knows the real thing.
    modulePreload: { polyfill: false },
    // The policy allows data: for images, but a file of its own can be cached.
    assetsInlineLimit: 0,
    // The licences of what is bundled ask to be passed on with it.
    license: { fileName: "licenses.md" },
    reportCompressedSize: mode !== "comparison",
    // Mermaid's layouts are large, and few diagrams need them.
    chunkSizeWarningLimit: 1000,
  },
  server: { proxy: { "/api": SERVER, "/page.json": SERVER } },
  preview: { proxy: { "/api": SERVER, "/page.json": SERVER } },
}));
