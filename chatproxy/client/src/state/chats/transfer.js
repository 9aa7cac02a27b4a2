/**
 * Conversations as files: out as Markdown, for people, or as JSON, which has all versions and can be
 * taken in again, here or in another browser. Pure.
 *
 * A file may come from anybody. So each field is checked (`record.js`), nothing that it says makes
 * the page ask the server for anything, and what is here already is never changed by it: of a
 * conversation that is here, only the messages that are missing are added.
 */

import { accountLine, savedLine } from "../../lib/account-sentences.js";
import { leftBehindLine, stoppedLine } from "../../lib/sentences.js";
import { closingSentence } from "./answer.js";
import { asConversation } from "./record.js";
import { stateOf, stoppedNames } from "./steps.js";
import { inOrder, pathOf, rooted } from "./tree.js";

/**
 * @typedef {import("./model.js").Conversation} Conversation
 * @typedef {import("./model.js").Message} Message
 * @typedef {import("../../i18n/language.js").Language} Language
 * @typedef {{imported: Conversation[], damaged: number}} Import
 */

const FORMAT = "chatproxy";
const VERSION = 1;
/** Characters of a file; a browser can't make more of them one string everywhere. */
export const LONGEST_FILE = 400_000_000;
const HEADINGS = /** @type {const} */ ({ user: "you", assistant: "assistant" });

/**
 * @param {Conversation[]} conversations
 * @param {number} now
 * @returns {string[]} what a file consists of, in parts, because a whole may be too long for a string
 */
export function asJson(conversations, now) {
  const head = `{"format":"${FORMAT}","version":${VERSION},"exportedAt":${now},"chats":[`;
  const chats = conversations.map(({ shut, needed, ...conversation }) =>
    JSON.stringify(conversation),
  );
  return [head, ...chats.flatMap((chat, at) => (at > 0 ? [",\n", chat] : [chat])), "]}\n"];
}

/**
 * @param {Language} language
 * @param {Conversation[]} conversations of which the path that is shown is written
 * @returns {string[]}
 */
export function asMarkdown(language, conversations) {
  return conversations.map((conversation, at) => {
    const parts = pathOf(conversation).map((message) => messageAsMarkdown(language, message));
    return `${at > 0 ? "\n---\n\n" : ""}# ${oneLine(conversation.title)}\n\n${parts.join("\n")}`;
  });
}

/**
 * @param {Language} language
 * @param {Message} message
 */
function messageAsMarkdown(language, message) {
  const isAnswer = message.role === "assistant";
  const before = isAnswer
    ? (message.steps ?? []).map((step) => stepAsMarkdown(language, message, step))
    : (message.attachments ?? []).map(({ name }) => `- ${oneLine(name)}`);
  const after = (isAnswer ? closingLines(language, message) : []).map((line) => `*${line}*`);
  const heading = `## ${language.say(HEADINGS[message.role])}`;
  const parts = [heading, before.join("\n"), message.text, ...after];
  return `${parts.filter(Boolean).join("\n\n")}\n`;
}

/**
 * @param {Language} language
 * @param {import("./model.js").Answer} answer
 */
function closingLines(language, answer) {
  return [
    closingSentence(language, answer),
    stoppedLine(language, stoppedNames(answer).map(asCode)),
    leftBehindLine(language, answer.receipt?.leftBehind?.map(asCode)),
    answer.state === "stopped" ? savedLine(language, answer.account) : "",
    accountLine(language, answer.account),
  ].filter(Boolean);
}

/**
 * @param {Language} language
 * @param {import("./model.js").Answer} answer
 * @param {import("./steps.js").Step} step
 */
function stepAsMarkdown({ say }, answer, step) {
  const { kind, name, input, output } = step;
  const state = kind === "event" ? "" : ` (${say(`stepState.${stateOf(step, answer)}`)})`;
  const data = [input, output].filter((text) => text !== undefined).map(asCode);
  return `- ${say(`step.${kind}`)} ${asCode(name)}${state}${data.length > 0 ? `: ${data.join(" → ")}` : ""}`;
}

/**
 * A text of anybody's as a span of code, which nothing in it can end.
 * @param {string} text
 */
function asCode(text) {
  const longest = Math.max(0, ...(text.match(/`+/g) ?? []).map(({ length }) => length));
  const fence = "`".repeat(longest + 1);
  return `${fence} ${oneLine(text) || " "} ${fence}`;
}

/**
 * @param {string} title
 * @param {string} ending such as `md`
 * @returns {string} a name that every file system takes
 */
export function fileName(title, ending) {
  const name = oneLine(title).replace(/[\\/:*?"<>|\p{C}]+|^[. ]+/gu, " ").trim().slice(0, 80).replace(/[. ]+$/, "");
  return `${name || "chat"}.${ending}`;
}

/** @param {string} text */
function oneLine(text) {
  return text.replace(/\s+/g, " ").trim();
}

/**
 * @param {string} text of a file
 * @param {number} now
 * @returns {Import | null} null if it is not such a file
 */
export function fromJson(text, now) {
  const { format, version, chats } = parsed(text) ?? {};
  if (format !== FORMAT || version !== VERSION || !Array.isArray(chats)) {
    return null;
  }
  const sound = chats.map(asConversation).filter((chat) => chat !== null);
  const byId = new Map(sound.map((conversation) => [conversation.id, conversation]));
  return {
    imported: [...byId.values()].map((conversation) => atRestNow(conversation, now)),
    damaged: chats.length - sound.length,
  };
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * Nothing in it runs any more, waits for a Stop, or is from the future.
 * @param {Conversation} conversation
 * @param {number} now
 * @returns {Conversation}
 */
function atRestNow({ deletedAt, saidAt, ...conversation }, now) {
  return {
    ...conversation,
    updatedAt: Math.min(conversation.updatedAt, now),
    shelvedAt: Math.min(conversation.shelvedAt ?? 0, now),
    messages: rooted(conversation.messages).map((message) => {
      if (message.role === "user") {
        return { ...message, at: Math.min(message.at, now) };
      }
      const { stop, ...answer } = message;
      const known = stop !== undefined && stop !== "unconfirmed" && { stop };
      const startedAt = Math.min(message.startedAt, now);
      return answer.state === "running"
        ? { ...answer, startedAt, state: "cut_off" }
        : { ...answer, ...known, startedAt };
    }),
  };
}

/**
 * What a conversation that is here becomes.
 * @param {Conversation} here with its messages
 * @param {Conversation} imported
 * @returns {Conversation} `here` itself if nothing is missing
 */
export function withMissing(here, { messages }) {
  const ids = new Set(here.messages.map(({ id }) => id));
  const missing = messages.filter(({ id }) => !ids.has(id));
  return missing.length === 0 ? here : { ...here, messages: inOrder([...here.messages, ...missing]) };
}
