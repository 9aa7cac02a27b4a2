import { use } from "react";

import { useLanguage } from "../../i18n/current.js";
import { accountLine } from "../../lib/account-sentences.js";
import { shownModel } from "../../lib/models.js";
import { canGoOn } from "../../state/chats/answer.js";
import { ThreadContext } from "../../state/view/use-thread.js";
import { CopyButton } from "../parts/CopyButton.jsx";
import { Icon } from "../parts/Icon.jsx";
import { IconButton } from "../parts/IconButton.jsx";
import { Versions } from "./Versions.jsx";

/**
 * @param {object} props
 * @param {import("../../state/chats/model.js").Answer} props.answer
 * @param {boolean} props.last
 * @param {(answerId: string) => void} props.onRegenerate
 */
export function AnswerActions({ answer, last, onRegenerate }) {
  const language = useLanguage();
  const { date, say } = language;
  const account = accountLine(language, answer.account);
  const { busy, onChange } = use(ThreadContext);
  return (
    <div className="actions">
      <Versions messageId={answer.id} />
      {answer.text && <CopyButton text={answer.text} label={say("copyAnswer")} />}
      {last && <AskAgain answer={answer} onRegenerate={onRegenerate} />}
      {answer.text && !busy && (
        <IconButton
          icon="edit"
          label={say("editAnswer")}
          title={say("editAnswer")}
          onClick={() => onChange(answer.id)}
        />
      )}
      {last && canGoOn(answer) && <GoOn answerId={answer.id} />}
      {answer.model && <span className="small-print">{shownModel(answer.model)}</span>}
      <span className="small-print">{date(answer.startedAt)}</span>
      {account && <span className="small-print">{account}</span>}
      {answer.made && <span className="small-print">{say(`made.${answer.made}`)}</span>}
    </div>
  );
}

/**
 * @param {object} props
 * @param {import("../../state/chats/model.js").Answer} props.answer
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

/**
 * There are two ways to have an answer go on, and the button says which it is.
 * @param {{answerId: string}} props
 */
function GoOn({ answerId }) {
  const { say } = useLanguage();
  const { prefix, onGoOn } = use(ThreadContext);
  const way = prefix ? "text" : "question";
  return (
    <button
      type="button"
      className="button small"
      title={say(`goOnHint.${way}`, { question: say("goOnQuestion") })}
      onClick={() => onGoOn(answerId)}
    >
      <Icon name="right" />
      <span>{say(`goOn.${way}`)}</span>
    </button>
  );
}
