import { use } from "react";

import { canGoOn } from "../state/answer.js";
import { ThreadContext } from "../state/use-thread.js";
import { CopyButton } from "./CopyButton.jsx";
import { Icon } from "./Icon.jsx";
import { Versions } from "./Versions.jsx";

const CHANGE = "Edit answer";
/** Two ways to have an answer go on; the page says which it is. */
const GO_ON = {
  prefix: { label: "Continue", title: "The model goes on with this text, in another version of it" },
  question: { label: "Ask to continue", title: "Sends “Continue.” as your next message" },
};
const MADE = { continued: "continued from an earlier version", edited: "edited by you" };

/**
 * @param {object} props
 * @param {import("../state/model.js").Answer} props.answer
 * @param {boolean} props.last
 * @param {(answerId: string) => void} props.onRegenerate
 */
export function AnswerActions({ answer, last, onRegenerate }) {
  const { onChange } = use(ThreadContext);
  return (
    <div className="actions">
      <Versions messageId={answer.id} />
      {answer.text && <CopyButton text={answer.text} label="Copy answer" />}
      {last && <AskAgain answer={answer} onRegenerate={onRegenerate} />}
      {answer.text && (
        <button
          type="button"
          className="icon-button"
          aria-label={CHANGE}
          title={CHANGE}
          onClick={() => onChange(answer.id)}
        >
          <Icon name="edit" />
        </button>
      )}
      {last && canGoOn(answer) && <GoOn answerId={answer.id} />}
      {answer.model && <span className="small-print">{answer.model}</span>}
      {answer.made && <span className="small-print">{MADE[answer.made]}</span>}
    </div>
  );
}

/**
 * @param {object} props
 * @param {import("../state/model.js").Answer} props.answer
 * @param {(answerId: string) => void} props.onRegenerate
 */
function AskAgain({ answer, onRegenerate }) {
  const missed = answer.state === "failed" || answer.state === "cut_off";
  return (
    <button
      type="button"
      className={missed ? "button small" : "icon-button"}
      aria-label={missed ? undefined : "Regenerate answer"}
      title={missed ? undefined : "Ask again"}
      onClick={() => onRegenerate(answer.id)}
    >
      <Icon name="again" />
      {missed && <span>Try again</span>}
    </button>
  );
}

/** @param {{answerId: string}} props */
function GoOn({ answerId }) {
  const { prefix, onGoOn } = use(ThreadContext);
  const { label, title } = prefix ? GO_ON.prefix : GO_ON.question;
  return (
    <button type="button" className="button small" title={title} onClick={() => onGoOn(answerId)}>
      <Icon name="right" />
      <span>{label}</span>
    </button>
  );
}
