import { EMPTY_PLAIN } from "../lib/growing-document.js";
import { DocumentGroups } from "./DocumentGroups.jsx";

/**
 * Text as it is, with its line breaks. It may be very long, and grow.
 * @param {{text: string, final: boolean}} props
 */
export function PlainText({ text, final }) {
  return <DocumentGroups text={text} final={final} empty={EMPTY_PLAIN} />;
}
