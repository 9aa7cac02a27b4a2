import { stopLine } from "../lib/sentences.js";
import { closingSentence } from "../state/answer.js";

/**
 * How an answer ended, if it did not simply finish, and what is known about its Stop.
 * @param {{answer: import("../state/model.js").Answer}} props
 */
export function AnswerNote({ answer }) {
  const sentence = closingSentence(answer);
  const smallPrint = stopLine(answer);
  if (!sentence) {
    return null;
  }
  return (
    <div className="note" data-note={answer.state}>
      <p>{sentence}</p>
      {smallPrint && (
        <p className="small-print" data-stop={answer.stop}>
          {smallPrint}
        </p>
      )}
    </div>
  );
}
