/**
 * Conversations in the browser's storage: one key each, so that two tabs don't overwrite each
 * other's; `merge.js` says what is kept where both have the same one. A full storage never breaks
 * the page: the oldest conversations make room, and where that is not enough, the conversation is
 * only not kept.
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
/** What an answer may be doing before anything has come. */
const UNBEGUN = new Set(["queued", "upstream_queued"]);

/**
 * @param {Storage | null} storage null where the browser forbids it
 * @returns {Conversation[]} the newest first
 */
export function loadConversations(storage) {
  return keysOf(storage)
    .map((key) => parseConversation(storage?.getItem(key) ?? ""))
    .filter((conversation) => conversation !== null)
    .sort((a, b) => b.updatedAt - a.updatedAt)
    .slice(0, MOST_CONVERSATIONS);
}

/**
 * @param {Storage | null} storage
 * @param {Conversation} conversation
 * @returns {string | null} what is kept; null where it is not
 */
export function saveConversation(storage, conversation) {
  const text = serialise(conversation);
  for (;;) {
    try {
      storage?.setItem(PREFIX + conversation.id, text);
      return storage && text;
    } catch {
      if (!dropOldest(storage, conversation.id)) {
        return null;
      }
    }
  }
}

/**
 * What is kept of a conversation, as it stands there.
 * @param {Storage | null} storage
 * @param {string} id
 */
export function keptText(storage, id) {
  return storage?.getItem(PREFIX + id) ?? null;
}

/**
 * Call the listeners when another tab keeps a conversation, or deletes one.
 * @param {(conversation: Conversation) => void} onKept
 * @param {(id: string) => void} onDeleted
 * @returns {() => void} ends it
 */
export function listenToOtherTabs(onKept, onDeleted) {
  /** @param {Pick<StorageEvent, "key" | "newValue">} event */
  function listen({ key, newValue }) {
    if (!key?.startsWith(PREFIX)) {
      return;
    }
    const conversation = parseConversation(newValue ?? "");
    if (conversation) {
      onKept(conversation);
    } else if (newValue === null) {
      onDeleted(key.slice(PREFIX.length));
    }
  }
  addEventListener("storage", listen);
  return () => removeEventListener("storage", listen);
}

/** @param {Conversation} conversation */
function serialise(conversation) {
  const text = JSON.stringify(conversation);
  return text.length <= MOST_CHARACTERS
    ? text
    : JSON.stringify({ ...conversation, messages: conversation.messages.map(shortened) });
}

/**
 * A running answer is not cut, because its text and its number must fit: it is read anew.
 * @param {Message} message
 * @returns {Message}
 */
function shortened(message) {
  if (message.role === "user") {
    return { ...message, text: message.text.slice(0, MOST_OF_A_TEXT) };
  }
  if (message.state === "running") {
    return { ...message, text: "", reasoning: "", lastEvent: 0 };
  }
  const [text, reasoning] = [message.text, message.reasoning].map((one) => one.slice(0, MOST_OF_A_TEXT));
  return { ...message, text: text ?? "", reasoning: reasoning ?? "" };
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
export function parseConversation(text) {
  try {
    const { id, title, updatedAt, messages } = JSON.parse(text);
    const sound =
      typeof id === "string" &&
      typeof title === "string" &&
      typeof updatedAt === "number" &&
      Array.isArray(messages) &&
      messages.every(isMessage);
    return sound ? { id, title, updatedAt, messages: messages.map(taken) } : null;
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
 * An answer that ran when it was saved can be taken up where its text ends. Only earlier versions
 * of this page did not keep where that is.
 * @param {any} message
 * @param {number} at
 * @param {any[]} all
 * @returns {Message}
 */
function taken(message, at, all) {
  if (message.role === "user") {
    return message;
  }
  const whole = {
    state: "running", status: "waiting", startedAt: 0, model: "", reasoning: "", ...message,
  };
  if (whole.state !== "running") {
    return { lastEvent: 0, ...whole };
  }
  return Number.isInteger(whole.lastEvent) && at === all.length - 1
    ? { ...whole, status: statusOf(whole) }
    : { lastEvent: 0, ...whole, state: "stopped", reason: "reload" };
}

/**
 * What a running answer was doing, whatever the connection did.
 * @param {import("./model.js").Answer} answer
 * @returns {import("./model.js").AnswerStatus}
 */
function statusOf({ text, reasoning, status }) {
  if (text) {
    return "answering";
  }
  return reasoning ? "thinking" : UNBEGUN.has(status) ? status : "waiting";
}
