/**
 * What markdown-it's block rules ask about lines, and about what is around them.
 *
 * A block rule is given the lines that it may take, says whether a block begins at the first of them, and
 * (unless it is only asked, `silent`) pushes the block's tokens and moves `state.line` behind it. An
 * inline rule looks at `state.pos`, and does the same with what stands there. `env.growing` says that
 * the text has not ended: then what has no end may still get one, and is shown as what it is going to be.
 */

/**
 * @typedef {import("markdown-it").MarkdownIt} Parser
 * @typedef {import("markdown-it").StateBlock} BlockState
 * @typedef {import("markdown-it").StateInline} InlineState
 * @typedef {(state: BlockState, startLine: number, endLine: number, silent: boolean) => boolean} BlockRule
 * @typedef {(state: InlineState, silent: boolean) => boolean} InlineRule
 */

/** A block that ends a paragraph, a list or a quotation before it. */
export const INTERRUPTS = { alt: ["paragraph", "reference", "blockquote", "list"] };

/**
 * @param {BlockState} state
 * @param {string} type
 * @param {number} startLine
 * @param {number} endLine
 */
export function push(state, type, startLine, endLine) {
  const token = state.push(type, "", 0);
  token.map = [startLine, endLine];
  state.line = endLine;
  return token;
}

/**
 * @param {BlockState} state
 * @param {number} line
 */
export function lineOf(state, line) {
  return state.src.slice((state.bMarks[line] ?? 0) + (state.tShift[line] ?? 0), state.eMarks[line]);
}

/**
 * @param {BlockState} state
 * @param {number} startLine
 * @param {number} endLine
 */
export function linesOf(state, startLine, endLine) {
  return state.getLines(startLine, endLine, state.blkIndent, false);
}

/**
 * Whether the line is indented so far that it is code.
 * @param {BlockState} state
 * @param {number} line
 */
export function isIndented(state, line) {
  return (state.sCount[line] ?? 0) - state.blkIndent >= 4;
}

/**
 * Whether the line no longer belongs to the list's item, quotation or footnote around it.
 * @param {BlockState} state
 * @param {number} line
 */
export function endsContainer(state, line) {
  return !state.isEmpty(line) && (state.sCount[line] ?? 0) < state.blkIndent;
}

/** @param {BlockState} state */
export function lineCount(state) {
  return state.bMarks.length - 1;
}
