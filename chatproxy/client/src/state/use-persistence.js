import { useEffect, useLayoutEffect, useRef } from "react";

import { createKeeper } from "./keeper.js";
import { listenToOtherTabs } from "./store.js";
import { useLatest } from "./use-latest.js";

/** @typedef {import("./model.js").Conversation} Conversation */

/**
 * Keep the conversations in the browser, also when the page is left or out of sight, and hear of
 * what other tabs keep there.
 * @param {Storage | null} storage
 * @param {Conversation[]} conversations
 * @param {(conversation: Conversation) => void} onKept
 * @param {(id: string) => void} onDeleted
 */
export function usePersistence(storage, conversations, onKept, onDeleted) {
  const latest = useLatest({ onKept, onDeleted });
  const keeper = useRef(/** @type {ReturnType<typeof createKeeper> | null} */ (null));

  // Before it is shown, so that a reload never shows less.
  useLayoutEffect(() => {
    keeper.current ??= createKeeper(storage, conversations, (kept) => latest.current.onKept(kept));
    keeper.current.keep(conversations);
  }, [storage, conversations, latest]);

  useEffect(() => {
    const save = () => keeper.current?.save();
    addEventListener("pagehide", save);
    document.addEventListener("visibilitychange", save);
    return () => {
      removeEventListener("pagehide", save);
      document.removeEventListener("visibilitychange", save);
    };
  }, []);

  useEffect(
    () =>
      listenToOtherTabs(
        (conversation) => latest.current.onKept(conversation),
        (id) => latest.current.onDeleted(id),
      ),
    [latest],
  );
}
