/**
 * What comes from outside of this page's own memory, made into a conversation: from the journal, from
 * an earlier version of the page, from a file. Every field is looked at, what is not known is left
 * out, and what is damaged is no conversation. Pure.
 *
 * - Ids are unique, and no message is its own ancestor: so no path is without end.
 * - Nothing here asks a server for anything, unless the page has written it itself.
 */

import { soundAttachments } from "../../lib/attachments.js";
import { accountIn } from "../../lib/llm-api.jsx";
import { soundSettings } from "./chat-settings.js";
import { SAID } from "./join.js";
import { soundSteps } from "./steps.js";
import { asTree, inOrder } from "./tree.js";

/**
 * @typedef {import("./model.js").Conversation} Conversation
 * @typedef {import("./model.js").Message} Message
 * @typedef {import("./model.js").Answer} Answer
 */

/** The ids of the page and of the server. */
const ID = /^[A-Za-z0-9._:-]{1,128}$/;
const STATES = new Set(["running", "finished", "stopped", "failed", "cut_off"]);
const STOPS = new Set(["stopped", "unconfirmed", "nothing-to-stop", "refused"]);
/** @type {Set<string>} */
const NAMES = new Set(SAID);
const MADE = new Set(["continued", "edited"]);
/** As many as a server lists. */
const MOST_LEFT = 100;
/** Nobody has more forks in a conversation. */
const MOST_CHOSEN = 10_000;
/** What an answer may be doing before anything has come. */
/** @type {Set<unknown>} */
const UNBEGUN = new Set(["queued", "upstream_queued"]);

/** @param {unknown} value @returns {value is string} */
const isText = (value) => typeof value === "string";
/** @param {unknown} value @returns {value is number} */
const isNumber = (value) => Number.isFinite(value) && /** @type {number} */ (value) >= 0;
/** A time to which one can be added. @param {unknown} value @returns {value is number} */
const isTime = (value) => Number.isSafeInteger(value) && /** @type {number} */ (value) >= 0;
/** @param {unknown} value @returns {value is boolean} */
const isSwitch = (value) => typeof value === "boolean";
/** @param {Set<unknown>} words */
const isOneOf = (words) => (/** @type {unknown} */ value) => words.has(value);

/** @param {any} value */
function isTimes(value) {
  return Object.entries(value ?? {}).every(([name, at]) => NAMES.has(name) && isTime(at));
}

/** @type {Record<string, (value: unknown) => boolean>} */
const OF_A_CONVERSATION = {
  named: isOneOf(new Set([true])),
  pinned: isSwitch,
  deletedAt: isNumber,
  shelvedAt: isTime,
  model: isText,
  saidAt: isTimes,
};

/** @type {Record<string, (value: unknown) => boolean>} */
const OF_AN_ANSWER = {
  startedAt: isNumber,
  statusSince: isNumber,
  model: isText,
  reasoning: isText,
  lastEvent: isNumber,
  thinkingSince: isNumber,
  thinkingMs: isNumber,
  reason: isText,
  finishReason: isText,
  stopRefusal: isText,
  state: isOneOf(STATES),
  stop: isOneOf(STOPS),
  made: isOneOf(MADE),
};

/** @type {Record<string, (value: unknown) => boolean>} */
const OF_A_RECEIPT = {
  stopMs: isNumber,
  events: isNumber,
  upstreamClosed: isSwitch,
  leftBehind: (value) => Array.isArray(value) && value.length <= MOST_LEFT && value.every(isText),
};

/**
 * @param {any} value what JSON made of it
 * @returns {Conversation | null} null for what is damaged, or something else
 */
export function asConversation(value) {
  const { id, title, updatedAt, messages, chosen, settings } = value ?? {};
  const sound = isId(id) && isText(title) && isNumber(updatedAt) && Array.isArray(messages);
  if (!sound || !messages.every(isMessage)) {
    return null;
  }
  const isList = messages.every(({ parentId }) => parentId === undefined);
  const tree = isList ? asTree(messages, updatedAt) : messages;
  const ids = new Set(tree.map((message) => message.id));
  if (ids.size < tree.length || !isTree(tree)) {
    return null;
  }
  return {
    ...pick(value, OF_A_CONVERSATION),
    id,
    title: title.slice(0, 1000),
    updatedAt: Math.min(Math.round(updatedAt), Number.MAX_SAFE_INTEGER), // as the server takes it
    messages: inOrder(tree.map((message, at) => taken(message, at === tree.length - 1 || !isList))),
    ...(settings && { settings: soundSettings(settings) }),
    chosen: Array.isArray(chosen) ? chosen.filter(isId).slice(0, MOST_CHOSEN) : [],
  };
}

