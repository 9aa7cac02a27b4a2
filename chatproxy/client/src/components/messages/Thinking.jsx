import { useLanguage } from "../../i18n/current.js";
import { PlainText } from "../../markdown/PlainText.jsx";
import { useNow } from "../../state/hooks/use-now.js";
import { Disclosure } from "../parts/Disclosure.jsx";

/** @typedef {import("../../state/chats/model.js").Answer} Answer */

/**
 * The thinking before an answer: open while it goes on, then folded, unless the reader has chosen.
 * @param {{answer: Answer}} props
 */
export function Thinking({ answer }) {
  const language = useLanguage();
  const over = answer.thinkingMs !== undefined || answer.state !== "running";
  const summary = over ? (
    thoughtFor(language, answer)
  ) : (
    <ThinkingFor since={answer.thinkingSince ?? answer.startedAt} />
  );
  return (
    <Disclosure className="thinking" unfolded={!over} summary={summary}>
      {() => <PlainText text={answer.reasoning} final={over} />}
    </Disclosure>
  );
}

/** @param {{since: number}} props */
function ThinkingFor({ since }) {
  const { duration, say } = useLanguage();
  return say("thinkingFor", { time: duration(useNow() - since) });
}

/**
 * @param {import("../../i18n/language.js").Language} language
 * @param {Answer} answer
 */
function thoughtFor({ duration, say }, { thinkingMs }) {
  if (thinkingMs === undefined) {
    return say("thought");
  }
  return thinkingMs < 1000
    ? say("thoughtBriefly", { time: duration(1000) })
    : say("thoughtFor", { time: duration(thinkingMs) });
}
