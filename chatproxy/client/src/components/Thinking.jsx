import { useState } from "react";

import { duration } from "../lib/sentences.js";
import { PlainText } from "../markdown/PlainText.jsx";
import { useNow } from "../state/use-now.js";
import { Icon } from "./Icon.jsx";

/** @typedef {import("../state/model.js").Answer} Answer */

/**
 * The thinking before an answer, folded. Its text is drawn only where it is unfolded.
 * @param {{answer: Answer}} props
 */
export function Thinking({ answer }) {
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
          <span>{thoughtFor(answer)}</span>
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
  return `Thinking… ${duration(useNow() - since)}`;
}

/** @param {Answer} answer */
function thoughtFor({ thinkingMs }) {
  if (thinkingMs === undefined) {
    return "Thought";
  }
  return thinkingMs < 1000 ? "Thought for under 1 s" : `Thought for ${duration(thinkingMs)}`;
}
