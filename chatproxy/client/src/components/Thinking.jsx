import { useState } from "react";

import { useLanguage } from "../i18n/current.js";
import { PlainText } from "../markdown/PlainText.jsx";
import { useNow } from "../state/use-now.js";
import { Icon } from "./Icon.jsx";

/** @typedef {import("../state/model.js").Answer} Answer */

/**
 * The thinking before an answer: open while it goes on, then folded, unless the reader has chosen.
 * Its text is drawn only while it is unfolded.
 * @param {{answer: Answer}} props
 */
export function Thinking({ answer }) {
  const language = useLanguage();
  const [chosen, setChosen] = useState(/** @type {boolean | null} */ (null));
  const over = answer.thinkingMs !== undefined || answer.state !== "running";
  const open = chosen ?? !over;

  /** @param {import("react").ToggleEvent<HTMLDetailsElement>} event */
  function handleToggle({ currentTarget }) {
    // The page itself has set what is as it should be.
    if (currentTarget.open !== open) {
      setChosen(currentTarget.open);
    }
  }

  return (
    <details className="thinking" open={open} onToggle={handleToggle}>
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
