import { grammarNamed } from "./languages.js";
import { onDemand, useOnDemand } from "./on-demand.js";

/**
 * @typedef {import("./growing-code.js").Highlight} Highlight
 * @typedef {import("./on-demand.js").OnDemand<Highlight>} HighlighterOnDemand
 */

/** @type {Map<string, HighlighterOnDemand>} */
const highlighters = new Map();
/** @type {HighlighterOnDemand} */
const NONE = { subscribe: () => () => {}, get: () => null };

/**
 * @param {string} language as behind a fence
 * @returns {Highlight | null} null until it is there, and if there is none
 */
export function useHighlighter(language) {
  return useOnDemand(highlighterOf(grammarNamed(language)));
}

/** @param {string | undefined} name of a grammar */
function highlighterOf(name) {
  if (name === undefined) {
    return NONE;
  }
  let highlighter = highlighters.get(name);
  if (highlighter === undefined) {
    highlighter = onDemand(async () => (await import("./highlighter.js")).highlighterFor(name));
    highlighters.set(name, highlighter);
  }
  return highlighter;
}
