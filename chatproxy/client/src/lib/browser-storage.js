/**
 * @returns {Storage | null} null where the browser forbids it, as some do in private windows
 */
export function browserStorage() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}
