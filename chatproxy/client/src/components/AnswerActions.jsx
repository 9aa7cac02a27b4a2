import { useLanguage } from "../i18n/current.js";
import { CopyButton } from "./CopyButton.jsx";
import { Icon } from "./Icon.jsx";

/**
 * @param {object} props
 * @param {import("../state/model.js").Answer} props.answer
 * @param {boolean} props.last
 * @param {(answerId: string) => void} props.onRegenerate
 */
export function AnswerActions({ answer, last, onRegenerate }) {
  const { say } = useLanguage();
  return (
    <div className="actions">
      {answer.text && <CopyButton text={answer.text} label={say("copyAnswer")} />}
      {last && <AskAgain answer={answer} onRegenerate={onRegenerate} />}
      {answer.model && <span className="small-print">{answer.model}</span>}
    </div>
  );
}

/**
 * @param {object} props
 * @param {import("../state/model.js").Answer} props.answer
 * @param {(answerId: string) => void} props.onRegenerate
 */
function AskAgain({ answer, onRegenerate }) {
  const { say } = useLanguage();
  const missed = answer.state === "failed" || answer.state === "cut_off";
  return (
    <button
      type="button"
      className={missed ? "button small" : "icon-button"}
      aria-label={missed ? undefined : say("regenerateAnswer")}
      title={missed ? undefined : say("askAgain")}
      onClick={() => onRegenerate(answer.id)}
    >
      <Icon name="again" />
      {missed && <span>{say("tryAgain")}</span>}
    </button>
  );
}
