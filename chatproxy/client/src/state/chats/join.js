/**
 * Two copies of one conversation, joined. Devices and tabs write without waiting for each other, and
 * join what they find: whatever the order, and however often, all come to the same. Pure.
 *
 * A copy is made of values, and each value has a rank. The join has of each the one with the greater
 * rank; of two with the same, the one whose JSON is greater, so that nobody prefers their own. So the
 * join is associative, commutative and idempotent.
 *
 * - No message is taken away, and none changes its parent: the join has the messages of both.
 * - What the user said of a conversation (its name, its pin, its settings, …) is a value each, ranked
 *   by when it was said: a name outlives that another device pins the conversation.
 * - Of an answer, what has come of it is one value, ranked by how much that is; how it ended is
 *   another, ranked by how sure that is; what became of its Stop, and what it cost, are two more.
 */

import { inOrder } from "./tree.js";

/**
 * @typedef {import("./model.js").Conversation} Conversation
 * @typedef {import("./model.js").Message} Message
 * @typedef {import("./model.js").Answer} Answer
 * @typedef {Omit<Conversation, "messages">} Outside what a conversation is beside its messages
 * @typedef {"title" | "pinned" | "deletedAt" | "settings" | "model" | "chosen"} Said
 *
 * @typedef {object} Value
 * @property {number[]} rank
 * @property {Record<string, unknown>} fields
 */

/** @type {Said[]} */
export const SAID = ["title", "pinned", "deletedAt", "settings", "model", "chosen"];

/**
 * Whether nobody can know more about how this answer ended.
 * @param {Answer} answer
 */
export function atRest({ state, reason }) {
  return (
    state === "finished" || state === "failed" || (state === "stopped" && reason !== "reload")
  );
}

/**
 * A conversation of which the user says something now: that is later than all that was said of it, also
 * if that was on a device whose clock is ahead.
 * @template {Outside} T
 * @param {T} conversation
 * @param {Partial<Outside>} change
 * @param {number} now
 * @returns {T}
 */
export function withSaid(conversation, change, now) {
  const before = timesOf(conversation);
  const at = Math.max(now, 1 + Math.max(...Object.values(before)));
  const said = SAID.filter((name) => Object.hasOwn(change, name)).map((name) => [name, at]);
  const saidAt = { ...before, ...Object.fromEntries(said) };
  return { ...conversation, ...change, shelvedAt: at, saidAt };
}

/**
 * @param {Conversation} one
 * @param {Conversation} other
 * @returns {Conversation}
 */
export function join(one, other) {
  const messages = new Map(one.messages.map((message) => [message.id, message]));
  for (const message of other.messages) {
    const there = messages.get(message.id);
    messages.set(message.id, there ? joinMessage(there, message) : message);
  }
  return { ...joinOutside(one, other), messages: inOrder([...messages.values()]) };
}

/**
 * @template {Outside} T
 * @param {T} mine
 * @param {Outside} theirs
 * @returns {T} `mine` itself if theirs adds nothing
 */
export function joinOutside(mine, theirs) {
  const values = valuesOf(mine);
  const others = valuesOf(theirs);
  const best = values.map((value, at) => greater(value, others[at] ?? value));
  const taken = best.filter((value) => !values.includes(value));
  const updatedAt = Math.max(mine.updatedAt, theirs.updatedAt);
  const saidAt = laterOf(timesOf(mine), timesOf(theirs));
  const shelvedAt = Math.max(mine.shelvedAt ?? 0, theirs.shelvedAt ?? 0);
  const isLater = updatedAt > mine.updatedAt || shelvedAt > (mine.shelvedAt ?? 0);
  if (taken.length === 0 && !isLater && isSame(saidAt, timesOf(mine))) {
    return mine;
  }
  return {
    ...mine,
    ...Object.assign({}, ...taken.map(({ fields }) => fields)),
    updatedAt,
    ...(shelvedAt > 0 && { shelvedAt, saidAt }),
  };
}

