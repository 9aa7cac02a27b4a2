import { memo } from "react";

import { drawnGroups } from "./growing-document.js";

/**
 * @typedef {import("./growing-document.js").Block} Block
 * @typedef {import("react").ComponentType<{block: Block, growing: boolean}>} BlockComponent
 */

/**
 * The blocks of a text, in groups. Both are only ever added, so their place is their name.
 * @param {object} props
 * @param {import("./growing-document.js").GrowingDocument} props.document
 * @param {BlockComponent} props.as what draws a block; it is drawn again if the block is another one
 */
export function Groups({ document, as }) {
  const groups = drawnGroups(document);
  return groups.map((blocks, index) => (
    <Group
      key={index}
      blocks={blocks}
      growing={!document.final && index === groups.length - 1}
      as={as}
    />
  ));
}

const Group = memo(
  /** @param {{blocks: Block[], growing: boolean, as: BlockComponent}} props */
  function Group({ blocks, growing, as: Component }) {
    return (
      <div className="blocks">
        {blocks.map((block, index) => (
          <Component key={index} block={block} growing={growing && index === blocks.length - 1} />
        ))}
      </div>
    );
  },
);
