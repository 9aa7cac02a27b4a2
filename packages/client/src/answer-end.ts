/** How an answer ends, put together as it becomes known. No I/O. */

import { accountIn } from "./account.js";
import type { AnswerEnd, AnswerOutcome, StreamListeners } from "./answer.js";
import { failure, type AnswerError } from "./errors.js";
import { asText, type Unchecked } from "./json.js";

export function createEnding({ onAccount }: StreamListeners, events: number) {
  let details: Partial<AnswerEnd> = {};
  let stopped = false;

  function over(outcome: AnswerOutcome): AnswerEnd {
    return { ...details, outcome, events };
  }

  function learn(more: Partial<AnswerEnd>) {
    details = { ...details, ...more };
  }

  /** What it came to, from an event that may say so. */
  function settle(said: Unchecked) {
    const account = accountIn(said);
    if (account) {
      learn({ account });
      onAccount?.(account);
    }
  }

  return {
    over,
    learn,
    settle,
    count: () => (events += 1),
    /** The server's word that it was stopped. */
    stop(said: Unchecked) {
      stopped = true;
      learn(stopOf(said));
      settle(said);
    },
    isStopped: () => stopped,
    fail(error: Unchecked): AnswerEnd {
      const message = asText(error?.message) || "The answer failed.";
      return failure({ message, code: asText(error?.code) || "upstream_failed" }, events);
    },
    cutOff: (error: AnswerError): AnswerEnd => ({ ...over("cut_off"), error }),
  };
}

/** Why it was stopped, and what of a run. */
function stopOf(said: Unchecked): Partial<AnswerEnd> {
  const { reason, calls, leftBehind } = said ?? {};
  return {
    ...(asText(reason) && { reason }),
    ...(Array.isArray(calls) && { calls }),
    ...(Array.isArray(leftBehind) && { leftBehind }),
  };
}
