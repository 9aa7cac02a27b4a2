/**
 * What the page needs beside its code, each under a name with a hash, so that it is cached for ever: the
 * script before the first paint, the web app's manifest, and its icons. And the licence of the tables
 * in `src/lib/pdf-text.js`, which are no code, so that Vite does not see it.
 */

import { readFileSync } from "node:fs";
import { basename } from "node:path";

const EARLY = "src/early.js";

const TABLES_LICENSE = "node_modules/pdfjs-dist/cmaps/LICENSE";

const MANIFEST = {
  name: "Chat",
  short_name: "Chat",
  // Beside the assets' folder; addresses in it are relative to its own.
  start_url: "../",
  scope: "../",
  display: "standalone",
  background_color: "#faf9f7",
  theme_color: "#faf9f7",
};

const ICONS = {
  "icon.svg": { sizes: "any", type: "image/svg+xml" },
  "icon-192.png": { sizes: "192x192", type: "image/png" },
  "icon-512.png": { sizes: "512x512", type: "image/png" },
  "maskable-512.png": { sizes: "512x512", type: "image/png", purpose: "maskable" },
};

/** @param {string} path */
function contentOf(path) {
  return readFileSync(new URL(path, import.meta.url));
}

/** @returns {import("vite").Plugin} */
export function pageFiles() {
  let early = `/${EARLY}`;
  let manifest = "";
  return {
    name: "page-files",
    generateBundle: {
      order: "pre",
      handler() {
        const emit = (/** @type {string} */ name, /** @type {string | Buffer} */ source) =>
          this.getFileName(this.emitFile({ type: "asset", name, source }));
        const icons = Object.entries(ICONS).map(([name, icon]) => ({
          src: basename(emit(name, contentOf(`src/icons/${name}`))),
          ...icon,
        }));
        early = `./${emit("early.js", contentOf(EARLY))}`;
        const source = contentOf(TABLES_LICENSE);
        this.emitFile({ type: "asset", fileName: "licenses-cmaps.txt", source });
        manifest = `./${emit("manifest.json", JSON.stringify({ ...MANIFEST, icons }))}`;
      },
    },
    transformIndexHtml: {
      order: "post",
      handler(_html, { path }) {
        if (path !== "/index.html") {
          return [];
        }
        // Where a proxy asks for a login, it asks for the manifest too.
        const toManifest = { rel: "manifest", href: manifest, crossorigin: "use-credentials" };
        return [
          ...(manifest ? [tag("link", toManifest)] : []),
          tag("script", { src: early }),
        ];
      },
    },
  };
}

/**
 * @param {string} tag
 * @param {Record<string, string>} attrs
 * @returns {import("vite").HtmlTagDescriptor}
 */
function tag(tag, attrs) {
  return { tag, attrs, injectTo: "head" };
}
