import { memo } from "react";

import { Markdown } from "../markdown/Markdown.jsx";
import { AnswerActions } from "./AnswerActions.jsx";
import { AnswerNote } from "./AnswerNote.jsx";
import { RunningStatus } from "./RunningStatus.jsx";
import { Thinking } from "./Thinking.jsx";

/**
 * One answer: its thinking, its text, and what is to be said about it.
 * @param {object} props
 * @param {import("../state/model.js").Answer} props.answer
 * @param {boolean} props.last
 * @param {(answerId: string) => void} props.onRegenerate
 */
function Message({ answer, last, onRegenerate }) {
  const running = answer.state === "running";
  return (
    <article
      className="message answer"
      data-role="assistant"
      data-state={answer.state}
      data-status={running ? answer.status : undefined}
      data-session-id={answer.id}
      aria-busy={running}
    >
      <h2 className="visually-hidden">DeepSeek</h2>
      {answer.reasoning && <Thinking answer={answer} />}
      <div className="answer-text">
        <Markdown text={answer.text} final={!running} />
      </div>
      {running ? <RunningStatus answer={answer} /> : <AnswerNote answer={answer} />}
      {!running && <AnswerActions answer={answer} last={last} onRegenerate={onRegenerate} />}
    </article>
  );
}

export const AnswerMessage = memo(Message);