/**
 * @param {Message} one
 * @param {Message} other the same message
 * @returns {Message}
 */
export function joinMessage(one, other) {
  if (one.role !== "assistant" || other.role !== "assistant") {
    return writtenOf(one) >= writtenOf(other) ? one : other;
  }
  const others = partsOf(other);
  const parts = partsOf(one).map((part, at) => greater(part, others[at] ?? part).fields);
  return Object.assign({}, ...parts);
}

/**
 * A conversation as it is compared with others, and sent: with the time of each thing that was said.
 * An earlier version of the page had one for all of them.
 * @template {Outside} T
 * @param {T} conversation
 * @returns {T}
 */
export function withTimes(conversation) {
  return { ...conversation, saidAt: timesOf(conversation) };
}

/**
 * Whether two things are the same when they are written as JSON.
 * @param {unknown} one
 * @param {unknown} other
 */
export function isSame(one, other) {
  return one === other || writtenOf(one) === writtenOf(other);
}

/**
 * What the user said of a conversation.
 * @param {Outside} outside
 * @returns {Value[]}
 */
function valuesOf({ title, named, pinned, deletedAt, settings, model, chosen, ...outside }) {
  const { updatedAt } = outside;
  const at = timesOf({ title, chosen, ...(named && { named }), ...outside });
  return [
    { rank: named ? [1, at.title] : [0, updatedAt], fields: { title, ...(named && { named }) } },
    { rank: [at.pinned], fields: { pinned } },
    { rank: [at.deletedAt], fields: { deletedAt } },
    { rank: [at.settings], fields: { settings } },
    { rank: [at.model], fields: { model } },
    // A question shows the newest version of what it is asked about.
    { rank: [Math.max(at.chosen, updatedAt)], fields: { chosen } },
  ];
}

/**
 * When each of it was said.
 * @param {Outside} outside
 * @returns {Record<Said, number>}
 */
function timesOf({ saidAt, shelvedAt = 0, named }) {
  const times = SAID.map((name) => [name, saidAt ? (saidAt[name] ?? 0) : shelvedAt]);
  return { ...Object.fromEntries(times), ...(!named && { title: 0 }) };
}

/**
 * @param {Record<Said, number>} one
 * @param {Record<Said, number>} other
 * @returns {Record<Said, number>}
 */
function laterOf(one, other) {
  const later = SAID.map((name) => [name, Math.max(one[name], other[name])]);
  return /** @type {Record<Said, number>} */ (Object.fromEntries(later));
}

/**
 * @param {Answer} answer
 * @returns {Value[]}
 */
function partsOf(answer) {
  const { text, reasoning, lastEvent, steps, account, stop, receipt, stopRefusal, ...end } = answer;
  const come = { text, reasoning, lastEvent, steps };
  const sure = answer.state === "running" ? 0 : 1;
  const known = stop === "unconfirmed" ? 1 : 2;
  return [
    { rank: [lastEvent, text.length, reasoning.length], fields: come },
    { rank: [atRest(answer) ? 2 : sure], fields: end },
    { rank: [stop ? known : 0], fields: { stop, receipt, stopRefusal } },
    { rank: [account ? 1 : 0], fields: { account } },
  ];
}

/**
 * @param {Value} mine
 * @param {Value} theirs
 * @returns {Value} mine if they are the same
 */
function greater(mine, theirs) {
  const at = mine.rank.findIndex((rank, at) => rank !== theirs.rank[at]);
  if (at >= 0) {
    return (mine.rank[at] ?? 0) > (theirs.rank[at] ?? 0) ? mine : theirs;
  }
  return writtenOf(mine.fields) >= writtenOf(theirs.fields) ? mine : theirs;
}

/**
 * As JSON, in which the order of fields does not matter.
 * @param {unknown} value
 * @returns {string}
 */
function writtenOf(value) {
  return JSON.stringify(value, (_, part) =>
    part && typeof part === "object" && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
