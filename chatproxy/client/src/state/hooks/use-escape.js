import { useEffect } from "react";

/**
 * Call `onEscape` when Escape is pressed anywhere, unless it belongs to an input method or a dialog.
 * @param {boolean} active
 * @param {() => void} onEscape
 */
export function useEscape(active, onEscape) {
  useEffect(() => {
    if (!active) {
      return undefined;
    }
    /** @param {KeyboardEvent} event */
    function listen(event) {
      if (event.key === "Escape" && !event.defaultPrevented && !composes(event) && !isModal()) {
        event.preventDefault();
        onEscape();
      }
    }
    addEventListener("keydown", listen);
    return () => removeEventListener("keydown", listen);
  }, [active, onEscape]);
}

/**
 * Whether a key belongs to an input method that is composing (Safari tells by the code 229 only).
 * @param {{isComposing: boolean, keyCode: number}} event
 */
export function composes(event) {
  return event.isComposing || event.keyCode === 229;
}

/** Whether a dialog has the keyboard. */
export function isModal() {
  return document.querySelector("dialog:modal") !== null;
}
