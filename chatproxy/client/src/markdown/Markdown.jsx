import { onDemand, useOnDemand } from "./on-demand.js";
import { PlainText } from "./PlainText.jsx";

const renderer = onDemand(() => import("./MarkdownDocument.jsx"));

/**
 * Markdown that may still grow. What draws it is loaded with the first answer; until then its source
 * is shown.
 * @param {{text: string, final: boolean}} props
 */
export function Markdown({ text, final }) {
  const loaded = useOnDemand(renderer);
  return loaded ? (
    <loaded.MarkdownDocument text={text} final={final} />
  ) : (
    <PlainText text={text} final={final} />
  );
}
