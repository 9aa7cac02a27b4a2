/**
 * Conversations in the browser's storage: one key each, so that two tabs don't overwrite each
 * other's. A full storage never breaks the page: the oldest conversations make room, and where that
 * is not enough, the conversation is only not kept.
 */

import { MOST_CONVERSATIONS } from "./model.js";

/**
 * @typedef {import("./model.js").Conversation} Conversation
 * @typedef {import("./model.js").Message} Message
 */

const PREFIX = "chatproxy.chat.";
/** Browsers hold about 5 million characters for a page: no conversation may take all of it. */
const MOST_CHARACTERS = 2_000_000;
const MOST_OF_A_TEXT = 200_000;

/**
 * @param {Storage | null} storage null where the browser forbids it
 * @returns {Conversation[]} the newest first
 */
export function loadConversations(storage) {
  return keysOf(storage)
    .map((key) => parse(storage?.getItem(key) ?? ""))
    .filter((conversation) => conversation !== null)
    .sort((a, b) => b.updatedAt - a.updatedAt)
    .slice(0, MOST_CONVERSATIONS);
}

/**
 * @param {Storage | null} storage
 * @param {Conversation} conversation
 * @returns {boolean} whether it is kept
 */
export function saveConversation(storage, conversation) {
  const text = serialise(conversation);
  for (;;) {
    try {
      storage?.setItem(PREFIX + conversation.id, text);
      return storage !== null;
    } catch {
      if (!dropOldest(storage, conversation.id)) {
        return false;
      }
    }
  }
}

/** @param {Conversation} conversation */
function serialise(conversation) {
  const text = JSON.stringify(conversation);
  return text.length <= MOST_CHARACTERS
    ? text
    : JSON.stringify(conversation, (_key, value) =>
        typeof value === "string" ? value.slice(0, MOST_OF_A_TEXT) : value,
      );
}

/**
 * @param {Storage | null} storage
 * @param {string} id
 */
export function removeConversation(storage, id) {
  storage?.removeItem(PREFIX + id);
}

/**
 * @param {Storage | null} storage
 * @param {string} exceptId
 * @returns {boolean} whether there was one
 */
function dropOldest(storage, exceptId) {
  const oldest = loadConversations(storage).findLast(({ id }) => id !== exceptId);
  if (oldest) {
    removeConversation(storage, oldest.id);
  }
  return oldest !== undefined;
}

/**
 * @param {Storage | null} storage
 * @returns {string[]}
 */
function keysOf(storage) {
  const count = storage?.length ?? 0;
  const keys = Array.from({ length: count }, (_, index) => storage?.key(index) ?? "");
  return keys.filter((key) => key.startsWith(PREFIX));
}

/**
 * @param {string} text
 * @returns {Conversation | null} null for what is damaged, or from another version
 */
function parse(text) {
  try {
    const { id, title, updatedAt, messages } = JSON.parse(text);
    const sound =
      typeof id === "string" &&
      typeof title === "string" &&
      typeof updatedAt === "number" &&
      Array.isArray(messages) &&
      messages.every(isMessage);
    return sound ? { id, title, updatedAt, messages: messages.map(settle) } : null;
  } catch {
    return null;
  }
}

/** @param {any} message */
function isMessage(message) {
  const known = message?.role === "user" || message?.role === "assistant";
  return known && typeof message.text === "string" && typeof message.id === "string";
}

/**
 * An answer that ran when it was saved has lost its stream with the page.
 * @param {any} message
 * @returns {Message}
 */
function settle(message) {
  if (message.role === "user") {
    return message;
  }
  const whole = { reasoning: "", model: "", startedAt: 0, status: "waiting", ...message };
  return whole.state === "running" || whole.state === undefined
    ? { ...whole, state: "stopped", reason: "reload" }
    : whole;
}
