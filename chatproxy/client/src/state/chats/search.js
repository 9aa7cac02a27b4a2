/**
 * Search over all conversations: their titles first, which are at hand, then the text of prompts and
 * answers, the newest conversations first, so that the first hits are there while the rest is read.
 *
 * - All words have to be in one message, or in the title, in any order.
 * - A search takes little of the page's time at once, and ends when the next one begins.
 */

import { findFolded, folded } from "../../lib/folded-text.js";

/**
 * @typedef {import("./model.js").Conversation} Conversation
 * @typedef {import("./model.js").Message} Message
 *
 * @typedef {object} Hit
 * @property {string} id of the conversation
 * @property {string} title
 * @property {string} [messageId] none: it is the title
 * @property {[string, string, string]} [excerpt] what is before the find, the find, what is after
 */

/** How many conversations are read at once. */
const AT_ONCE = 10;
const MOST_HITS = 60;
const MOST_IN_A_CHAT = 3;
/** Milliseconds after which the page has its turn. */
const TURN_MS = 8;
const BEFORE = 30;
const AFTER = 70;

/**
 * @param {string} query
 * @param {Conversation[]} conversations the newest first
 * @param {(ids: string[]) => Promise<Message[][]>} read
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<Hit[], void>} more hits each time
 */
export async function* search(query, conversations, read, signal) {
  const words = folded(query).split(/\s+/).filter(Boolean);
  if (words.length === 0) {
    return;
  }
  const titled = conversations.filter(({ title }) => hasAll(title, words));
  let count = Math.min(titled.length, MOST_HITS);
  yield titled.slice(0, MOST_HITS).map(({ id, title }) => ({ id, title }));
  for (let from = 0; from < conversations.length && count < MOST_HITS; from += AT_ONCE) {
    const some = conversations.slice(from, from + AT_ONCE);
    const shut = some.filter(({ shut }) => shut).map(({ id }) => id);
    const messages = await read(shut);
    const texts = new Map(shut.map((id, at) => [id, messages[at] ?? []]));
    for await (const hits of hitsIn(some, texts, words)) {
      if (signal.aborted) {
        return;
      }
      count += hits.length;
      yield hits;
    }
  }
}

/**
 * @param {Conversation[]} conversations
 * @param {Map<string, Message[]>} texts of those that are shut
 * @param {string[]} words
 */
async function* hitsIn(conversations, texts, words) {
  let turn = performance.now();
  for (const { id, title, messages } of conversations) {
    /** @type {(Hit & {excerpt: [string, string, string]})[]} */
    const hits = [];
    for (const message of texts.get(id) ?? messages) {
      if (hits.length < MOST_IN_A_CHAT && hasAll(message.text, words)) {
        const excerpt = excerptOf(message.text, words);
        // Versions are much the same, often.
        if (!hits.some((hit) => hit.excerpt.join() === excerpt.join())) {
          hits.push({ id, title, messageId: message.id, excerpt });
        }
      }
      if (performance.now() - turn > TURN_MS) {
        await new Promise((resolve) => setTimeout(resolve));
        turn = performance.now();
      }
    }
    yield hits;
  }
}

/**
 * @param {string} text
 * @param {string[]} words folded
 */
function hasAll(text, words) {
  const plain = folded(text);
  return words.every((word) => plain.includes(word));
}

/**
 * @param {string} text
 * @param {string[]} words
 * @returns {[string, string, string]}
 */
function excerptOf(text, [word = ""]) {
  const [begin, end] = findFolded(text, word) ?? [0, 0];
  const from = Math.max(0, begin - BEFORE);
  const to = Math.min(text.length, end + AFTER);
  const line = (/** @type {string} */ part) => part.replace(/\s+/g, " ").toWellFormed();
  return [
    `${from > 0 ? "…" : ""}${line(text.slice(from, begin))}`,
    line(text.slice(begin, end)),
    `${line(text.slice(end, to))}${to < text.length ? "…" : ""}`,
  ];
}
