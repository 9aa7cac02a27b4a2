import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

import { useLatest } from "../hooks/use-latest.js";
import { createKeeper } from "./keeper.js";

/**
 * @typedef {import("../chats/model.js").Conversation} Conversation
 * @typedef {import("./library.js").Library} Library
 */

/**
 * Keep the conversations in the browser, also when the page is left or out of sight, and hear of
 * what other tabs keep there.
 * @param {Library} library
 * @param {Conversation[]} conversations
 * @param {import("./tabs.js").TabListeners} listeners
 */
export function usePersistence(library, conversations, listeners) {
  const latest = useLatest(listeners);
  const [trouble, setTrouble] = useState(/** @type {import("./keeper.js").Trouble} */ (null));
  const keeper = useRef(/** @type {ReturnType<typeof createKeeper> | null} */ (null));

  // Before it is shown, so that a reload never shows less.
  useLayoutEffect(() => {
    keeper.current ??= createKeeper({
      library,
      loaded: library.conversations,
      onFound: (kept) => latest.current.onKept(kept),
      onTrouble: setTrouble,
    });
    keeper.current.keep(conversations);
  }, [library, conversations, latest]);

  useEffect(() => {
    const leave = () => keeper.current?.leave();
    addEventListener("pagehide", leave);
    document.addEventListener("visibilitychange", leave);
    return () => {
      removeEventListener("pagehide", leave);
      document.removeEventListener("visibilitychange", leave);
    };
  }, []);

  useEffect(
    () =>
      library.listen({
        onKept(conversation) {
          keeper.current?.mark(conversation);
          latest.current.onKept(conversation);
        },
        onDeleted(id) {
          keeper.current?.forget(id);
          latest.current.onDeleted(id);
        },
      }),
    [library, latest],
  );

  /** The messages of some conversations. */
  const read = useCallback(
    async (/** @type {string[]} */ ids) => {
      const read = await library.read(ids);
      read.forEach((messages) => keeper.current?.markMessages(messages));
      return read;
    },
    [library],
  );

  /** `trouble`: why the last write failed. */
  return { trouble, read };
}
