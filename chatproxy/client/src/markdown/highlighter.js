/** Highlighting by highlight.js, as a tree: lowlight. */

import { createLowlight } from "lowlight";

import { loadGrammars } from "./languages.js";

const lowlight = createLowlight();

/**
 * @param {string} name of a grammar
 * @returns {Promise<import("./growing-code.js").Highlight>}
 */
export async function highlighterFor(name) {
  for (const [each, grammar] of await loadGrammars(name)) {
    lowlight.register(each, grammar);
  }
  return (code, language = name) => lowlight.highlight(language, code);
}
