/** A question as the server takes it. Pure. */

import { bytesOf } from "../../lib/attachments.js";
import { payloadFields, systemMessages } from "./chat-settings.js";
import { asPayloadMessages } from "./model.js";

/**
 * @typedef {import("./model.js").Message} Message
 *
 * @typedef {object} How a question is asked
 * @property {string} model empty: the server's
 * @property {boolean} thinking
 * @property {import("./chat-settings.js").ChatSettings} settings the chat's, with the defaults
 * @property {import("./chat-settings.js").ChatSettings} defaults
 * @property {boolean} takesImages whether the model does
 * @property {boolean} prefix whether the upstream can go on with the text of an answer
 * @property {number} maxBytes what the server takes
 * @property {unknown} [simulate]
 */

/**
 * @param {Message[]} messages with the prompt last, or the answer that is to go on
 * @param {How} how
 */
export function payloadOf(messages, { model, thinking, settings, takesImages, simulate }) {
  const path = asPayloadMessages(messages, takesImages);
  return {
    ...(model && { model }),
    messages: [...systemMessages(settings), ...withPrefix(path, messages.at(-1), thinking)],
    thinking: { type: thinking ? "enabled" : "disabled" },
    ...payloadFields(settings, thinking),
    ...(simulate !== undefined && { simulate }),
  };
}

/**
 * Why a question can't be sent, before it is.
 * @param {Message[]} messages with the prompt last
 * @param {How} how
 * @returns {{sentence: import("../../i18n/language.js").SentenceName, size: number} | null}
 */
export function problemOf(messages, how) {
  const last = messages.at(-1);
  const images = last?.role === "user" && last.attachments?.some(({ kind }) => kind === "image");
  if (images && !how.takesImages) {
    return { sentence: "modelTakesNoImages", size: 0 };
  }
  const size = bytesOf(payloadOf(messages, how));
  return size > how.maxBytes ? { sentence: "questionTooLarge", size } : null;
}

/**
 * DeepSeek's chat prefix completion (https://api-docs.deepseek.com/guides/chat_prefix_completion): the
 * last message is the answer as far as it goes, with its thinking, and what comes is the rest.
 * @param {ReturnType<typeof asPayloadMessages>} path
 * @param {Message | undefined} last
 * @param {boolean} thinking
 * @returns {Record<string, unknown>[]}
 */
function withPrefix(path, last, thinking) {
  if (last?.role !== "assistant" || last.text === "") {
    return path;
  }
  const thought = thinking && last.reasoning && { reasoning_content: last.reasoning };
  return path.with(-1, { ...{ role: "assistant", content: last.text, prefix: true }, ...thought });
}
