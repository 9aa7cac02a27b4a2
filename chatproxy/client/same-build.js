/**
 * `node same-build.js ONE OTHER`: says how two builds of the page differ, and fails if they do. What
 * is compressed is compared by what it holds, because zlib makes other bytes on other processors.
 */

import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import process from "node:process";
import { brotliDecompressSync, gunzipSync } from "node:zlib";

/** @param {string} path */
function contentOf(path) {
  const content = readFileSync(path);
  if (path.endsWith(".br")) {
    return brotliDecompressSync(content);
  }
  return path.endsWith(".gz") ? gunzipSync(content) : content;
}

/** @param {string} folder */
function filesOf(folder) {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));
  return new Map(paths.map((path) => [relative(folder, path), contentOf(path)]));
}

const [one = new Map(), other = new Map()] = process.argv.slice(2).map(filesOf);
const names = [...new Set([...one.keys(), ...other.keys()])];
const different = names.filter((name) => {
  const content = other.get(name);
  return content === undefined || !one.get(name)?.equals(content);
});
if (different.length > 0) {
  process.stderr.write(`Not the same in both builds: ${different.join(", ")}\n`);
  process.exitCode = 1;
}
