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

/** @typedef {import("../chats/model.js").Conversation} Conversation */

const PREFIX = "chatproxy.chat.";

/**
 * What the tabs have left; what is damaged stays where it is.
 * @param {Storage | null} storage null if the browser forbids it
 * @returns {{conversations: Conversation[], keys: string[]}} each conversation once
 */
export function readJournal(storage) {
  /** @type {Map<string, Conversation>} */
  const conversations = new Map();
  const keys = [];
  for (const key of keysWith(storage, PREFIX)) {
    const conversation = parse(storage?.getItem(key) ?? "");
    if (conversation) {
      const other = conversations.get(conversation.id);
      conversations.set(conversation.id, other ? unite(conversation, other) : conversation);
      keys.push(key);
    }
  }
  return { conversations: [...conversations.values()], keys };
}

/**
 * The part of the journal that one tab has read, and writes.
 * @param {Storage | null} storage
 * @param {string[]} keys what it has read; all of it is in what the tab writes
 */
export function createJournal(storage, keys = []) {
  const tabId = createSessionId();
  const clear = () => {
    keys.forEach((key) => storage?.removeItem(key));
    keys = [];
  };
  return {
    clear,
    /** @param {Conversation[]} conversations with the messages that the library does not have */
    write(conversations) {
      clear();
      for (const conversation of conversations) {
        const key = `${PREFIX}${conversation.id}.${tabId}`;
        try {
          storage?.setItem(key, JSON.stringify(conversation));
          keys.push(key);
        } catch {
          // No room: as a rule the library has it a moment later, also when the page has gone.
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
