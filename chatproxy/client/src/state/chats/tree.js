/**
 * The messages of a conversation are a tree: each names the one before it, its parent. Messages with
 * the same parent are *versions*: a prompt and what it was changed to, answers to the same prompt.
 * What is shown, and what the model is told, is a *path* from the first prompt down. Pure.
 *
 * - Messages are only ever added, and no message changes its parent. So two tabs that have added to
 *   the same conversation have not contradicted each other: both are in the union.
 * - Of the versions the newest is on the path, unless an older one is in `chosen`.
 * - `messages` has the oldest first. The order matters between versions only.
 */

/**
 * @typedef {import("./model.js").Conversation} Conversation
 * @typedef {import("./model.js").Message} Message
 * @typedef {{at: number, ids: string[]}} Versions `at`: which of them is shown, counted from 0
 */

/** @type {Message[]} */
const NOTHING = [];

/** @type {WeakMap<Conversation, Message[]>} */
const paths = new WeakMap();

/**
 * The messages that are shown.
 * @param {Conversation} [conversation]
 * @returns {Message[]} the same array for the same conversation
 */
export function pathOf(conversation) {
  if (!conversation) {
    return NOTHING;
  }
  const path = paths.get(conversation) ?? walk(conversation);
  paths.set(conversation, path);
  return path;
}

/** @param {Conversation} conversation */
function walk({ messages, chosen }) {
  const preferred = new Set(chosen);
  /** @type {Map<string | null, Message>} */
  const next = new Map();
  for (const message of messages) {
    const other = next.get(message.parentId);
    if (!other || !preferred.has(other.id)) {
      next.set(message.parentId, message);
    }
  }
  const path = [];
  for (let at = next.get(null); at && path.length < messages.length; at = next.get(at.id)) {
    path.push(at);
  }
  return path;
}

/**
 * A message and all that are before it.
 * @param {Conversation | undefined} conversation
 * @param {string | null} id null: none
 * @returns {Message[]} the first prompt first
 */
export function pathTo(conversation, id) {
  const byId = new Map(conversation?.messages.map((message) => [message.id, message]));
  const path = [];
  for (let at = byId.get(id ?? ""); at && path.length < byId.size; at = byId.get(at.parentId ?? "")) {
    path.push(at);
  }
  return path.reverse();
}

/**
 * @param {Conversation | undefined} conversation
 * @param {string} id
 */
export function messageIn(conversation, id) {
  return conversation?.messages.find((message) => message.id === id);
}

/**
 * The versions of each shown message that has more than one. An answer with nothing in it counts
 * only while it is shown, or runs: nobody wants it back.
 * @param {Conversation | undefined} conversation
 * @returns {Map<string, Versions>} by the id of the shown message
 */
export function versionsIn(conversation) {
  const shown = new Set(pathOf(conversation).map(({ id }) => id));
  /** @type {Map<string | null, Message[]>} */
  const families = new Map();
  for (const message of conversation?.messages ?? []) {
    if (shown.has(message.id) || !isEmpty(message)) {
      families.set(message.parentId, [...(families.get(message.parentId) ?? []), message]);
    }
  }
  const versions = new Map();
  for (const family of families.values()) {
    const at = family.findIndex(({ id }) => shown.has(id));
    const message = family[at];
    if (message && family.length > 1) {
      versions.set(message.id, { at, ids: family.map(({ id }) => id) });
    }
  }
  return versions;
}

/** @param {Message} message */
function isEmpty(message) {
  return (
    message.role === "assistant" &&
    message.state !== "running" &&
    message.text === "" &&
    message.reasoning === ""
  );
}

/**
 * Add messages, which are shown.
 * @param {Conversation} conversation
 * @param {Message[]} added each after its parent
 * @returns {Conversation}
 */
export function withAdded(conversation, ...added) {
  const parents = new Set(added.map(({ parentId }) => parentId));
  const beside = conversation.messages.filter(({ parentId }) => parents.has(parentId));
  return {
    ...conversation,
    messages: [...conversation.messages, ...added],
    chosen: without(conversation.chosen, beside),
  };
}

/**
 * Show a message: at each fork on the way to it, its side is chosen.
 * @param {Conversation} conversation
 * @param {string} id
 * @returns {Conversation}
 */
export function withShown(conversation, id) {
  const way = pathTo(conversation, id);
  const parents = new Set(way.map(({ parentId }) => parentId));
  const forks = conversation.messages.filter(({ parentId }) => parents.has(parentId));
  const newest = new Map(forks.map((message) => [message.parentId, message]));
  const chosen = way.filter((message) => newest.get(message.parentId) !== message);
  return {
    ...conversation,
    chosen: [...without(conversation.chosen, forks), ...chosen.map(({ id }) => id)],
  };
}

/**
 * @param {string[]} chosen
 * @param {Message[]} messages
 */
function without(chosen, messages) {
  const ids = new Set(messages.map(({ id }) => id));
  return chosen.filter((id) => !ids.has(id));
}

/**
 * Messages in their order, for those that come one by one: a prompt before its answer, which may have
 * been sent in the same millisecond.
 * @param {Message[]} messages
 * @returns {Message[]}
 */
export function inOrder(messages) {
  return messages.toSorted(
    (a, b) =>
      bornAt(a) - bornAt(b) ||
      Number(a.role === "assistant") - Number(b.role === "assistant") ||
      (a.id < b.id ? -1 : 1),
  );
}

/**
 * All messages of a conversation, each within reach: one without its parent, which only a damaged
 * storage or file has, becomes a version of the first prompt.
 * @param {Message[]} messages
 * @returns {Message[]}
 */
export function rooted(messages) {
  const ids = new Set(messages.map(({ id }) => id));
  return messages.map((message) =>
    message.parentId === null || ids.has(message.parentId)
      ? message
      : { ...message, parentId: null },
  );
}

/** @param {Message} message */
export function bornAt(message) {
  return message.role === "user" ? message.at : message.startedAt;
}

/**
 * A conversation of an earlier version of this page, whose messages were a list.
 * @param {any[]} messages
 * @param {number} updatedAt
 * @returns {any[]} as a tree of one path
 */
export function asTree(messages, updatedAt) {
  return messages.map((message, at) => ({
    parentId: messages[at - 1]?.id ?? null,
    ...(message.role === "user" && { at: messages[at + 1]?.startedAt ?? updatedAt }),
    ...message,
  }));
}
