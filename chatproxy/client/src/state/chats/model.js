/**
 * What the page knows: conversations, and the messages in them. `tree.js` says how messages belong
 * together, and which of them are shown.
 *
 * @typedef {import("../../lib/llm-api.jsx").AnswerStatus} AnswerStatus
 * @typedef {import("../../lib/llm-api.jsx").AnswerError} AnswerError
 * @typedef {import("../../lib/llm-api.jsx").StopState} StopState
 *
 * @typedef {object} UserMessage
 * @property {"user"} role
 * @property {string} id
 * @property {string | null} parentId the message before it; null: none
 * @property {number} at when it was sent: milliseconds since 1970, as all times here
 * @property {string} text
 * @property {import("../../lib/attachments.js").Attachment[]} [attachments]
 *
 * `running` until it is one of the others. `status` matters while it runs only.
 * @typedef {object} Answer
 * @property {"assistant"} role
 * @property {string} id the session id: one request, one answer
 * @property {string | null} parentId the prompt
 * @property {"running" | "finished" | "stopped" | "failed" | "cut_off"} state
 * @property {AnswerStatus} status
 * @property {number} startedAt
 * @property {number} statusSince
 * @property {string} model
 * @property {string} text
 * @property {string} reasoning
 * @property {number} lastEvent the number of the last event whose text is in here. Text and number
 *   change together and are kept together, so that the answer can be read on from there
 * @property {"continued" | "edited"} [made] of an earlier version: by the model, which went on where
 *   that one ends, or by the user
 * @property {number} [thinkingSince]
 * @property {number} [thinkingMs] how long it thought, once that is over
 * @property {string} [reason] why it was stopped
 * @property {string} [finishReason]
 * @property {AnswerError} [error]
 * @property {StopState["state"]} [stop] what is known about the Stop that was pressed here
 * @property {string} [stopRefusal] what the server said when it refused that Stop
 * @property {{stopMs?: number, events?: number, upstreamClosed?: boolean, leftBehind?: string[]}} [receipt]
 * @property {import("./steps.js").Step[]} [steps] what a run has done for it, as far as `lastEvent`
 * @property {import("../../lib/llm-api.jsx").Account} [account] what it came to
 *
 * @typedef {UserMessage | Answer} Message
 *
 * @typedef {object} Conversation
 * @property {string} id
 * @property {string} title
 * @property {boolean} [named] whether the title is the user's
 * @property {boolean} [pinned]
 * @property {number} [deletedAt] since when it waits to be deleted for good; 0: it does not
 * @property {number} [shelvedAt] when the user last named, pinned, deleted or restored it
 * @property {Partial<Record<import("./join.js").Said, number>>} [saidAt] when each of that was
 *   said last
 * @property {number} updatedAt when something was asked in it last
 * @property {Message[]} messages all versions, the oldest first; see `tree.js`
 * @property {import("./chat-settings.js").ChatSettings} [settings] those that are not the defaults
 * @property {string} [model] the one that was chosen in it, if any was
 * @property {string[]} chosen the ids of versions that are shown though they are not the newest
 * @property {boolean} [shut] whether its messages have not been read from the browser's storage yet
 * @property {boolean} [needed] whether they are to be read though it is not shown: an answer runs
 *
 * What the user is writing in a conversation: the next prompt, and what messages are to be changed to.
 * @typedef {object} Draft
 * @property {string} text
 * @property {string} [editedId] the message that is being changed now
 * @property {Record<string, string>} [edits] by the id of the message
 *
 * @typedef {object} ChatState
 * @property {Conversation[]} conversations the newest first
 * @property {string | null} currentId null: a new chat, which is kept from its first prompt on
 * @property {Record<string, Draft>} drafts by the id of the conversation; that of a new chat is `""`
 * @property {string | null} deletedId the conversation that was deleted last, for an undo at hand
 * @property {{messageId: string} | null} target the message that is to come into sight
 * @property {boolean} astray whether the page's address leads to no conversation
 * @property {import("./chat-settings.js").ChatSettings} newSettings those of a new chat
 * @property {string} announcement for those who listen to the page: states, not tokens
 */

import { contentOf } from "../../lib/attachments.js";
import { shorten } from "../../lib/graphemes.js";
import { messageIn, pathOf } from "./tree.js";

