import { MOUNT } from "./mount.js";

/** What all pages of an origin share: how they look, which is no application's. */
export const LOOKS = new Set(["chatproxy.theme", "chatproxy.language"]);

/**
 * @param {"localStorage" | "sessionStorage"} kind what lasts, or what goes with the tab
 * @returns {Storage | null} the part of this page's mount; null if the browser forbids it, as some do
 *   in private windows
 */
export function browserStorage(kind) {
  try {
    return MOUNT === "/" ? window[kind] : partOf(window[kind], `${MOUNT}:`, LOOKS);
  } catch {
    return null;
  }
}

/**
 * A part of a storage, which has nothing of the other parts.
 * @param {Storage} storage
 * @param {string} prefix of its keys
 * @param {Set<string>} shared keys that are the whole storage's
 * @returns {Storage}
 */
export function partOf(storage, prefix, shared) {
  const nameOf = (/** @type {string} */ key) => (shared.has(key) ? key : prefix + key);
  const keys = () =>
    Array.from({ length: storage.length }, (_, at) => storage.key(at) ?? "")
      .filter((key) => key.startsWith(prefix) || shared.has(key))
      .map((key) => (shared.has(key) ? key : key.slice(prefix.length)));
  return {
    get length() {
      return keys().length;
    },
    key: (at) => keys()[at] ?? null,
    getItem: (key) => storage.getItem(nameOf(key)),
    setItem: (key, value) => storage.setItem(nameOf(key), value),
    removeItem: (key) => storage.removeItem(nameOf(key)),
    clear: () => keys().forEach((key) => storage.removeItem(nameOf(key))),
  };
}

/**
 * @param {Storage | null} storage
 * @param {string} prefix
 * @returns {string[]} the keys in it that begin so
 */
export function keysWith(storage, prefix) {
  const count = storage?.length ?? 0;
  const keys = Array.from({ length: count }, (_, index) => storage?.key(index) ?? "");
  return keys.filter((key) => key.startsWith(prefix));
}
