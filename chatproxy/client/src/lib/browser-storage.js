/**
 * @param {"localStorage" | "sessionStorage"} kind what lasts, or what goes with the tab
 * @returns {Storage | null} null if the browser forbids it, as some do in private windows
 */
export function browserStorage(kind) {
  try {
    return window[kind];
  } catch {
    return null;
  }
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
