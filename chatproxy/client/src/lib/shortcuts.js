/** The keys of the page, and what they do. */

/** @typedef {"help" | "newChat" | "search" | "settings"} Shortcut */

const MAC = /Mac|iPhone|iPad/.test(globalThis.navigator?.platform ?? "");
const CONTROL = MAC ? "⌘" : "Ctrl";

/**
 * Those that work everywhere on the page, as their keys are printed on a keyboard.
 * @type {Map<Shortcut, string[]>}
 */
export const SHORTCUTS = new Map([
  ["help", [CONTROL, "/"]],
  ["newChat", [CONTROL, "Shift", "O"]],
  ["search", [CONTROL, "K"]],
  ["settings", [CONTROL, ","]],
]);

/**
 * Those that belong to one place, which listens for them itself.
 * @type {Map<"send" | "newLine" | "stop", string[]>}
 */
export const LOCAL_SHORTCUTS = new Map([
  ["send", ["Enter"]],
  ["newLine", ["Shift", "Enter"]],
  ["stop", ["Esc"]],
]);

const LETTER = /^[A-Z]$/;
/** Question marks, as keyboards and input methods write them. */
const QUESTION_MARKS = new Set(["?", "？"]);

/**
 * What a key asks for.
 * @param {Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey" | "shiftKey">} event
 * @param {{typing: boolean, bare: boolean}} where whether text is typed there, and whether a question
 *   mark alone asks for help
 * @returns {Shortcut | null}
 */
export function shortcutOf(event, { typing, bare }) {
  const { key, ctrlKey, metaKey, altKey, shiftKey } = event;
  if (!ctrlKey && !metaKey) {
    return bare && !typing && !altKey && QUESTION_MARKS.has(key) ? "help" : null;
  }
  const pressed = key.toUpperCase();
  for (const [shortcut, keys] of altKey ? [] : SHORTCUTS) {
    // Some keyboards have their signs, as `/`, with Shift.
    const isShifted = !LETTER.test(pressed) || keys.includes("Shift") === shiftKey;
    if (keys.at(-1) === pressed && isShifted) {
      return shortcut;
    }
  }
  return null;
}

/**
 * Whether keys that are pressed there write text.
 * @param {EventTarget | null} target
 */
export function isTyping(target) {
  return (
    target instanceof Element &&
    target.closest("textarea, select, input:not([type=checkbox], [type=radio]), [contenteditable]") !==
      null
  );
}
