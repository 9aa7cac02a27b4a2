import { memo } from "react";

import { useLanguage } from "../i18n/current.js";
import { CopyButton } from "./CopyButton.jsx";

const LINES_IN_A_PART = 100;

/**
 * Code with a button to copy it. Long code is drawn in parts, so that its growth draws one of them.
 * @param {{text: string, language: string}} props
 */
export function CodeBlock({ text, language }) {
  const { say } = useLanguage();
  const name = language.split(/\s/, 1)[0] ?? "";
  return (
    <div className="code">
      <div className="code-head">
        <span>{name || say("codeLabel")}</span>
        <CopyButton text={text} label={say("copyCode")} />
      </div>
      <div
        className="code-box"
        role="group"
        aria-label={say("codeIn", { language: name }).trim()}
        tabIndex={0}
      >
        <pre>
          <code>
            {partsOf(text).map((part, index) => (
              <Part key={index} text={part} />
            ))}
          </code>
        </pre>
      </div>
    </div>
  );
}

const Part = memo(
  /** @param {{text: string}} props */
  function Part({ text }) {
    return <span className="code-part">{text}</span>;
  },
);

/** @param {string} text */
function partsOf(text) {
  const parts = [];
  let begin = 0;
  let lines = 0;
  for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", end + 1)) {
    lines += 1;
    if (lines === LINES_IN_A_PART) {
      parts.push(text.slice(begin, end));
      begin = end + 1;
      lines = 0;
    }
  }
  parts.push(text.slice(begin));
  return parts;
}
