import { useCallback } from "react";

import { currentLanguage } from "../../i18n/current.js";
import { download } from "../../lib/download.js";
import { asJson, asMarkdown, fileName, fromJson, LONGEST_FILE, withMissing } from "../chats/transfer.js";
import { useLatest } from "../hooks/use-latest.js";

/**
 * @typedef {import("../chats/model.js").Conversation} Conversation
 * @typedef {ReturnType<typeof import("../asking/use-chat.js").useChat>} Chat
 * @typedef {"md" | "json"} FileFormat
 *
 * @typedef {{outcome: "imported", added: number, completed: number, known: number, damaged: number}
 *   | {outcome: "no-chats"} | {outcome: "too-large"}} ImportReport `added` are new, `completed` got
 *   messages that were missing, `known` were here already
 */

/** How many conversations are read at once. */
const AT_ONCE = 50;
const ALL = "chats";

/**
 * Conversations out to files, and in from them. Both keep their identity.
 * @param {Chat} current
 */
export function useTransfer(current) {
  const chat = useLatest(current);

  const save = useCallback(
    /**
     * @param {string | null} id null: all but those that are deleted
     * @param {FileFormat} format
     */
    async (id, format) => {
      const { state, read } = chat.current;
      const wanted = state.conversations.filter((one) =>
        id === null ? !one.deletedAt : one.id === id,
      );
      const whole = await opened(read, wanted);
      const name = id === null ? `${ALL} ${dateOf(new Date())}` : (whole[0]?.title ?? ALL);
      if (format === "md") {
        download(fileName(name, "md"), "text/markdown", asMarkdown(currentLanguage(), whole));
      } else {
        download(fileName(name, "json"), "application/json", asJson(whole, Date.now()));
      }
    },
    [chat],
  );

  const load = useCallback(
    /**
     * @param {File} file
     * @returns {Promise<ImportReport>}
     */
    async (file) => {
      if (file.size > LONGEST_FILE) {
        return { outcome: "too-large" };
      }
      const found = fromJson(await file.text(), Date.now());
      if (found === null) {
        return { outcome: "no-chats" };
      }
      const report = await takeIn(found, chat.current);
      return { outcome: "imported", ...report, damaged: found.damaged };
    },
    [chat],
  );

  return { save, load };
}

/**
 * @param {import("../chats/transfer.js").Import} found
 * @param {Chat} chat
 */
async function takeIn({ imported }, { state, dispatch, read }) {
  const here = new Map(state.conversations.map((one) => [one.id, one]));
  const known = imported.flatMap(({ id }) => here.get(id) ?? []);
  const whole = new Map((await opened(read, known)).map((one) => [one.id, one]));
  const completed = imported.filter((one) => {
    const mine = whole.get(one.id);
    return mine && withMissing(mine, one) !== mine;
  });
  for (const { id } of known.filter(({ shut }) => shut)) {
    dispatch({ type: "chatRead", id, messages: whole.get(id)?.messages ?? [] });
  }
  dispatch({ type: "chatsImported", conversations: imported, now: Date.now() });
  return {
    added: imported.length - known.length,
    completed: completed.length,
    known: known.length - completed.length,
  };
}

/**
 * Conversations with their messages.
 * @param {Chat["read"]} read
 * @param {Conversation[]} conversations
 * @returns {Promise<Conversation[]>}
 */
async function opened(read, conversations) {
  /** @type {Conversation[]} */
  const whole = [];
  for (let from = 0; from < conversations.length; from += AT_ONCE) {
    const some = conversations.slice(from, from + AT_ONCE);
    const messages = await read(some.filter(({ shut }) => shut).map(({ id }) => id));
    for (const conversation of some) {
      whole.push(
        conversation.shut ? { ...conversation, messages: messages.shift() ?? [] } : conversation,
      );
    }
  }
  return whole;
}

/** @param {Date} date */
function dateOf(date) {
  const two = (/** @type {number} */ number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}