/** @param {unknown} id */
function isId(id) {
  return isText(id) && ID.test(id);
}

/** @param {any} message */
function isMessage(message) {
  const known = message?.role === "user" || message?.role === "assistant";
  return known && isText(message.text) && isId(message.id);
}

/**
 * Whether one gets from each message to a first one, or to one that is not there: the journal has
 * only what is new.
 * @param {any[]} messages
 */
function isTree(messages) {
  const parents = new Map(messages.map(({ id, parentId }) => [id, parentId]));
  /** @type {Set<string>} */
  const ends = new Set();
  for (const { id, parentId } of messages) {
    if (parentId !== null && !isId(parentId)) {
      return false;
    }
    /** @type {Set<string>} */
    const way = new Set();
    for (let at = id; parents.has(at) && !ends.has(at); at = parents.get(at)) {
      if (way.has(at)) {
        return false;
      }
      way.add(at);
    }
    way.forEach((one) => ends.add(one));
  }
  return true;
}

/**
 * An answer that ran when it was saved can be taken up where its text ends. Only the first versions
 * of this page did not keep where that is.
 * @param {any} message
 * @param {boolean} mayRun
 * @returns {Message}
 */
function taken({ role, id, parentId, at, text, ...message }, mayRun) {
  if (role === "user") {
    const attachments = soundAttachments(message.attachments);
    const files = attachments.length > 0 && { attachments };
    return { role, id, parentId, at: isNumber(at) ? at : 0, text, ...files };
  }
  const answer = {
    ...{ startedAt: 0, statusSince: 0, model: "", reasoning: "", state: "running" },
    ...pick(message, OF_AN_ANSWER),
    ...{ role, id, parentId, text, ...endOf(message), ...runOf(message) },
  };
  const whole = /** @type {Answer} */ ({ lastEvent: 0, status: "waiting", ...answer });
  if (whole.state !== "running") {
    return whole;
  }
  return mayRun && Number.isInteger(message.lastEvent)
    ? { ...whole, status: statusOf(whole, message.status) }
    : { ...whole, state: "stopped", reason: "reload" };
}

/**
 * Why an answer ended, and what a Stop has come to.
 * @param {any} message
 * @returns {Partial<Answer>}
 */
function endOf({ error, receipt, ...message }) {
  const account = accountIn(message.account);
  return {
    ...(account && { account }),
    ...(isText(error?.code) &&
      isText(error.message) && { error: { code: error.code, message: error.message } }),
    ...(receipt && {
      receipt: pick(receipt, OF_A_RECEIPT),
    }),
  };
}

/**
 * What a run has done for it.
 * @param {any} message
 * @returns {Partial<Answer>}
 */
function runOf({ steps }) {
  const sound = soundSteps(steps);
  return sound.length > 0 ? { steps: sound } : {};
}

/**
 * The sound fields of an object.
 * @param {any} from
 * @param {Record<string, (value: unknown) => boolean>} fields
 * @returns {Record<string, any>}
 */
function pick(from, fields) {
  const sound = Object.keys(fields).filter(
    (name) => Object.hasOwn(from, name) && fields[name]?.(from[name]),
  );
  return Object.fromEntries(sound.map((name) => [name, from[name]]));
}

/**
 * What a running answer was doing, whatever the connection did.
 * @param {Answer} answer
 * @param {unknown} status
 * @returns {import("./model.js").AnswerStatus}
 */
export function statusOf({ text, reasoning, lastEvent }, status) {
  if (text && lastEvent > 0) {
    return "answering";
  }
  if (reasoning && lastEvent > 0) {
    return "thinking";
  }
  return UNBEGUN.has(status) ? /** @type {"queued"} */ (status) : "waiting";
}
