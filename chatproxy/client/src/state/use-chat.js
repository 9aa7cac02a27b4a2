/** The page's state, and the runs that change it. */

import { useCallback, useMemo, useReducer, useRef } from "react";

import { createSessionId } from "../lib/llm-api.jsx";
import { headersFor } from "./access.js";
import { asPayloadMessages, initialState } from "./model.js";
import { reducer } from "./reducer.js";
import { startRun } from "./run.js";
import { loadConversations } from "./store.js";
import { useLatest } from "./use-latest.js";
import { usePersistence } from "./use-persistence.js";

/**
 * @typedef {import("./model.js").Message} Message
 * @typedef {{model: string, thinking: boolean, simulate?: unknown}} Choice
 */

/**
 * @param {Storage | null} storage
 * @param {ReturnType<typeof import("./use-access.js").useAccess>} access
 */
export function useChat(storage, access) {
  const latestAccess = useLatest(access);
  const [state, dispatch] = useReducer(reducer, null, () =>
    initialState(loadConversations(storage)),
  );
  /** @type {import("react").RefObject<Map<string, import("./run.js").Run>>} */
  const runs = useRef(new Map());
  usePersistence(storage, state.conversations);

  const ask = useCallback(
    /**
     * @param {string} conversationId
     * @param {Message[]} messages with the prompt last
     * @param {Choice} choice
     */
    (conversationId, messages, { model, thinking, simulate }) => {
      const answerId = createSessionId();
      const { token, refuse } = latestAccess.current;
      const which = () => ({ conversationId, answerId, now: Date.now() });
      dispatch({ type: "sent", ...which(), model, messages });
      const payload = {
        model,
        messages: asPayloadMessages(messages),
        thinking: { type: thinking ? "enabled" : "disabled" },
        ...(simulate !== undefined && { simulate }),
      };
      /** @type {import("./run.js").RunListeners} */
      const listeners = {
        onProgress: (progress) => dispatch({ type: "received", ...which(), progress }),
        onStopped: () => dispatch({ type: "stopped", ...which() }),
        onReceipt: (receipt) => dispatch({ type: "receipted", ...which(), receipt }),
        onEnd: (end) => dispatch({ type: "ended", ...which(), end }),
        onUnauthorized: () => refuse(token),
      };
      const run = startRun(answerId, payload, listeners, headersFor(token));
      runs.current.set(answerId, run);
      run.done.finally(() => runs.current.delete(answerId));
    },
    [latestAccess],
  );

  const stop = useCallback((/** @type {string} */ answerId) => {
    runs.current.get(answerId)?.stop();
  }, []);

  return useMemo(() => ({ state, dispatch, ask, stop }), [state, ask, stop]);
}
