import { useEffect, useLayoutEffect } from "react";

import { addressOf, conversationIn } from "./address.js";

/**
 * Keeps the page's address that of its conversation, so that a reload, Back and a link lead to it.
 * @param {string | null} currentId
 * @param {(id: string | null) => void} open
 */
export function useAddress(currentId, open) {
  useLayoutEffect(() => {
    // A new conversation that has become one, and a page without an address, need no way back.
    const before = conversationIn(location) ?? null;
    if (before !== currentId) {
      history[before === null ? "replaceState" : "pushState"](null, "", addressOf(currentId));
    }
  }, [currentId]);

  useEffect(() => {
    const listen = () => open(conversationIn(location) ?? null);
    addEventListener("hashchange", listen);
    return () => removeEventListener("hashchange", listen);
  }, [open]);
}
