import { memo, use } from "react";

import { useLanguage } from "../../i18n/current.js";
import { Markdown } from "../../markdown/Markdown.jsx";
import { useArrival } from "../../state/view/use-arrival.js";
import { ThreadContext } from "../../state/view/use-thread.js";
import { AnswerActions } from "./AnswerActions.jsx";
import { AnswerEditor } from "./AnswerEditor.jsx";
import { AnswerNote } from "./AnswerNote.jsx";
import { RunningStatus } from "./RunningStatus.jsx";
import { RunSteps } from "./RunSteps.jsx";
import { Thinking } from "./Thinking.jsx";

/**
 * One answer: its thinking, its text, and what is to be said about it.
 * @param {object} props
 * @param {import("../../state/chats/model.js").Answer} props.answer
 * @param {boolean} props.last
 * @param {(answerId: string) => void} props.onRegenerate
 */
function Message({ answer, last, onRegenerate }) {
  const { say } = useLanguage();
  const running = answer.state === "running";
  const changed = use(ThreadContext).changedAnswerId === answer.id;
  const element = useArrival(answer.id);
  return (
    <article
      ref={element}
      className="message answer"
      data-role="assistant"
      data-state={answer.state}
      data-status={running ? answer.status : undefined}
      data-session-id={answer.id}
      aria-busy={running}
    >
      <h2 className="visually-hidden">{say("assistant")}</h2>
      {answer.steps && <RunSteps answer={answer} steps={answer.steps} />}
      {answer.reasoning && <Thinking answer={answer} />}
      {changed ? (
        <AnswerEditor />
      ) : (
        <div className="answer-text">
          <Markdown text={answer.text} final={!running} />
        </div>
      )}
      {running ? <RunningStatus answer={answer} /> : <AnswerNote answer={answer} />}
      {!running && !changed && (
        <AnswerActions answer={answer} last={last} onRegenerate={onRegenerate} />
      )}
    </article>
  );
}

export const AnswerMessage = memo(Message);
