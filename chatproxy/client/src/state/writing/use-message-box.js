import { useCallback, useEffect, useRef } from "react";

import { isTouched } from "../../lib/touch.js";

/**
 * The box to write in, and its focus. It has it at the start, when another chat is shown, after all
 * that is done elsewhere on the page, and when what had it is gone: a focus never falls back to the
 * beginning of the page. On a touch screen only those get it who are about to write, because a
 * keyboard comes with it.
 * @param {string | null} shown the id of the chat
 * @param {boolean} elsewhere whether something else is asked for first
 */
export function useMessageBox(shown, elsewhere) {
  const box = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const focused = useRef(/** @type {EventTarget | null} */ (null));

  const write = useCallback(() => box.current?.focus(), []);
  const goHome = useCallback(() => {
    if (!isTouched()) {
      write();
    }
  }, [write]);

  useEffect(() => {
    if (!elsewhere) {
      goHome();
    }
  }, [shown, elsewhere, goHome]);

  useEffect(() => {
    /** @param {FocusEvent} event */
    const listen = ({ target }) => {
      focused.current = target;
    };
    addEventListener("focusin", listen);
    return () => removeEventListener("focusin", listen);
  }, []);

  // Not after a click beside everything, which takes the focus from something that is still there.
  useEffect(() => {
    const isGone = focused.current instanceof Node && !focused.current.isConnected;
    if (isGone && document.activeElement === document.body) {
      goHome();
    }
  });

  return { box, write, goHome };
}
