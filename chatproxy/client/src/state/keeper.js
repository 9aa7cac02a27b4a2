/**
 * Keeps conversations in the browser: what changed is saved once a second at the most. What another
 * tab has kept meanwhile is never overwritten with less.
 */

import { add } from "./merge.js";
import { keptText, parseConversation, removeConversation, saveConversation } from "./store.js";

/** @typedef {import("./model.js").Conversation} Conversation */

const PAUSE_MS = 1000;

/**
 * @param {Storage | null} storage
 * @param {Conversation[]} loaded what is there already
 * @param {(conversation: Conversation) => void} onFound what another tab has kept
 */
export function createKeeper(storage, loaded, onFound) {
  let saved = new Map(loaded.map((conversation) => [conversation.id, conversation]));
  /** @type {Map<string, string | null>} */
  const written = new Map();
  let wanted = loaded;
  let savedAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  function save() {
    clearTimeout(timer);
    timer = undefined;
    const next = new Map(wanted.map((conversation) => [conversation.id, conversation]));
    const before = saved;
    saved = next;
    savedAt = Date.now();
    for (const id of before.keys()) {
      if (!next.has(id)) {
        removeConversation(storage, id);
        written.delete(id);
      }
    }
    for (const [id, conversation] of next) {
      if (before.get(id) !== conversation) {
        saveOne(conversation);
      }
    }
  }

  /** @param {Conversation} conversation */
  function saveOne(conversation) {
    const { id } = conversation;
    const there = keptText(storage, id);
    const kept = there === null || there === written.get(id) ? null : parseConversation(there);
    const best = kept ? add(conversation, kept) : conversation;
    if (best !== kept) {
      written.set(id, saveConversation(storage, best));
    }
    if (kept) {
      onFound(kept);
    }
  }

  /** @param {Conversation[]} conversations */
  function keep(conversations) {
    wanted = conversations;
    timer ??= setTimeout(save, Math.max(0, savedAt + PAUSE_MS - Date.now()));
  }

  return { keep, save };
}
