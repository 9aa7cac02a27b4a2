import { useState } from "react";

import { useLanguage } from "../i18n/current.js";
import { useNow } from "../state/use-now.js";
import { Icon } from "./Icon.jsx";
import { PlainText } from "./PlainText.jsx";

/** @typedef {import("../state/model.js").Answer} Answer */

/**
 * The thinking before an answer, folded. Its text is drawn only where it is unfolded.
 * @param {{answer: Answer}} props
 */
export function Thinking({ answer }) {
  const language = useLanguage();
  const [open, setOpen] = useState(false);
  const over = answer.thinkingMs !== undefined || answer.state !== "running";
  return (
    <details
      className="thinking"
      open={open}
      onToggle={(event) => setOpen(event.currentTarget.open)}
    >
      <summary>
        <Icon name="down" />
        {over ? (
          <span>{thoughtFor(language, answer)}</span>
        ) : (
          <span>
            <ThinkingFor since={answer.thinkingSince ?? answer.startedAt} />
          </span>
        )}
      </summary>
      {open && (
        <div className="thinking-text">
          <PlainText text={answer.reasoning} final={over} />
        </div>
      )}
    </details>
  );
}

/** @param {{since: number}} props */
function ThinkingFor({ since }) {
  const { duration, say } = useLanguage();
  return say("thinkingFor", { time: duration(useNow() - since) });
}

/**
 * @param {import("../i18n/language.js").Language} language
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
