/**
 * The journal: conversations in the browser's `localStorage` that are not in the library yet.
 *
 * Nothing can be written into IndexedDB in the moment in which a page is left, and localStorage can.
 * So what is not in the library then is written here, text and number of a running answer together,
 * and goes into the library when the page is opened again: a reload never shows less. An earlier
 * version of this page kept all conversations here, one under each key; they go the same way.
 */

import { keysWith } from "../../lib/browser-storage.js";
import { createSessionId } from "../../lib/llm-api.jsx";
import { unite } from "../chats/merge.js";
import { asConversation } from "../chats/record.js";

/**
 * @typedef {import("../chats/model.js").Conversation} Conversation
 * @typedef {{key: string, id: string, text: string}} Entry of the conversation with that id
 */

const PREFIX = "chatproxy.chat.";

/**
 * What the tabs have left; what is damaged stays where it is.
 * @param {Storage | null} storage null if the browser forbids it
 * @returns {{conversations: Conversation[], entries: Entry[]}} each conversation once
 */
export function readJournal(storage) {
  /** @type {Map<string, Conversation>} */
  const conversations = new Map();
  const entries = [];
  for (const key of keysWith(storage, PREFIX)) {
    const text = storage?.getItem(key) ?? "";
    const conversation = parse(text);
    if (conversation) {
      const other = conversations.get(conversation.id);
      conversations.set(conversation.id, other ? unite(conversation, other) : conversation);
      entries.push({ key, id: conversation.id, text });
    }
  }
  return { conversations: [...conversations.values()], entries };
}

/**
 * The part of the journal that one tab has read, and writes. What another tab has written since, under
 * the same key, is that tab's.
 * @param {Storage | null} storage
 * @param {Entry[]} entries what it has read; all of it is in what the tab writes
 */
export function createJournal(storage, entries = []) {
  const tabId = createSessionId();

  /**
   * @param {Entry[]} some
   * @returns {Entry[]} those that were there
   */
  function remove(some) {
    const there = some.filter(({ key, text }) => storage?.getItem(key) === text);
    there.forEach(({ key }) => storage?.removeItem(key));
    return there;
  }

  /** @param {Entry[]} some which there may be no room for */
  function put(some) {
    some.forEach(({ key, text }) => storage?.setItem(key, text));
    entries.push(...some);
  }

  return {
    clear() {
      remove(entries);
      entries = [];
    },
    /** @param {Conversation[]} conversations with the messages that the library does not have */
    write(conversations) {
      const before = entries;
      const ids = new Set(conversations.map(({ id }) => id));
      entries = [];
      remove(before.filter(({ id }) => !ids.has(id)));
      for (const conversation of conversations) {
        const { id } = conversation;
        const old = remove(before.filter((entry) => entry.id === id));
        try {
          put([{ key: `${PREFIX}${id}.${tabId}`, id, text: JSON.stringify(conversation) }]);
        } catch {
          // No room: as a rule the library has it a moment later, also when the page has gone.
          put(old); // less of it is more than nothing
        }
      }
    },
  };
}

/** @param {string} text */
function parse(text) {
  try {
    return asConversation(JSON.parse(text));
  } catch {
    return null;
  }
}
