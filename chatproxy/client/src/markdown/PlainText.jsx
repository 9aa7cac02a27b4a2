import { memo } from "react";

import { EMPTY_PLAIN } from "./growing-document.js";
import { Groups } from "./Groups.jsx";
import { useGrowingDocument } from "./use-growing-document.js";

/**
 * Text as it is, with its line breaks. It may be very long, and grow.
 * @param {{text: string, final: boolean}} props
 */
export function PlainText({ text, final }) {
  return <Groups document={useGrowingDocument(text, final, EMPTY_PLAIN)} as={PlainElement} />;
}

/** A block of text that is shown as it is. */
export const PlainElement = memo(
  /** @param {{block: import("./growing-document.js").Block}} props */
  function PlainElement({ block }) {
    return (
      <div className="plain" dir="auto">
        {block.kind === "plain" && block.text}
      </div>
    );
  },
);
