import { memo, useState } from "react";

import { CopyButton } from "../components/parts/CopyButton.jsx";
import { useLanguage } from "../i18n/current.js";
import { Diagram } from "./Diagram.jsx";
import { growCode, LONGEST_PART, NO_CODE, partsOf } from "./growing-code.js";
import { useHighlighter } from "./use-highlighter.js";

/**
 * @typedef {import("./growing-code.js").Highlight} Highlight
 * @typedef {import("./growing-code.js").Content} Content
 */

/**
 * Code with a button to copy it; a Mermaid diagram as its code or as a picture. The name of a language
 * counts when its line has ended.
 * @param {{text: string, language: string, growing: boolean}} props
 */
export function CodeBlock({ text, language, growing }) {
  const { say } = useLanguage();
  const [drawn, setDrawn] = useState(false);
  const name = growing && text === "" ? "" : nameOf(language);
  const isDiagram = name.toLowerCase() === "mermaid" && !growing;
  return (
    <div className="code" dir="ltr">
      <div className="code-head">
        <span>{name || say("codeLabel")}</span>
        {isDiagram && (
          <button type="button" className="text-button" onClick={() => setDrawn(!drawn)}>
            {say(drawn ? "showCode" : "showDiagram")}
          </button>
        )}
        <CopyButton text={text} label={say("copyCode")} />
      </div>
      {isDiagram && drawn ? (
        <Diagram source={text} />
      ) : (
        <Code text={text} name={name} />
      )}
    </div>
  );
}

/**
 * The name of the language. The line of the fence may hold more.
 * @param {string} language
 */
function nameOf(language) {
  return /^[\w+#.-]*/.exec(language)?.[0] ?? "";
}

/** @param {{text: string, name: string}} props */
function Code({ text, name }) {
  const { say } = useLanguage();
  const highlight = useHighlighter(name);
  const parts = useParts(text, highlight);
  return (
    <div
      className="code-box"
      role="group"
      aria-label={say("codeIn", { language: name }).trim()}
      tabIndex={0}
    >
      <pre>
        <code>
          {parts.map((part, index) => (
            <CodePart key={index} text={part.text} language={part.language} highlight={highlight} />
          ))}
        </code>
      </pre>
    </div>
  );
}

/**
 * @param {string} text
 * @param {Highlight | null} highlight
 */
function useParts(text, highlight) {
  const [code, setCode] = useState(() => growCode(NO_CODE, text, highlight));
  if (code.text === text && code.highlight === highlight) {
    return partsOf(code);
  }
  const grown = growCode(code, text, highlight);
  setCode(grown);
  return partsOf(grown);
}

const CodePart = memo(
  /** @param {{text: string, language: string | undefined, highlight: Highlight | null}} props */
  function CodePart({ text, language, highlight }) {
    const isShort = text.length <= LONGEST_PART;
    return (
      <span className="code-part">
        {highlight && isShort ? highlight(text, language).children.map(element) : text}
      </span>
    );
  },
);

/**
 * @param {Content} content
 * @param {number} index
 * @returns {import("react").ReactNode}
 */
function element(content, index) {
  if (content.type === "text") {
    return content.value;
  }
  if (content.type !== "element") {
    return null;
  }
  const names = content.properties.className;
  return (
    <span key={index} className={Array.isArray(names) ? names.join(" ") : undefined}>
      {content.children.map(element)}
    </span>
  );
}
