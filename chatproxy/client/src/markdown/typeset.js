/**
 * Formulas by KaTeX. What a formula may do is bounded: its length, how deep it is nested and how many cells
 * it has, which cost most, how often it expands macros (its own above all, which may be long), and
 * the sizes that it names; it may load, link to and style nothing.
 */

import katex from "katex";
import "katex/contrib/mhchem";
import "katex/dist/katex.min.css";

/** In characters. A longer formula is shown as its source. */
const LONGEST = 4000;
const DEEPEST = 40;
const MOST_CELLS = 500;
/** In ems: what `\rule` and its like may ask for. */
const LARGEST = 20;
const MOST_EXPANSIONS = 1000;
/** How much text the macros that a formula defines may expand to, about. */
const MOST_EXPANDED = 20_000;
const MARK = /\\(?:[a-z]+|.)|[{}&]/gi;
const OPENINGS = new Set(["{", "\\left", "\\begin"]);
const CLOSINGS = new Set(["}", "\\right", "\\end"]);
const DEFINITION = /\\(?:[egx]?def|(?:future)?let|global|(?:re|provide)?(?:new)?command)(?![a-z])/i;

/**
 * @typedef {{attributes?: Record<string, string>, children?: VirtualNode[], toNode(): Node}} VirtualNode
 *   what KaTeX has before it makes elements
 */

/**
 * @param {string} tex
 * @param {boolean} display
 * @returns {Node | null} null if KaTeX can't make anything of it
 */
export function typeset(tex, display) {
  if (!isModest(tex)) {
    return null;
  }
  try {
    // Not `render`: it writes attributes that the page's policy forbids, and reports.
    const tree = /** @type {{__renderToDomTree: Function}} */ (
      /** @type {unknown} */ (katex)
    ).__renderToDomTree(tex, {
      displayMode: display,
      maxExpand: DEFINITION.test(tex) ? MOST_EXPANDED / tex.length : MOST_EXPANSIONS,
      maxSize: LARGEST,
      strict: "ignore",
      trust: false,
    });
    dropStyleAttributes(tree);
    return tree.toNode();
  } catch {
    return null;
  }
}

/** @param {string} tex */
function isModest(tex) {
  if (tex.length > LONGEST) {
    return false;
  }
  let depth = 0;
  let deepest = 0;
  let cells = 0;
  for (const [mark] of tex.matchAll(MARK)) {
    depth += (OPENINGS.has(mark) ? 1 : 0) - (CLOSINGS.has(mark) ? 1 : 0);
    deepest = Math.max(deepest, depth);
    cells += mark === "&" ? 1 : 0;
  }
  return deepest <= DEEPEST && cells <= MOST_CELLS;
}

/**
 * KaTeX sets styles by the DOM, but for a few attributes. Those say what the element around says too
 * (the width of a drawing), or are in the MathML, which is for screen readers.
 * @param {VirtualNode} node
 */
function dropStyleAttributes(node) {
  delete node.attributes?.style;
  node.children?.forEach(dropStyleAttributes);
}
