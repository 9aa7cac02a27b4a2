import { useCallback, useRef } from "react";

import { createView } from "../../lib/llm-api.jsx";
import { endOfTakenUp } from "../chats/answer.js";
import { useLatest } from "../hooks/use-latest.js";
import { headersFor } from "./access.js";
import { pressStop, startRun, takeUpRun } from "./run.js";

/**
 * @typedef {import("../chats/model.js").Answer} Answer
 * @typedef {import("./run.js").Run} Run
 * @typedef {import("./run.js").RunListeners} RunListeners
 */

/**
 * The answers that this tab reads. All of it keeps its identity.
 * @param {import("react").Dispatch<import("../chats/reducer.js").Action>} dispatch
 * @param {ReturnType<typeof import("./use-access.js").useAccess>} access
 * @param {import("../../lib/llm-api.jsx").Resume} resume how an answer is read on
 */
export function useRuns(dispatch, access, resume) {
  const latestAccess = useLatest(access);
  // Never emptied of what is over: no answer is taken up twice.
  const runs = useRef(/** @type {Map<string, Run | null>} */ (new Map()));
  const views = useRef(/** @type {Map<string, import("../../lib/llm-api.jsx").View>} */ (new Map()));

  /** What a conversation is shown in. */
  const viewOf = useCallback((/** @type {string} */ conversationId) => {
    const view = views.current.get(conversationId) ?? createView(false);
    views.current.set(conversationId, view);
    return view;
  }, []);

  const show = useCallback(
    (/** @type {string | null} */ conversationId) => {
      views.current.forEach((view) => view.hide());
      if (conversationId !== null) {
        viewOf(conversationId).show();
      }
    },
    [viewOf],
  );

  const enter = useCallback(
    /**
     * @param {string} conversationId
     * @param {string} answerId
     * @param {(listeners: RunListeners, options: import("./run.js").RunOptions) => Run} begin
     */
    (conversationId, answerId, begin) => {
      const { token, refuse } = latestAccess.current;
      const which = () => ({ conversationId, answerId, now: Date.now() });
      /** @type {RunListeners} */
      const listeners = {
        onProgress: (progress) => dispatch({ type: "received", ...which(), progress }),
        onStopped: () => dispatch({ type: "stopped", ...which() }),
        onStopState: (stop) => dispatch({ type: "stopKnown", ...which(), stop }),
        onEnd: (end) => dispatch({ type: "ended", ...which(), end }),
        onUnauthorized: () => refuse(token),
      };
      const view = viewOf(conversationId);
      const run = begin(listeners, { headers: headersFor(token), resume, view });
      runs.current.set(answerId, run);
      run.done.finally(() => runs.current.set(answerId, null));
    },
    [dispatch, latestAccess, resume, viewOf],
  );

  const start = useCallback(
    /**
     * @param {string} conversationId
     * @param {string} answerId
     * @param {Record<string, unknown>} payload
     */
    (conversationId, answerId, payload) =>
      enter(conversationId, answerId, (listeners, options) =>
        startRun(answerId, payload, listeners, options),
      ),
    [enter],
  );

  /** Does nothing if this tab has the answer already, or has had it. */
  const takeUp = useCallback(
    (/** @type {string} */ conversationId, /** @type {Answer} */ answer) => {
      if (!runs.current.has(answer.id)) {
        enter(conversationId, answer.id, ({ onEnd, ...listeners }, options) =>
          takeUpRun(
            answer,
            {
              ...listeners,
              onEnd: (end) => onEnd(endOfTakenUp(end, !resume.reconnectSeconds, answer.status)),
            },
            options,
          ),
        );
      }
    },
    [enter, resume],
  );

  /** Go on with a Stop that was not confirmed when the page was left. */
  const stopAgain = useCallback(
    (/** @type {string} */ conversationId, /** @type {Answer} */ answer) => {
      if (!runs.current.has(answer.id)) {
        enter(conversationId, answer.id, (listeners, { headers = {} }) => ({
          stop: () => undefined,
          leave: () => undefined,
          done: pressStop(answer.id, listeners, { headers }),
        }));
      }
    },
    [enter],
  );

  /** Returns whether there was anything to stop. */
  const stop = useCallback((/** @type {string} */ answerId) => {
    const run = runs.current.get(answerId);
    run?.stop();
    return Boolean(run);
  }, []);

  const leave = useCallback((/** @type {string} */ answerId) => {
    runs.current.get(answerId)?.leave();
  }, []);

  return { start, takeUp, stop, stopAgain, leave, show };
}
