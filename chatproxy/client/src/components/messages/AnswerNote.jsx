import { useLanguage } from "../../i18n/current.js";
import { savedLine } from "../../lib/account-sentences.js";
import { leftBehindLine, serversOwnWords, stopLine, stoppedLine } from "../../lib/sentences.js";
import { closingSentence } from "../../state/chats/answer.js";
import { stoppedNames } from "../../state/chats/steps.js";

/**
 * How an answer ended, if it did not simply finish, and what is known about its Stop.
 * @param {{answer: import("../../state/chats/model.js").Answer}} props
 */
export function AnswerNote({ answer }) {
  const language = useLanguage();
  const sentence = closingSentence(language, answer);
  const smallPrint = stopLine(language, answer);
  const detail = serversOwnWords(language, answer.error);
  const more = [
    stoppedLine(language, stoppedNames(answer)),
    leftBehindLine(language, answer.receipt?.leftBehind),
    answer.state === "stopped" ? savedLine(language, answer.account) : "",
  ].filter(Boolean);
  if (!sentence) {
    return null;
  }
  return (
    <div className="note" data-note={answer.state}>
      <p>{sentence}</p>
      {detail && (
        <p className="small-print" lang="en">
          {detail}
        </p>
      )}
      {smallPrint && (
        <p className="small-print" data-stop={answer.stop}>
          {smallPrint}
        </p>
      )}
      {more.map((line) => (
        <p key={line} className="small-print">
          {line}
        </p>
      ))}
    </div>
  );
}