const TITLE_LENGTH = 60;
/** Milliseconds after which a deleted conversation is deleted for good. */
export const DELETED_FOR_GOOD_AFTER_MS = 30 * 24 * 3600 * 1000;

/** @type {import("./chat-settings.js").ChatSettings} */
const NO_SETTINGS = {};
/** @type {Draft} */
const NO_DRAFT = { text: "" };

/**
 * @param {Conversation[]} conversations
 * @param {Partial<ChatState>} [more]
 * @returns {ChatState}
 */
export function initialState(conversations, more) {
  return {
    conversations,
    currentId: conversations.find(({ deletedAt }) => !deletedAt)?.id ?? null,
    drafts: {},
    deletedId: null,
    target: null,
    astray: false,
    newSettings: {},
    announcement: "",
    ...more,
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
 * The draft of the current conversation.
 * @param {ChatState} state
 * @returns {Draft}
 */
export function currentDraft({ drafts, currentId }) {
  return drafts[currentId ?? ""] ?? NO_DRAFT;
}

/**
 * The message of the current conversation that is being changed.
 * @param {ChatState} state
 * @returns {Message | undefined}
 */
export function editedMessage(state) {
  const { editedId } = currentDraft(state);
  return editedId === undefined ? undefined : messageIn(currentConversation(state), editedId);
}

/**
 * The same, if it is a prompt: that is changed in the text box, and an answer where it stands.
 * @param {ChatState} state
 * @returns {UserMessage | undefined}
 */
export function editedPrompt(state) {
  const message = editedMessage(state);
  return message?.role === "user" ? message : undefined;
}

/**
 * What it is to be changed to.
 * @param {ChatState} state
 */
export function textOfEdit(state) {
  const { editedId = "", edits } = currentDraft(state);
  return edits?.[editedId] ?? "";
}

/**
 * What is in the text box.
 * @param {ChatState} state
 */
export function textInBox(state) {
  return editedPrompt(state) ? textOfEdit(state) : currentDraft(state).text;
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
 * The model of the conversation in view: chosen there, or else the one that has answered last, or else
 * the usual one.
 * @param {ChatState} state
 * @param {string} usual
 * @param {string[]} offered
 */
export function currentModel(state, usual, offered) {
  const conversation = currentConversation(state);
  const answer = pathOf(conversation).findLast(({ role }) => role === "assistant");
  const last = answer?.role === "assistant" ? answer.model : "";
  return [conversation?.model, last].find((model) => model && offered.includes(model)) ?? usual;
}

/**
 * The answer that runs in a conversation. There is one at the most on the path that is shown, and it
 * is the last message there.
 * @param {Conversation} [conversation]
 * @returns {Answer | undefined}
 */
export function runningAnswer(conversation) {
  const last = pathOf(conversation).at(-1);
  return last?.role === "assistant" && last.state === "running" ? last : undefined;
}

/**
 * All answers of a conversation that run, whether they are shown or not.
 * @param {Conversation} conversation
 * @returns {Answer[]}
 */
export function runningAnswers({ messages }) {
  return messages
    .filter((message) => message.role === "assistant")
    .filter(({ state }) => state === "running");
}

/**
 * The messages as DeepSeek takes them. Answers without text are left out, and so is all thinking,
 * which DeepSeek does not want back.
 *
 * Prompts that have no answer between them are one message: the thread shows them all, so the
 * model is told them all, and no two messages in a row are the user's.
 * @param {Message[]} path
 * @param {boolean} [takesImages] whether the model does
 * @returns {{role: string, content: ReturnType<typeof contentOf>}[]}
 */
export function asPayloadMessages(path, takesImages = false) {
  /** @type {Message[]} */
  const told = [];
  for (const message of path.filter(({ role, text }) => role === "user" || text !== "")) {
    const last = told.at(-1);
    if (last?.role === "user" && message.role === "user") {
      told[told.length - 1] = joined(last, message);
    } else {
      told.push(message);
    }
  }
  return told.map((message) => ({ role: message.role, content: asContent(message, takesImages) }));
}

/**
 * @param {UserMessage} first
 * @param {UserMessage} second
 * @returns {UserMessage}
 */
function joined(first, second) {
  const attachments = [...(first.attachments ?? []), ...(second.attachments ?? [])];
  const text = [first.text, second.text].filter(Boolean).join("\n\n");
  return { ...second, text, ...(attachments.length > 0 && { attachments }) };
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
