/**
 * Footnotes: `[^label]` in a line, and `[^label]: text` as a block.
 */

import { INTERRUPTS, isIndented, lineOf } from "./lines.js";

/**
 * @typedef {import("./lines.js").BlockState} BlockState
 * @typedef {import("./lines.js").BlockRule} BlockRule
 * @typedef {import("./lines.js").InlineRule} InlineRule
 */

const MARK = /\[\^([^\]\s]{1,100})\]/y;
const FOOTNOTE = /^\[\^([^\]\s]{1,100})\]:[ \t]*/;

/** @param {import("./lines.js").Parser} parser */
export function useFootnotes(parser) {
  parser.block.ruler.before("reference", "footnote", footnote, INTERRUPTS);
  parser.inline.ruler.before("link", "footnote", mark);
}

/**
 * `[^label]`, if there is such a footnote, or if one may still come.
 * @type {InlineRule}
 */
function mark(state, silent) {
  MARK.lastIndex = state.pos;
  const label = state.linkLevel === 0 ? MARK.exec(state.src)?.[1] : undefined;
  if (label === undefined || MARK.lastIndex > state.posMax) {
    return false;
  }
  const end = MARK.lastIndex;
  const footnotes = /** @type {Map<string, number>} */ (state.env.footnotes);
  const number = footnotes.get(label);
  if (number === undefined && !(state.env.mayBeDefined && /^\d+$/.test(label))) {
    return false;
  }
  if (!silent) {
    state.push("footnote_mark", "", 0).meta = { label, number };
  }
  state.pos = end;
  return true;
}

/**
 * `[^label]: text`, with the lines after it that are indented by four.
 * @type {BlockRule}
 */
function footnote(state, startLine, endLine, silent) {
  // One within another block is none, but it ends the paragraph that goes before it.
  const possible = silent || state.level === 0;
  const found = possible ? FOOTNOTE.exec(lineOf(state, startLine)) : null;
  if (found === null || isIndented(state, startLine)) {
    return false;
  }
  if (!silent) {
    const token = state.push("footnote_open", "", 1);
    token.map = [startLine, endLine];
    token.meta = { label: found[1] };
    takeMarkerOff(state, startLine, found[0].length);
    state.blkIndent += 4;
    state.line = startLine;
    state.md.block.tokenize(state, startLine, endLine);
    state.line = Math.max(state.line, startLine + 1);
    state.blkIndent -= 4;
    token.map[1] = state.line;
    state.push("footnote_close", "", -1);
  }
  return true;
}

/**
 * The line as if it began behind its marker, indented as its block is.
 * @param {BlockState} state
 * @param {number} line
 * @param {number} length
 */
function takeMarkerOff(state, line, length) {
  state.bMarks[line] = (state.bMarks[line] ?? 0) + (state.tShift[line] ?? 0) + length;
  state.tShift[line] = 0;
  state.sCount[line] = state.blkIndent + 4;
}
