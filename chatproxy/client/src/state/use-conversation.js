import { useCallback } from "react";

import { createSessionId } from "../lib/llm-api.jsx";
import { currentConversation, runningAnswer } from "./model.js";
import { useLatest } from "./use-latest.js";

/**
 * @typedef {import("./model.js").Conversation} Conversation
 * @typedef {import("./model.js").Message} Message
 */

/**
 * The two ways to ask in the current conversation. Both keep their identity, so that messages need
 * not be drawn again, and do nothing while an answer runs there.
 * @param {ReturnType<typeof import("./use-chat.js").useChat>} chat
 * @param {import("./use-chat.js").Choice} choice
 * @param {(() => void) | null} instead what to do instead, where something is needed first
 */
export function useConversation({ state, dispatch, ask }, choice, instead) {
  const latest = useLatest({ state, choice, instead });

  /** Send the draft: as a new prompt, or in place of the one that is being edited. */
  const send = useCallback(() => {
    const { state, choice, instead } = latest.current;
    const conversation = currentConversation(state);
    if (runningAnswer(conversation) || state.draft.trim() === "") {
      return;
    }
    if (instead) {
      instead();
      return;
    }
    const before = upTo(conversation, state.editingId);
    /** @type {Message} */
    const prompt = { role: "user", id: createSessionId(), text: state.draft };
    ask(conversation?.id ?? createSessionId(), [...before, prompt], choice);
    dispatch({ type: "drafted", draft: "" });
  }, [latest, ask, dispatch]);

  /** Ask for an answer again. */
  const regenerate = useCallback(
    (/** @type {string} */ answerId) => {
      const { state, choice, instead } = latest.current;
      const conversation = currentConversation(state);
      if (instead) {
        instead();
      } else if (conversation && !runningAnswer(conversation)) {
        ask(conversation.id, upTo(conversation, answerId), choice);
      }
    },
    [latest, ask],
  );

  return { send, regenerate };
}

/**
 * The messages before the one with this id; all of them without an id.
 * @param {Conversation | undefined} conversation
 * @param {string | null} id
 * @returns {Message[]}
 */
function upTo(conversation, id) {
  const messages = conversation?.messages ?? [];
  const at = id === null ? -1 : messages.findIndex((message) => message.id === id);
  return at < 0 ? messages : messages.slice(0, at);
}
