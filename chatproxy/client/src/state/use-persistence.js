import { useEffect, useRef } from "react";

import { removeConversation, saveConversation } from "./store.js";

/** @typedef {import("./model.js").Conversation} Conversation */

const PAUSE_MS = 1000;

/**
 * Keep the conversations in the browser: what changed is saved once a second at the most, and when
 * the page is left.
 * @param {Storage | null} storage
 * @param {Conversation[]} conversations
 */
export function usePersistence(storage, conversations) {
  const keeper = useRef(/** @type {ReturnType<typeof createKeeper> | null} */ (null));

  useEffect(() => {
    keeper.current ??= createKeeper(storage, conversations);
    keeper.current.keep(conversations);
  }, [storage, conversations]);

  useEffect(() => {
    const save = () => keeper.current?.save();
    addEventListener("pagehide", save);
    return () => removeEventListener("pagehide", save);
  }, []);
}

/**
 * @param {Storage | null} storage
 * @param {Conversation[]} loaded what is there already
 */
function createKeeper(storage, loaded) {
  let saved = new Map(loaded.map((conversation) => [conversation.id, conversation]));
  let wanted = loaded;
  let savedAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  function save() {
    clearTimeout(timer);
    timer = undefined;
    const next = new Map(wanted.map((conversation) => [conversation.id, conversation]));
    for (const id of saved.keys()) {
      if (!next.has(id)) {
        removeConversation(storage, id);
      }
    }
    for (const [id, conversation] of next) {
      if (saved.get(id) !== conversation) {
        saveConversation(storage, conversation);
      }
    }
    saved = next;
    savedAt = Date.now();
  }

  /** @param {Conversation[]} conversations */
  function keep(conversations) {
    wanted = conversations;
    timer ??= setTimeout(save, Math.max(0, savedAt + PAUSE_MS - Date.now()));
  }

  return { keep, save };
}
