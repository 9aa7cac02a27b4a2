import { duration } from "../lib/sentences.js";
import { isUnreached } from "../state/answer.js";
import { useNow } from "../state/use-now.js";

const STALLED_AFTER_MS = 10_000;

/** @typedef {import("../state/model.js").Answer} Answer */

/**
 * What a running answer is doing, where its text does not show it.
 * @param {{answer: Answer}} props
 */
export function RunningStatus({ answer }) {
  const speaks = answer.status !== "answering" && answer.status !== "thinking";
  return (
    <p className="status" data-status-line={answer.status}>
      <span className="pulse" aria-hidden="true" />
      {speaks && (
        <span>
          <StatusText answer={answer} />
        </span>
      )}
    </p>
  );
}

/** @param {{answer: Answer}} props */
function StatusText({ answer }) {
  const now = useNow();
  const since = (/** @type {number} */ then) => duration(now - then);
  switch (answer.status) {
    case "queued":
      return `Not sent yet: waiting for a free connection, ${since(answer.startedAt)}`;
    case "upstream_queued":
      return `Queued at DeepSeek, ${since(answer.startedAt)}`;
    case "stalled":
      return `Stalled: nothing has come for ${since(answer.statusSince - STALLED_AFTER_MS)}`;
    case "reconnecting":
      return isUnreached(answer)
        ? `No connection to the server: trying again, ${since(answer.startedAt)}`
        : `Reconnecting: the connection was lost ${since(answer.statusSince)} ago`;
    default:
      return `Waiting for DeepSeek, ${since(answer.startedAt)}`;
  }
}
