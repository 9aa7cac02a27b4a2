/**
 * The blocks that our Markdown has beyond CommonMark and GFM's tables, as rules for markdown-it's
 * block parser: formulas, `<details>`, footnotes; and how deep blocks may be nested.
 *
 * A rule is given the lines that it may take, says whether a block begins at the first of them, and
 * (unless it is only asked, `silent`) pushes the block's tokens and moves `state.line` behind it.
 * `state.env.growing` says that the text has not ended: then a block without an end may still get
 * one, and is shown as what it is going to be.
 */

import { indexOfCloser } from "./inline-rules.js";

/**
 * @typedef {import("markdown-it").StateBlock} State
 * @typedef {(state: State, startLine: number, endLine: number, silent: boolean) => boolean} Rule
 */

/** Deeper nesting than this is shown as text. A list's item is two levels deeper than the list. */
const DEEPEST = 20;
/** How many lines a formula may have. */
const LONGEST_FORMULA = 200;
/** In how many lines `<details>` and its `<summary>` have to fit. */
const LONGEST_SUMMARY = 6;

/** @type {Record<string, string>} */
const CLOSERS = { $$: "$$", "\\[": "\\]" };
const REST_OF_FORMULA = /^[.,;:。，；]?\s*$/;
const FENCE = /^(?:`{3,}|~{3,})/;
const DETAILS = /^<details(?=[\s>])/i;
const END_OF_DETAILS = /^<\/details>\s*$/i;
const OPENING = /^<details(\s[^>]*)?>/i;
const SUMMARY = /^\s*<summary(?:\s[^>]*)?>([\s\S]*?)(?:<\/summary>|$)/i;
const FOOTNOTE = /^\[\^([^\]\s]{1,100})\]:[ \t]*/;

/** @param {import("markdown-it").MarkdownIt} parser */
export function useBlockRules(parser) {
  const interrupts = { alt: ["paragraph", "reference", "blockquote", "list"] };
  const rules = parser.block.ruler;
  rules.before("table", "too_deep", tooDeep);
  rules.before("table", "formula", formula, interrupts);
  rules.before("html_block", "details", details, interrupts);
  rules.before("reference", "footnote", footnote, interrupts);
}

/** @type {Rule} */
function tooDeep(state, startLine, endLine) {
  if (state.level < DEEPEST) {
    return false;
  }
  let end = startLine + 1;
  while (end < endLine && !endsContainer(state, end)) {
    end += 1;
  }
  push(state, "html_block", startLine, end).content = linesOf(state, startLine, end);
  return true;
}

/**
 * `$$ … $$` and `\[ … \]`, if nothing else stands in their lines, but a full stop, say. An empty line
 * belongs to the formula only if its opening stands alone.
 * @type {Rule}
 */
function formula(state, startLine, endLine, silent) {
  const closer = CLOSERS[lineOf(state, startLine).slice(0, 2)];
  if (closer === undefined || isIndented(state, startLine)) {
    return false;
  }
  const end = endOfFormula(state, startLine, endLine, closer);
  if (end === null) {
    return false;
  }
  const source = linesOf(state, startLine, end.line).trim();
  const tex = source.slice(2, source.length - end.rest.length).trim();
  if (tex === "" && end.closed) {
    return false;
  }
  if (!silent) {
    const token = push(state, "formula", startLine, end.line);
    token.content = tex + end.rest.slice(2).trim();
    token.meta = { closed: end.closed };
  }
  return true;
}

/**
 * @param {State} state
 * @param {number} startLine
 * @param {number} endLine
 * @param {string} closer
 * @returns {{line: number, closed: boolean, rest: string} | null} the line behind it, and the last line
 *   from the closer on
 */
function endOfFormula(state, startLine, endLine, closer) {
  const first = lineOf(state, startLine).slice(2);
  const limit = Math.min(endLine, startLine + LONGEST_FORMULA);
  const inFirst = indexOfCloser(first, closer, 0) >= 0;
  const last = inFirst ? startLine : lineWith(state, closer, startLine + 1);
  const closed = last < limit;
  const line = closed ? last + 1 : limit;
  const text = inFirst ? first : lineOf(state, last);
  const rest = closed ? text.slice(indexOfCloser(text, closer, 0)) : "";
  const ends = closed
    ? REST_OF_FORMULA.test(rest.slice(2))
    : state.env.growing && limit === lineCount(state);
  return ends && isOneFormula(state, startLine, line, first.trim() === "")
    ? { line, closed, rest }
    : null;
}

/**
 * Whether nothing between the lines ends a formula.
 * @param {State} state
 * @param {number} startLine
 * @param {number} endLine
 * @param {boolean} alone whether its opening stands alone
 */
function isOneFormula(state, startLine, endLine, alone) {
  for (let line = startLine + 1; line < endLine; line += 1) {
    if (endsContainer(state, line) || (!alone && state.isEmpty(line))) {
      return false;
    }
  }
  return true;
}

/**
 * The first line from `line` on that has the closer. All are found at once: there may be as many
 * openings as lines.
 * @param {State} state
 * @param {string} closer
 * @param {number} line
 */
function lineWith(state, closer, line) {
  const found = /** @type {Map<string, Uint32Array>} */ (state.env.closers ??= new Map());
  let lines = found.get(closer);
  if (lines === undefined) {
    lines = linesWith(state, closer);
    found.set(closer, lines);
  }
  return lines[line] ?? Infinity;
}

/**
 * @param {State} state
 * @param {string} closer
 * @returns {Uint32Array} for each line the first line from it on that has the closer
 */
function linesWith(state, closer) {
  const count = lineCount(state);
  const lines = new Uint32Array(count);
  let next = 0xffffffff;
  for (let line = count - 1; line >= 0; line -= 1) {
    const text = state.src.slice(state.bMarks[line], state.eMarks[line]);
    next = indexOfCloser(text, closer, 0) < 0 ? next : line;
    lines[line] = next;
  }
  return lines;
}

/**
 * `<details>` and `</details>`, each at the begin of a line, with blocks between them.
 * @type {Rule}
 */
function details(state, startLine, endLine, silent) {
  if (!DETAILS.test(lineOf(state, startLine)) || isIndented(state, startLine)) {
    return false;
  }
  const { line: end, closed } = endOfDetails(state, startLine, endLine);
  const head = headOfDetails(linesOf(state, startLine, Math.min(end, startLine + LONGEST_SUMMARY)));
  if (head === null) {
    return false;
  }
  if (!silent) {
    const { lines, ...meta } = head;
    const token = state.push("details_open", "details", 1);
    token.map = [startLine, end];
    token.meta = meta;
    blocksWithin(state, Math.min(startLine + lines, end), end);
    state.push("details_close", "details", -1);
    state.line = closed ? end + 1 : end;
  }
  return true;
}

/** @param {string} lines */
function headOfDetails(lines) {
  const source = lines.trimStart();
  const opening = OPENING.exec(source);
  if (opening === null) {
    return null;
  }
  const summary = SUMMARY.exec(source.slice(opening[0].length));
  const head = opening[0] + (summary?.[0] ?? "");
  const [restOfLine = ""] = source.slice(head.length).split("\n", 1);
  if (restOfLine.trim() !== "") {
    return null;
  }
  return {
    summary: summary?.[1]?.trim() ?? "",
    open: /\sopen\b/i.test(opening[1] ?? ""),
    lines: head.split("\n").length,
  };
}

/**
 * @param {State} state
 * @param {number} startLine
 * @param {number} endLine
 * @returns {{line: number, closed: boolean}} the line of the end, or behind the last line
 */
function endOfDetails(state, startLine, endLine) {
  let depth = 0;
  let fence = "";
  let line = startLine;
  for (; line < endLine && !(line > startLine && endsContainer(state, line)); line += 1) {
    const text = lineOf(state, line);
    const marker = FENCE.exec(text)?.[0] ?? "";
    if (fence !== "") {
      fence = marker.startsWith(fence) ? "" : fence;
    } else if (marker !== "") {
      fence = marker;
    } else if (DETAILS.test(text)) {
      depth += 1;
    } else if (END_OF_DETAILS.test(text)) {
      depth -= 1;
      if (depth === 0) {
        return { line, closed: true };
      }
    }
  }
  return { line, closed: false };
}

/**
 * `[^label]: text`, with the lines after it that are indented by four.
 * @type {Rule}
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
 * @param {State} state
 * @param {number} line
 * @param {number} length
 */
function takeMarkerOff(state, line, length) {
  state.bMarks[line] = (state.bMarks[line] ?? 0) + (state.tShift[line] ?? 0) + length;
  state.tShift[line] = 0;
  state.sCount[line] = state.blkIndent + 4;
}

/**
 * @param {State} state
 * @param {number} startLine
 * @param {number} endLine
 */
function blocksWithin(state, startLine, endLine) {
  const { lineMax } = state;
  state.lineMax = endLine;
  state.md.block.tokenize(state, startLine, endLine);
  state.lineMax = lineMax;
}

/**
 * @param {State} state
 * @param {string} type
 * @param {number} startLine
 * @param {number} endLine
 */
function push(state, type, startLine, endLine) {
  const token = state.push(type, "", 0);
  token.map = [startLine, endLine];
  state.line = endLine;
  return token;
}

/**
 * @param {State} state
 * @param {number} line
 */
function lineOf(state, line) {
  return state.src.slice((state.bMarks[line] ?? 0) + (state.tShift[line] ?? 0), state.eMarks[line]);
}

/**
 * @param {State} state
 * @param {number} startLine
 * @param {number} endLine
 */
function linesOf(state, startLine, endLine) {
  return state.getLines(startLine, endLine, state.blkIndent, false);
}

/**
 * Whether the line is indented so far that it is code.
 * @param {State} state
 * @param {number} line
 */
function isIndented(state, line) {
  return (state.sCount[line] ?? 0) - state.blkIndent >= 4;
}

/**
 * Whether the line no longer belongs to the list's item, quotation or footnote around it.
 * @param {State} state
 * @param {number} line
 */
function endsContainer(state, line) {
  return !state.isEmpty(line) && (state.sCount[line] ?? 0) < state.blkIndent;
}

/** @param {State} state */
function lineCount(state) {
  return state.bMarks.length - 1;
}
