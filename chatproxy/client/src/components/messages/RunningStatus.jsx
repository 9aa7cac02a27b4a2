import { useLanguage } from "../../i18n/current.js";
import { isUnreached, shownStatus } from "../../state/chats/answer.js";
import { useNow } from "../../state/hooks/use-now.js";

const STALLED_AFTER_MS = 10_000;

/** @typedef {import("../../state/chats/model.js").Answer} Answer */

/**
 * What a running answer is doing, if its text does not show it.
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
  const { startedAt, statusSince } = answer;
  const { duration, say } = useLanguage();
  const now = useNow();
  const since = (/** @type {number} */ then) => ({ time: duration(now - then) });
  const shown = shownStatus(answer);
  switch (shown) {
    case "queued":
    case "upstream_queued":
    case "working":
      return say(`status.${shown}`, since(startedAt));
    case "stalled":
      return say("status.stalled", since(statusSince - STALLED_AFTER_MS));
    case "reconnecting":
      return isUnreached(answer)
        ? say("status.unreached", since(startedAt))
        : say("status.reconnecting", since(statusSince));
    default:
      return say("status.waiting", since(startedAt));
  }
}
