import { useCallback } from "react";

import { useAddress } from "./use-address.js";
import { useNotifications } from "./use-notifications.js";
import { useTabTitle } from "./use-tab-title.js";

/**
 * What the browser shows of the conversation outside of the page: its address, the title of its tab,
 * and a notification when an answer has ended out of sight.
 * @param {ReturnType<typeof import("../asking/use-chat.js").useChat>} chat
 * @param {Storage | null} storage
 */
export function usePlace({ state, dispatch }, storage) {
  const open = useCallback(
    (/** @type {string | null} */ id) => dispatch({ type: "chatOpened", id }),
    [dispatch],
  );
  useAddress(state.currentId, open);
  useTabTitle(state);
  return useNotifications(storage, state.conversations, open);
}
