/** The keys of the page, and what they do. */

/**
 * @typedef {object} Shortcut
 * @property {string} name what it does: the sentence `keys.<name>` says it
 * @property {string[]} keys as they are printed on a keyboard
 */

const MAC = /Mac|iPhone|iPad/.test(globalThis.navigator?.platform ?? "");
const CONTROL = MAC ? "⌘" : "Ctrl";

/** Those that work everywhere on the page. */
export const SHORTCUTS = {
  help: { keys: [CONTROL, "/"] },
  newChat: { keys: [CONTROL, "Shift", "O"] },
  settings: { keys: [CONTROL, ","] },
};

/** Those that belong to one place, which listens for them itself. */
export const LOCAL_SHORTCUTS = {
  send: { keys: ["Enter"] },
  newLine: { keys: ["Shift", "Enter"] },
  stop: { keys: ["Esc"] },
};

/** Question marks, as keyboards and input methods write them. */
const QUESTION_MARKS = new Set(["?", "？"]);

/**
 * What a key asks for.
 * @param {Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey" | "shiftKey">} event
 * @param {{typing: boolean, bare: boolean}} where whether text is typed there, and whether a question
 *   mark alone asks for help
 * @returns {keyof typeof SHORTCUTS | null}
 */
export function shortcutOf(event, { typing, bare }) {
  const { key, ctrlKey, metaKey, altKey, shiftKey } = event;
  if (altKey) {
    return null;
  }
  if (!ctrlKey && !metaKey) {
    return bare && !typing && QUESTION_MARKS.has(key) ? "help" : null;
  }
  switch (key) {
    case "/": // on some keyboards with Shift
      return "help";
    case ",":
      return "settings";
    case "O":
    case "o":
      return shiftKey ? "newChat" : null;
    default:
      return null;
  }
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
