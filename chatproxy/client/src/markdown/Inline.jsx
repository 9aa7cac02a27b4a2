import { memo, use } from "react";

import { FootnoteMark } from "./Footnotes.jsx";
import { Formula } from "./Formula.jsx";
import { LONGEST_LINE } from "./growing-document.js";
import { NO_REFERENCES, References } from "./references.js";
import { safeLink } from "./safe-link.js";
import { parseSpans } from "./parse-spans.js";

/**
 * @typedef {import("./parse-spans.js").Span} Span
 * @typedef {import("react").ReactNode} ReactNode
 */

/**
 * What stands in a paragraph, a heading or a cell. It is parsed when it is drawn, and not again before
 * its source changes: a block that grows costs what has changed in it.
 */
export const Inline = memo(
  /** @param {{text: string, growing?: boolean | undefined}} props */
  function Inline({ text, growing = false }) {
    const references = text.includes("[") ? use(References) : NO_REFERENCES;
    if (text.length > LONGEST_LINE) {
      return <span className="as-text">{text}</span>;
    }
    return <Spans spans={parseSpans(text, references, growing)} />;
  },
);

/** @param {{spans: Span[]}} props */
function Spans({ spans }) {
  return spans.map((span, index) =>
    typeof span === "string" ? span : <Piece key={index} span={span} />,
  );
}

/** @param {{span: Exclude<Span, string>}} props */
function Piece({ span }) {
  switch (span.kind) {
    case "break":
      return <br />;
    case "code":
      return <code dir="ltr">{span.text}</code>;
    case "formula":
      return <Formula tex={span.tex} display={span.display} closed={span.closed} />;
    case "footnote":
      return <FootnoteMark label={span.label} number={span.number} />;
    case "link":
      return <Link span={span} />;
    case "tag":
      return (
        <span.tag>
          <Spans spans={span.children} />
        </span.tag>
      );
    default:
      return <Spans spans={span.children} />;
  }
}

/**
 * A link that can do no harm, or else only its text. Images are links too: fetching one would tell
 * its server who reads the answer.
 * @param {{span: Extract<Span, {kind: "link"}>}} props
 */
function Link({ span }) {
  const href = safeLink(span.href);
  const inner = <Spans spans={span.children} />;
  if (href === null) {
    return inner;
  }
  return (
    <a href={href} target="_blank" rel="noopener noreferrer" title={span.title || undefined}>
      {inner}
    </a>
  );
}
