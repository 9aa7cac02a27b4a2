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
 * @typedef {object} VirtualNode what KaTeX has before it makes elements
 * @property {Record<string, string>} [attributes]
 * @property {VirtualNode[]} [children]
 * @property {() => HTMLElement} toNode
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
    // Not `render`: it writes style attributes, which the page's policy forbids.
    const tree = /** @type {{__renderToDomTree: Function}} */ (
      /** @type {unknown} */ (katex)
    ).__renderToDomTree(tex, {
      displayMode: display,
      errorColor: "currentcolor",
      maxExpand: DEFINITION.test(tex) ? MOST_EXPANDED / tex.length : MOST_EXPANSIONS,
      maxSize: LARGEST,
      strict: "ignore",
      trust: false,
    });
    styleByTheDom(tree);
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
    cells += mark === "&" || mark === "\\\\" ? 1 : 0;
  }
  return deepest <= DEEPEST && cells <= MOST_CELLS;
}

/**
 * KaTeX sets most styles by the DOM, which is allowed, and a few as attributes. So those become the others.
 * @param {VirtualNode} node
 */
function styleByTheDom(node) {
  const { attributes, toNode } = node;
  const style = attributes?.style;
  if (style !== undefined) {
    delete attributes?.style;
    node.toNode = () => {
      const element = toNode.call(node);
      element.style.cssText = style;
      return element;
    };
  }
  node.children?.forEach(styleByTheDom);
}
