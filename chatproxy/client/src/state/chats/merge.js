/**
 * Two versions of one conversation: the one that this tab shows, and the one that is kept in the
 * browser, where another tab may have written it. Pure.
 *
 * - No message is ever taken away: what one of both has, the other gets. A prompt never changes.
 * - Which versions are shown (`chosen`) is up to whoever has asked last, or else to each tab.
 * - Of title, pin and deletion the later word counts; `join.js` has the rules.
 * - An answer that has *come to rest* (the server said how it ended, or the user stopped it) is
 *   always worth more than one that runs, or that somebody could not read to its end.
 * - Of two that have not, the one with more events is worth more.
 * - What runs here changes only by what is read here: otherwise a piece could come twice.
 * - What is known about a Stop is worth more than that nobody knows yet.
 * - The text of an answer never gets shorter. Two tabs have read the same answer, one of them maybe
 *   further than the other: one that has come to rest has the longer text of both.
 */

import { atRest, isSame, joinOutside, SAID } from "./join.js";
import { bornAt, inOrder } from "./tree.js";

/**
 * @typedef {import("./model.js").Conversation} Conversation
 * @typedef {import("./model.js").Answer} Answer
 * @typedef {import("./model.js").Message} Message
 */

/**
 * What to show, now that another version is known.
 * @param {Conversation | undefined} mine
 * @param {Conversation} theirs it need not have all messages
 * @returns {Conversation} `mine` itself if nothing changes; shut if its messages are to be read first
 */
export function adopt(mine, theirs) {
  if (!mine || mine.shut) {
    const outside = mine ? joinOutside(mine, theirs) : theirs;
    const needed = mine?.needed || theirs.messages.some(runs);
    return { ...outside, messages: [], shut: true, needed };
  }
  const known = new Map(mine.messages.map((message) => [message.id, message]));
  const others = new Map(theirs.messages.map((message) => [message.id, message]));
  const news = theirs.messages.filter(({ id }) => !known.has(id));
  const messages = mine.messages.map((message) => adoptMessage(message, others.get(message.id)));
  const changed = messages.some((message, at) => message !== mine.messages[at]);
  const chosen = askedAt(news) > askedAt(mine.messages) ? theirs.chosen : mine.chosen;
  const outside = { ...joinOutside(mine, theirs), chosen };
  if (news.length > 0) {
    return { ...outside, messages: inOrder([...messages, ...news]) };
  }
  const moved = SAID.some((name) => !isSame(outside[name], mine[name]));
  return changed || moved ? { ...outside, messages: changed ? messages : mine.messages } : mine;
}

/** @param {Message} message */
const runs = (message) => message.role === "assistant" && message.state === "running";

/**
 * @param {Message} own
 * @param {Message | undefined} other
 * @returns {Message} `own` itself if nothing changes
 */
function adoptMessage(own, other) {
  if (own.role !== "assistant" || other?.role !== "assistant") {
    return own;
  }
  return atRest(other) && !atRest(own) ? withLonger(other, own) : withStop(own, other);
}

/**
 * What to keep of a message that is kept already.
 * @param {Message} own
 * @param {Message} kept the same message
 * @returns {Message} `kept` itself if there is nothing to add
 */
export function addMessage(own, kept) {
  if (own.role !== "assistant" || kept.role !== "assistant") {
    return kept;
  }
  return isFurther(own, kept) ? withLonger(own, kept) : withStop(withLonger(kept, own), own);
}

/**
 * Two versions that nobody shows yet.
 * @param {Conversation} own
 * @param {Conversation} kept
 * @returns {Conversation}
 */
export function unite(own, kept) {
  const there = new Map(kept.messages.map((message) => [message.id, message]));
  for (const message of own.messages) {
    const old = there.get(message.id);
    there.set(message.id, old ? addMessage(message, old) : message);
  }
  return { ...joinOutside(kept, own), messages: inOrder([...there.values()]) };
}

/**
 * When the last of these messages was sent.
 * @param {Message[]} messages
 */
function askedAt(messages) {
  return messages.reduce((latest, message) => Math.max(latest, bornAt(message)), 0);
}

/**
 * @param {Answer} one
 * @param {Answer} other
 */
function isFurther(one, other) {
  if (atRest(one) || atRest(other)) {
    return !atRest(other);
  }
  const more = one.lastEvent - other.lastEvent;
  return more > 0 || (more === 0 && one.state !== "running" && other.state === "running");
}

/**
 * @param {Answer} answer
 * @param {Answer} other the same answer, as another tab has read it
 * @returns {Answer} `answer` itself if it runs, or has all that the other has
 */
function withLonger(answer, other) {
  const more =
    other.text.length > answer.text.length || other.reasoning.length > answer.reasoning.length;
  if (!more || !atRest(answer)) {
    return answer;
  }
  return {
    ...answer,
    text: longer(answer.text, other.text),
    reasoning: longer(answer.reasoning, other.reasoning),
    lastEvent: Math.max(answer.lastEvent, other.lastEvent),
    ...(other.steps && other.lastEvent > answer.lastEvent && { steps: other.steps }),
  };
}

/**
 * @param {Answer} answer
 * @param {Answer} other the same answer
 * @returns {Answer} `answer` itself if the other knows no more about its Stop
 */
function withStop(answer, { stop = "unconfirmed", receipt, account, steps }) {
  const more = answer.stop === "unconfirmed" && stop !== "unconfirmed";
  const known = { ...(receipt && { receipt }), ...(account && { account }), ...(steps && { steps }) };
  return more ? { ...answer, stop, ...known } : answer;
}

/**
 * @param {string} one
 * @param {string} other
 */
function longer(one, other) {
  return other.length > one.length ? other : one;
}
