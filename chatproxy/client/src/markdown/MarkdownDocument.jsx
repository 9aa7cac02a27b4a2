import { memo, useId, useMemo } from "react";

import { BlockElement } from "./Blocks.jsx";
import { parseBlocks } from "./parse-blocks.js";
import { Footnotes } from "./Footnotes.jsx";
import { EMPTY_PLAIN, footnotesOf } from "./growing-document.js";
import { Groups } from "./Groups.jsx";
import { PlainElement } from "./PlainText.jsx";
import { References } from "./references.js";
import { useGrowingDocument } from "./use-growing-document.js";

/** @type {import("./growing-document.js").GrowingDocument} */
export const EMPTY_MARKDOWN = { ...EMPTY_PLAIN, parse: parseBlocks };

/**
 * Markdown that may still grow. Only what has not settled is drawn again.
 * @param {{text: string, final: boolean}} props
 */
export function MarkdownDocument({ text, final }) {
  const document = useGrowingDocument(text, final, EMPTY_MARKDOWN);
  const footnotes = footnotesOf(document);
  return (
    <References value={useReferences(document, footnotes)}>
      <Groups document={document} as={TopBlock} />
      {footnotes.length > 0 && <Footnotes footnotes={footnotes} growing={!final} />}
    </References>
  );
}

/**
 * @param {import("./growing-document.js").GrowingDocument} document
 * @param {import("./parse-blocks.js").Footnote[]} footnotes
 */
function useReferences({ definitions, final }, footnotes) {
  const scope = useId();
  // No label has a space in it.
  const labels = footnotes.map(({ label }) => label).join(" ");
  return useMemo(
    () => ({
      definitions,
      footnotes: new Map(labels.split(" ").map((label, index) => [label, index + 1])),
      mayBeDefined: !final,
      scope,
    }),
    [definitions, labels, final, scope],
  );
}

const TopBlock = memo(
  /** @param {{block: import("./growing-document.js").Block, growing: boolean}} props */
  function TopBlock({ block, growing }) {
    return block.kind === "plain" ? (
      <PlainElement block={block} />
    ) : (
      <BlockElement block={block} place={{ dir: "auto", growing }} />
    );
  },
);
