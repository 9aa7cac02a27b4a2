import { receiptLine } from "../lib/sentences.js";
import { closingSentence } from "../state/answer.js";

/**
 * How an answer ended, where it did not simply finish.
 * @param {{answer: import("../state/model.js").Answer}} props
 */
export function AnswerNote({ answer }) {
  const sentence = closingSentence(answer);
  const receipt = answer.receipt ? receiptLine(answer.receipt) : "";
  if (!sentence) {
    return null;
  }
  return (
    <div className="note" data-note={answer.state}>
      <p>{sentence}</p>
      {receipt && (
        <p className="small-print" data-receipt="">
          {receipt}
        </p>
      )}
    </div>
  );
}
