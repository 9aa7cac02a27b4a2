import { useCallback, useState } from "react";

import { currentLanguage } from "../../i18n/current.js";
import { createSessionId } from "../../lib/llm-api.jsx";
import { edited } from "../chats/answer.js";
import {
  currentConversation,
  editedMessage,
  editedPrompt,
  runningAnswer,
  textInBox,
  textOfEdit,
} from "../chats/model.js";
import { problemOf } from "../chats/payload.js";
import { messageIn, pathOf, pathTo } from "../chats/tree.js";
import { useLatest } from "../hooks/use-latest.js";

/**
 * @typedef {import("../chats/model.js").Answer} Answer
 * @typedef {import("../chats/model.js").Conversation} Conversation
 * @typedef {import("../chats/model.js").UserMessage} UserMessage
 */

/**
 * The ways to ask in the current conversation. All keep their identity, so that messages need not be
 * drawn again, and do nothing while an answer runs there. None takes anything away: a changed prompt
 * and another answer are versions.
 * @param {ReturnType<typeof import("./use-chat.js").useChat>} chat
 * @param {import("../chats/payload.js").How} how
 * @param {ReturnType<typeof import("../writing/use-attachments.js").useAttachments>} files
 * @param {(() => void) | null} instead what to do instead, if something is needed first
 */
export function useConversation({ state, dispatch, ask }, how, files, instead) {
  const latest = useLatest({ state, how, files, instead });
  const draft = textInBox(state);
  const [problem, setProblem] = useState({
    found: /** @type {ReturnType<typeof problemOf>} */ (null),
    draft,
    files,
    how,
  });
  const current = problem.draft === draft && problem.files === files && problem.how === how;

  /** The conversation, undefined for a new one; null if nothing may be asked in it now. */
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

  /** Send the draft: as a new prompt, or as another version of the one that is being edited. */
  const send = useCallback(() => {
    const { state, how, files } = latest.current;
    const draft = textInBox(state);
    const nothing = draft.trim() === "" && files.attachments.length === 0;
    const may = nothing || files.reading.length > 0 ? null : ready();
    if (!may) {
      return;
    }
    const { conversation } = may;
    const changed = editedPrompt(state);
    const last = pathOf(conversation).at(-1) ?? null;
    const parentId = changed ? changed.parentId : (last && last.id);
    const prompt = promptOf(draft, parentId, files.attachments);
    const messages = [...pathTo(conversation, parentId), prompt];
    const found = problemOf(messages, how);
    setProblem({ found, draft, files, how });
    if (!found) {
      dispatch(changed ? { type: "editLeft" } : { type: "drafted", draft: "" });
      ask(conversation?.id ?? createSessionId(), { prompt, parentId }, messages, how);
      files.clear();
    }
  }, [latest, ready, ask, dispatch]);

  /** Ask for another answer to the same prompt. */
  const regenerate = useCallback(
    (/** @type {string} */ answerId) => {
      const { conversation } = ready() ?? {};
      const answer = messageIn(conversation, answerId);
      if (conversation && answer) {
        const { parentId } = answer;
        const messages = pathTo(conversation, parentId);
        ask(conversation.id, { prompt: null, parentId }, messages, latest.current.how);
      }
    },
    [ready, ask, latest],
  );

  /** Have an answer go on where it ends: by its text, if the upstream can do that, or by a question. */
  const goOn = useCallback(
    (/** @type {string} */ answerId) => {
      const { conversation } = ready() ?? {};
      const answer = messageIn(conversation, answerId);
      if (!conversation || answer?.role !== "assistant") {
        return;
      }
      const { how } = latest.current;
      const path = pathTo(conversation, answerId);
      if (how.prefix) {
        const { parentId, text, reasoning, thinkingMs } = answer;
        /** @type {Partial<Answer>} */
        const more = { text, reasoning, thinkingMs, made: "continued" };
        ask(conversation.id, { prompt: null, parentId, more }, path, how);
      } else {
        const prompt = promptOf(currentLanguage().say("goOnQuestion"), answerId, []);
        ask(conversation.id, { prompt, parentId: answerId }, [...path, prompt], how);
      }
    },
    [ready, ask, latest],
  );

  /** Keep what an answer was changed to as another version of it. */
  const saveEdit = useCallback(() => {
    const { state } = latest.current;
    const answer = editedMessage(state);
    const text = textOfEdit(state);
    const busy = runningAnswer(currentConversation(state));
    if (answer?.role === "assistant" && text.trim() !== "" && !busy) {
      const version = edited(answer, { id: createSessionId(), text, now: Date.now() });
      dispatch({ type: "versionMade", version });
    }
  }, [latest, dispatch]);

  return { send, regenerate, goOn, saveEdit, problem: current ? problem.found : null };
}

/**
 * @param {string} text
 * @param {string | null} parentId
 * @param {import("../../lib/attachments.js").Attachment[]} attachments
 * @returns {UserMessage}
 */
function promptOf(text, parentId, attachments) {
  const files = attachments.length > 0 && { attachments };
  return { role: "user", id: createSessionId(), parentId, at: Date.now(), text, ...files };
}
