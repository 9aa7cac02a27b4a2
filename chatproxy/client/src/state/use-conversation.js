import { useCallback, useState } from "react";

import { createSessionId } from "../lib/llm-api.jsx";
import { currentConversation, runningAnswer } from "./model.js";
import { problemOf } from "./payload.js";
import { useLatest } from "./use-latest.js";

/**
 * @typedef {import("./model.js").Conversation} Conversation
 * @typedef {import("./model.js").Message} Message
 */

/**
 * The two ways to ask in the current conversation. Both keep their identity, so that messages need
 * not be drawn again, and do nothing while an answer runs there.
 * @param {ReturnType<typeof import("./use-chat.js").useChat>} chat
 * @param {import("./payload.js").How} how
 * @param {ReturnType<typeof import("./use-attachments.js").useAttachments>} files
 * @param {(() => void) | null} instead what to do instead, where something is needed first
 */
export function useConversation({ state, dispatch, ask }, how, files, instead) {
  const latest = useLatest({ state, how, files, instead });
  const { draft } = state;
  const [problem, setProblem] = useState({
    found: /** @type {ReturnType<typeof problemOf>} */ (null),
    draft,
    files,
    how,
  });
  const current = problem.draft === draft && problem.files === files && problem.how === how;

  /** Send the draft: as a new prompt, or in place of the one that is being edited. */
  const send = useCallback(() => {
    const { state, how, files, instead } = latest.current;
    const { draft } = state;
    const conversation = currentConversation(state);
    const { attachments, reading } = files;
    const nothing = draft.trim() === "" && attachments.length === 0;
    if (runningAnswer(conversation) || nothing || reading.length > 0) {
      return;
    }
    if (instead) {
      instead();
      return;
    }
    const before = upTo(conversation, state.editingId);
    /** @type {Message} */
    const prompt = { role: "user", id: createSessionId(), text: draft };
    const whole = attachments.length > 0 ? { ...prompt, attachments } : prompt;
    const found = problemOf([...before, whole], how);
    setProblem({ found, draft, files, how });
    if (!found) {
      ask(conversation?.id ?? createSessionId(), [...before, whole], how);
      files.clear();
      dispatch({ type: "drafted", draft: "" });
    }
  }, [latest, ask, dispatch]);

  /** Ask for an answer again. */
  const regenerate = useCallback(
    (/** @type {string} */ answerId) => {
      const { state, how, instead } = latest.current;
      const conversation = currentConversation(state);
      if (instead) {
        instead();
      } else if (conversation && !runningAnswer(conversation)) {
        ask(conversation.id, upTo(conversation, answerId), how);
      }
    },
    [latest, ask],
  );

  return { send, regenerate, problem: current ? problem.found : null };
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
