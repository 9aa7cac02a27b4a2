import { EMPTY_MARKDOWN } from "../lib/growing-document.js";
import { DocumentGroups } from "./DocumentGroups.jsx";

/**
 * Markdown that may still grow. Only what has not settled is drawn again.
 * @param {{text: string, final: boolean}} props
 */
export function Markdown({ text, final }) {
  return <DocumentGroups text={text} final={final} empty={EMPTY_MARKDOWN} />;
}
