import { useMemo } from "react";

import { runningAnswers } from "../chats/model.js";
import { useLatest } from "../hooks/use-latest.js";

/**
 * What can be done with a conversation in the list. It keeps its identity, so that items need not be
 * drawn again.
 * @typedef {object} ShelfTools
 * @property {(id: string, title: string) => void} rename
 * @property {(id: string, pinned: boolean) => void} pin
 * @property {(id: string) => void} remove its answers that run are stopped
 * @property {(id: string) => void} restore
 * @property {(ids: string[]) => void} purge for good
 */

/**
 * @param {import("../chats/model.js").ChatState} state
 * @param {import("react").Dispatch<import("../chats/reducer.js").Action>} dispatch
 * @param {(answerId: string) => unknown} stop
 * @param {import("../kept/library.js").Library} library
 * @returns {ShelfTools}
 */
export function useShelf(state, dispatch, stop, library) {
  const latest = useLatest(state);
  return useMemo(
    () => ({
      rename: (id, title) => dispatch({ type: "chatNamed", id, title, now: Date.now() }),
      pin: (id, pinned) => dispatch({ type: "chatPinned", id, pinned, now: Date.now() }),
      remove(id) {
        const conversation = latest.current.conversations.find((one) => one.id === id);
        const running = conversation ? runningAnswers(conversation) : [];
        running.forEach((answer) => stop(answer.id));
        dispatch({ type: "chatDeleted", id, now: Date.now() });
      },
      restore: (id) => dispatch({ type: "chatRestored", id, now: Date.now() }),
      purge(ids) {
        dispatch({ type: "chatsPurged", ids });
        library.purge(ids).catch(() => undefined); // the page says already that its storage fails
      },
    }),
    [latest, dispatch, stop, library],
  );
}
