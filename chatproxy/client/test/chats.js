import { sent } from "../src/state/chats/answer.js";

/**
 * @typedef {import("../src/state/chats/model.js").Answer} Answer
 * @typedef {import("../src/state/chats/model.js").Conversation} Conversation
 */

/**
 * A conversation of one question.
 * @param {string} id
 * @param {Partial<Answer>} [answer]
 * @param {Partial<Conversation>} [more]
 * @returns {Conversation}
 */
export function chatOf(id, answer, more) {
  const whole = { text: "Hi", state: /** @type {const} */ ("finished"), parentId: `${id}-u`, ...answer };
  /** @type {import("../src/state/chats/model.js").UserMessage} */
  const prompt = { role: "user", id: `${id}-u`, parentId: null, at: 1, text: "Hello" };
  const messages = [prompt, sent(`${id}-a`, "deepseek-flash", 1, whole)];
  return { id, title: "Hello", updatedAt: 1, messages, chosen: [], ...more };
}

/** @param {Conversation | undefined} conversation */
export const lastOf = (conversation) => /** @type {Answer} */ (conversation?.messages.at(-1));
