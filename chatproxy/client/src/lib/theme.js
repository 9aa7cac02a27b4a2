/**
 * The scheme of colours: the system's, or one that was chosen. `src/early.js` applies it, before
 * anything is painted and whenever it hears of another.
 */

const KEY = "chatproxy.theme";

/** @typedef {"system" | "light" | "dark"} Theme */

/** @type {Theme[]} */
export const THEMES = ["system", "light", "dark"];

/**
 * @param {Storage | null} storage
 * @returns {Theme}
 */
export function keptTheme(storage) {
  const kept = storage?.getItem(KEY);
  return THEMES.find((theme) => theme === kept) ?? "system";
}

/**
 * @param {Storage | null} storage where it is kept
 * @param {string} theme one of `THEMES`
 * @returns {Theme}
 */
export function chooseTheme(storage, theme) {
  const chosen = THEMES.find((each) => each === theme) ?? "system";
  try {
    storage?.setItem(KEY, chosen);
  } catch {
    // A full storage: the choice holds for as long as the page does.
  }
  dispatchEvent(new CustomEvent("theme", { detail: chosen }));
  return chosen;
}
