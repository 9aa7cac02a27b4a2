import { memo } from "react";

import { drawnGroups } from "../lib/growing-document.js";
import { useGrowingDocument } from "../state/use-growing-document.js";
import { Blocks } from "./MarkdownBlocks.jsx";

/**
 * @typedef {import("../lib/growing-document.js").Block} Block
 * @typedef {import("../lib/growing-document.js").GrowingDocument} GrowingDocument
 */

/**
 * The blocks of a text, in groups. Both are only ever added, so their place is their name.
 * @param {{text: string, final: boolean, empty: GrowingDocument}} props
 */
export function DocumentGroups({ text, final, empty }) {
  const document = useGrowingDocument(text, final, empty);
  return drawnGroups(document).map((blocks, index) => <Group key={index} blocks={blocks} />);
}

const Group = memo(
  /** @param {{blocks: Block[]}} props */
  function Group({ blocks }) {
    return (
      <div className="blocks">
        {blocks.map((block, index) => (
          <TopBlock key={index} block={block} />
        ))}
      </div>
    );
  },
);

const TopBlock = memo(
  /** @param {{block: Block}} props */
  function TopBlock({ block }) {
    return block.kind === "plain" ? (
      <div className="plain">{block.text}</div>
    ) : (
      <Blocks tokens={[block.token]} depth={0} />
    );
  },
);
