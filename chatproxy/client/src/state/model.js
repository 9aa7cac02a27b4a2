import { shorten } from "../lib/graphemes.js";

/**
 * What the page knows: conversations, and the messages in them.
 *
 * @typedef {import("../lib/llm-api.jsx").AnswerStatus} AnswerStatus
 * @typedef {import("../lib/llm-api.jsx").AnswerError} AnswerError
 * @typedef {import("../lib/llm-api.jsx").StopState} StopState
 *
 * @typedef {object} UserMessage
 * @property {"user"} role
 * @property {string} id
 * @property {string} text
 * @property {import("../lib/attachments.js").Attachment[]} [attachments]
 *
 * `running` until it is one of the others. `status` matters while it runs only.
 * @typedef {object} Answer
 * @property {"assistant"} role
 * @property {string} id the session id: one request, one answer
 * @property {"running" | "finished" | "stopped" | "failed" | "cut_off"} state
 * @property {AnswerStatus} status
 * @property {number} startedAt milliseconds since 1970, as all times here
 * @property {number} statusSince
 * @property {string} model
 * @property {string} text
 * @property {string} reasoning
 * @property {number} lastEvent the number of the last event whose text is in here. Text and number
 *   change together and are kept together, so that the answer can be read on from there
 * @property {number} [thinkingSince]
 * @property {number} [thinkingMs] how long it thought, once that is over
 * @property {string} [reason] why it was stopped
 * @property {string} [finishReason]
 * @property {AnswerError} [error]
 * @property {StopState["state"]} [stop] what is known about the Stop that was pressed here
 * @property {{stopMs?: number, events?: number, upstreamClosed?: boolean}} [receipt]
 *
 * @typedef {UserMessage | Answer} Message
 *
 * @typedef {object} Conversation
 * @property {string} id
 * @property {string} title
 * @property {number} updatedAt
 * @property {Message[]} messages
 * @property {import("./chat-settings.js").ChatSettings} [settings] those that are not the defaults
 *
 * @typedef {object} ChatState
 * @property {Conversation[]} conversations the newest first
 * @property {string | null} currentId null: a new chat, which is kept from its first prompt on
 * @property {string} draft what is in the text box
 * @property {string | null} editingId the prompt that the draft is to replace
 * @property {Conversation | null} deleted the last one, for an undo
 * @property {import("./chat-settings.js").ChatSettings} newSettings those of a new chat
 * @property {string} announcement for those who listen to the page: states, not tokens
 */

import { contentOf } from "../lib/attachments.js";

export const MOST_CONVERSATIONS = 60;
const TITLE_LENGTH = 60;
/** @type {import("./chat-settings.js").ChatSettings} */
const NO_SETTINGS = {};

/**
 * @param {Conversation[]} conversations
 * @returns {ChatState}
 */
export function initialState(conversations) {
  return {
    conversations,
    currentId: conversations[0]?.id ?? null,
    draft: "",
    editingId: null,
    deleted: null,
    newSettings: {},
    announcement: "",
  };
}

/** @param {string} prompt */
export function titleOf(prompt) {
  const line = prompt.trim().split("\n", 1)[0] ?? "";
  return shorten(line, TITLE_LENGTH);
}

/**
 * What a prompt is called by: its text, or else the name of its first file.
 * @param {Message} [prompt]
 */
export function wordsOf(prompt) {
  const [file] = prompt?.role === "user" ? (prompt.attachments ?? []) : [];
  return prompt?.text.trim() || file?.name || "";
}

/**
 * @param {ChatState} state
 * @returns {Conversation | undefined}
 */
export function currentConversation({ conversations, currentId }) {
  return conversations.find(({ id }) => id === currentId);
}

/**
 * The settings of the conversation in view, which may be a new one.
 * @param {ChatState} state
 * @returns {import("./chat-settings.js").ChatSettings}
 */
export function currentSettings(state) {
  return state.currentId === null
    ? state.newSettings
    : (currentConversation(state)?.settings ?? NO_SETTINGS);
}

/**
 * The answer that runs in a conversation; there is one at the most, and it is the last message.
 * @param {Conversation} [conversation]
 * @returns {Answer | undefined}
 */
export function runningAnswer(conversation) {
  const last = conversation?.messages.at(-1);
  return last?.role === "assistant" && last.state === "running" ? last : undefined;
}

/**
 * The messages as DeepSeek takes them. Answers without text are left out, and so is all thinking,
 * which DeepSeek does not want back.
 * @param {Message[]} messages
 * @param {boolean} [takesImages] whether the model does
 * @returns {{role: string, content: ReturnType<typeof contentOf>}[]}
 */
export function asPayloadMessages(messages, takesImages = false) {
  return messages
    .filter((message) => message.role === "user" || message.text !== "")
    .map((message) => ({ role: message.role, content: asContent(message, takesImages) }));
}

/**
 * @param {Message} message
 * @param {boolean} takesImages
 */
function asContent(message, takesImages) {
  return message.role === "user" && message.attachments
    ? contentOf(message.text, message.attachments, takesImages)
    : message.text;
}
