import { useCallback, useEffect, useState } from "react";
import { flushSync } from "react-dom";

import { useEscape } from "./use-escape.js";

/** From this width on, the list is beside the page, and is no drawer. */
const WIDE = "(min-width: 52.01rem)";

/**
 * A part of the page that lies over the rest while it is open. Escape closes it, and the focus goes
 * back to the button that opened it.
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

  useEscape(open, hide);

  useEffect(() => {
    const wide = matchMedia(WIDE);
    const close = () => setOpen(false);
    wide.addEventListener("change", close);
    return () => wide.removeEventListener("change", close);
  }, []);

  return { open, show, hide };
}
