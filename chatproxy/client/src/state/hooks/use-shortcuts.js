import { useEffect } from "react";

import { isTyping, shortcutOf } from "../../lib/shortcuts.js";
import { composes, isModal } from "./use-escape.js";
import { useLatest } from "./use-latest.js";

const KEY = "chatproxy.bareHelp";

/**
 * Does what the keys of the page ask for, while no dialog has the keyboard.
 * @param {Storage | null} storage
 * @param {Record<import("../../lib/shortcuts.js").Shortcut, () => void>} actions
 */
export function useShortcuts(storage, actions) {
  const latest = useLatest(actions);

  useEffect(() => {
    /** @param {KeyboardEvent} event */
    function listen(event) {
      if (event.defaultPrevented || composes(event) || isModal()) {
        return;
      }
      const where = { typing: isTyping(event.target), bare: bareHelp(storage) };
      const shortcut = shortcutOf(event, where);
      if (shortcut) {
        event.preventDefault();
        latest.current[shortcut]();
      }
    }
    addEventListener("keydown", listen);
    return () => removeEventListener("keydown", listen);
  }, [storage, latest]);
}

/**
 * Whether a question mark alone asks for help. Who speaks to the computer may want to switch that off.
 * @param {Storage | null} storage
 */
export function bareHelp(storage) {
  return storage?.getItem(KEY) !== "off";
}

/**
 * @param {Storage | null} storage
 * @param {boolean} on
 */
export function setBareHelp(storage, on) {
  try {
    storage?.setItem(KEY, on ? "on" : "off");
  } catch {
    // A full storage: it stays as it was.
  }
}
