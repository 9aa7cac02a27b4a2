import { useCallback } from "react";

import { createSessionId } from "../lib/llm-api.jsx";
import { edited } from "./answer.js";
import {
  asPayloadMessages,
  currentConversation,
  editedMessage,
  runningAnswer,
  textInBox,
  textOfEdit,
} from "./model.js";
import { messageIn, pathOf, pathTo } from "./tree.js";
import { useLatest } from "./use-latest.js";

/**
 * @typedef {import("./model.js").Answer} Answer
 * @typedef {import("./model.js").UserMessage} UserMessage
 */

/** What is asked of an upstream that can't go on with a text. */
export const GO_ON = "Continue.";

/**
 * The ways to ask in the current conversation. All keep their identity, so that messages need not be
 * drawn again, and do nothing while an answer runs there. None takes anything away: a changed prompt
 * and another answer are versions.
 * @param {ReturnType<typeof import("./use-chat.js").useChat>} chat
 * @param {import("./use-chat.js").Choice & {prefix: boolean}} choice `prefix`: whether the upstream
 *   can go on with a text
 * @param {(() => void) | null} instead what to do instead, if something is needed first
 */
export function useConversation({ state, dispatch, ask }, choice, instead) {
  const latest = useLatest({ state, choice, instead });

  /** The conversation, if something may be asked in it now; undefined for a new one. */
  const ready = useCallback(() => {
    const { state, instead } = latest.current;
    const conversation = currentConversation(state);
    if (runningAnswer(conversation) || conversation?.shut) {
      return null;
    }
    if (instead) {
      instead();
      return null;
    }
    return { conversation };
  }, [latest]);

  const askFor = useCallback(
    /**
     * @param {import("./model.js").Conversation | undefined} conversation
     * @param {string} text
     * @param {string | null} parentId
     */
    (conversation, text, parentId) => {
      /** @type {UserMessage} */
      const prompt = { role: "user", id: createSessionId(), parentId, at: Date.now(), text };
      const path = [...pathTo(conversation, parentId), prompt];
      const question = { prompt, parentId };
      const id = conversation?.id ?? createSessionId();
      ask(id, question, asPayloadMessages(path), latest.current.choice);
    },
    [ask, latest],
  );

  /** Send the draft: as a new prompt, or as another version of the one that is being edited. */
  const send = useCallback(() => {
    const { state } = latest.current;
    const text = textInBox(state);
    const may = text.trim() !== "" && ready();
    if (may) {
      const edits = editedMessage(state);
      const last = pathOf(may.conversation).at(-1)?.id ?? null;
      dispatch(edits?.role === "user" ? { type: "editLeft" } : { type: "drafted", draft: "" });
      askFor(may.conversation, text, edits?.role === "user" ? edits.parentId : last);
    }
  }, [latest, ready, askFor, dispatch]);

  /** Ask for another answer to the same prompt. */
  const regenerate = useCallback(
    (/** @type {string} */ answerId) => {
      const may = ready();
      const answer = messageIn(may?.conversation, answerId);
      if (may?.conversation && answer) {
        const { parentId } = answer;
        const messages = asPayloadMessages(pathTo(may.conversation, parentId));
        ask(may.conversation.id, { prompt: null, parentId }, messages, latest.current.choice);
      }
    },
    [ready, ask, latest],
  );

  /** Have an answer go on where it ends. */
  const goOn = useCallback(
    (/** @type {string} */ answerId) => {
      const may = ready();
      const answer = messageIn(may?.conversation, answerId);
      if (!may?.conversation || answer?.role !== "assistant") {
        return;
      }
      const { choice } = latest.current;
      if (!choice.prefix) {
        askFor(may.conversation, GO_ON, answerId);
        return;
      }
      const { parentId, text, reasoning, thinkingMs } = answer;
      const begun = { role: "assistant", content: text, prefix: true };
      const path = asPayloadMessages(pathTo(may.conversation, parentId));
      const messages = [...path, choice.thinking && reasoning ? { ...begun, reasoning_content: reasoning } : begun];
      /** @type {Partial<Answer>} */
      const more = { text, reasoning, thinkingMs, made: "continued" };
      ask(may.conversation.id, { prompt: null, parentId, more }, messages, choice);
    },
    [ready, ask, askFor, latest],
  );

  /** Keep what an answer was changed to as another version of it. */
  const saveEdit = useCallback(() => {
    const { state } = latest.current;
    const answer = editedMessage(state);
    const text = textOfEdit(state);
    if (answer?.role === "assistant" && text.trim() !== "") {
      const version = edited(answer, { id: createSessionId(), text, now: Date.now() });
      dispatch({ type: "versionMade", version });
    }
  }, [latest, dispatch]);

  return { send, regenerate, goOn, saveEdit };
}
