/** The page's state, and the runs that change it. */

import { useCallback, useEffect, useMemo, useReducer, useState } from "react";

import { createSessionId } from "../lib/llm-api.jsx";
import { initialState, runningAnswer } from "./model.js";
import { atRest } from "./merge.js";
import { payloadOf } from "./payload.js";
import { reducer } from "./reducer.js";
import { loadConversations } from "./store.js";
import { usePersistence } from "./use-persistence.js";
import { useRuns } from "./use-runs.js";

/** @typedef {import("./model.js").Message} Message */

/**
 * @param {Storage | null} storage
 * @param {ReturnType<typeof import("./use-access.js").useAccess>} access
 * @param {import("../lib/llm-api.jsx").Resume} resume how an answer is read on
 */
export function useChat(storage, access, resume) {
  const [state, dispatch] = useReducer(reducer, null, () =>
    initialState(loadConversations(storage)),
  );
  const runs = useRuns(dispatch, access, resume);
  const { start, takeUp, stop, stopAgain, leave, show } = runs;
  const { conversations, currentId } = state;
  const [loaded] = useState(conversations);

  const takeIn = useCallback(
    (/** @type {import("./model.js").Conversation} */ conversation) => {
      dispatch({ type: "keptElsewhere", conversation });
      for (const message of conversation.messages) {
        if (message.role === "assistant" && atRest(message)) {
          leave(message.id);
        }
      }
    },
    [leave],
  );
  const letGo = useCallback(
    (/** @type {string} */ id) => dispatch({ type: "deletedElsewhere", id }),
    [],
  );
  usePersistence(storage, conversations, takeIn, letGo);

  // Only what is shown needs its connection.
  useEffect(() => show(currentId), [currentId, show]);

  useEffect(() => {
    for (const { id, messages } of access.asked ? [] : loaded) {
      for (const message of messages) {
        if (message.role === "assistant" && message.stop === "unconfirmed") {
          stopAgain(id, message);
        }
      }
    }
  }, [loaded, access.asked, stopAgain]);

  // What runs without being read here: it ran before a reload, or another tab has asked for it.
  useEffect(() => {
    for (const conversation of access.asked ? [] : conversations) {
      const answer = runningAnswer(conversation);
      if (answer) {
        takeUp(conversation.id, answer);
      }
    }
  }, [conversations, access.asked, takeUp]);

  const ask = useCallback(
    /**
     * @param {string} conversationId
     * @param {Message[]} messages with the prompt last
     * @param {import("./payload.js").How} how
     */
    (conversationId, messages, how) => {
      const answerId = createSessionId();
      const { model } = how;
      dispatch({ type: "sent", conversationId, answerId, now: Date.now(), model, messages });
      start(conversationId, answerId, payloadOf(messages, how));
    },
    [start],
  );

  return useMemo(() => ({ state, dispatch, ask, stop }), [state, ask, stop]);
}
