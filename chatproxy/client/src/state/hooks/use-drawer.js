import { useCallback, useEffect, useRef, useState } from "react";
import { flushSync } from "react-dom";

import { useEscape } from "./use-escape.js";

/** From this width on, the list is beside the page, and is no drawer. */
const WIDE = "(min-width: 52.01rem)";

/**
 * The list of chats. On a small screen it lies over the rest of the page while it is open. Escape
 * closes it, and the focus goes back to the button that opened it.
 * @param {import("react").RefObject<HTMLElement | null>} opener
 */
export function useDrawer(opener) {
  const [open, setOpen] = useState(false);

  const show = useCallback(() => setOpen(true), []);

  const hide = useCallback(() => {
    // At once, because the rest of the page can't take the focus before.
    flushSync(() => setOpen(false));
    opener.current?.focus();
  }, [opener]);

  const searchBox = useRef(/** @type {HTMLInputElement | null} */ (null));
  const search = useCallback(() => {
    if (searchBox.current?.checkVisibility({ visibilityProperty: true }) === false) {
      flushSync(() => setOpen(true));
    }
    searchBox.current?.focus();
  }, []);

  useEscape(open, hide);

  useEffect(() => {
    const wide = matchMedia(WIDE);
    const close = () => setOpen(false);
    wide.addEventListener("change", close);
    return () => wide.removeEventListener("change", close);
  }, []);

  return { open, show, hide, searchBox, search };
}
