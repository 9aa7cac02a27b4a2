/** A question as the server takes it. Pure. */

import { bytesOf } from "../lib/attachments.js";
import { payloadFields, systemMessages } from "./chat-settings.js";
import { asPayloadMessages } from "./model.js";

/**
 * @typedef {import("./model.js").Message} Message
 *
 * @typedef {object} How a question is asked
 * @property {string} model empty: the server's
 * @property {boolean} thinking
 * @property {import("./chat-settings.js").ChatSettings} settings the chat's, with the defaults
 * @property {boolean} takesImages whether the model does
 * @property {number} maxBytes what the server takes
 * @property {unknown} [simulate]
 */

/**
 * @param {Message[]} messages with the prompt last
 * @param {How} how
 */
export function payloadOf(messages, { model, thinking, settings, takesImages, simulate }) {
  return {
    ...(model && { model }),
    messages: [...systemMessages(settings), ...asPayloadMessages(messages, takesImages)],
    thinking: { type: thinking ? "enabled" : "disabled" },
    ...payloadFields(settings, thinking),
    ...(simulate !== undefined && { simulate }),
  };
}

/**
 * Why a question can't be sent, before it is.
 * @param {Message[]} messages with the prompt last
 * @param {How} how
 * @returns {{sentence: import("../i18n/language.js").SentenceName, size: number} | null}
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
