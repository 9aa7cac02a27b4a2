/**
 * @param {"localStorage" | "sessionStorage"} kind what lasts, or what goes with the tab
 * @returns {Storage | null} null where the browser forbids it, as some do in private windows
 */
export function browserStorage(kind) {
  try {
    return window[kind];
  } catch {
    return null;
  }
}
