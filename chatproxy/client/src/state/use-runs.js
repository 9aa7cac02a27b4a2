import { useCallback, useRef } from "react";

import { headersFor } from "./access.js";
import { endOfTakenUp } from "./answer.js";
import { startRun, takeUpRun } from "./run.js";
import { useLatest } from "./use-latest.js";

/**
 * @typedef {import("./model.js").Answer} Answer
 * @typedef {import("./run.js").Run} Run
 * @typedef {import("./run.js").RunListeners} RunListeners
 */

/**
 * The answers that this tab reads. All of it keeps its identity.
 * @param {import("react").Dispatch<import("./reducer.js").Action>} dispatch
 * @param {ReturnType<typeof import("./use-access.js").useAccess>} access
 * @param {number} grace seconds for which the server lets an answer go on without a reader
 */
export function useRuns(dispatch, access, grace) {
  const latestAccess = useLatest(access);
  // Never emptied of what is over: no answer is taken up twice.
  const runs = useRef(/** @type {Map<string, Run | null>} */ (new Map()));

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
        onReceipt: (receipt) => dispatch({ type: "receipted", ...which(), receipt }),
        onEnd: (end) => dispatch({ type: "ended", ...which(), end }),
        onUnauthorized: () => refuse(token),
      };
      const run = begin(listeners, { headers: headersFor(token), grace });
      runs.current.set(answerId, run);
      run.done.finally(() => runs.current.set(answerId, null));
    },
    [dispatch, latestAccess, grace],
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

  /** Does nothing where this tab has the answer already, or has had it. */
  const takeUp = useCallback(
    (/** @type {string} */ conversationId, /** @type {Answer} */ answer) => {
      if (!runs.current.has(answer.id)) {
        enter(conversationId, answer.id, ({ onEnd, ...listeners }, options) =>
          takeUpRun(
            answer,
            { ...listeners, onEnd: (end) => onEnd(endOfTakenUp(end, grace === 0)) },
            options,
          ),
        );
      }
    },
    [enter, grace],
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

  return { start, takeUp, stop, leave };
}
