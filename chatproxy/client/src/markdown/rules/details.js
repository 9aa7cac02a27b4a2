/**
 * `<details>` and its `<summary>`, with blocks in it. Each tag stands at the begin of a line.
 */

import { endsContainer, INTERRUPTS, isIndented, lineOf, linesOf } from "./lines.js";

/**
 * @typedef {import("./lines.js").BlockState} BlockState
 * @typedef {import("./lines.js").BlockRule} BlockRule
 */

/** In how many lines `<details>` and its `<summary>` have to fit. */
const LONGEST_SUMMARY = 6;
const FENCE = /^(?:`{3,}|~{3,})/;
const DETAILS = /^<details(?=[\s>])/i;
const END_OF_DETAILS = /^<\/details>\s*$/i;
const OPENING = /^<details(\s[^>]*)?>/i;
const SUMMARY = /^\s*<summary(?:\s[^>]*)?>([\s\S]*?)(?:<\/summary>|$)/i;

/** @param {import("./lines.js").Parser} parser */
export function useDetails(parser) {
  parser.block.ruler.before("html_block", "details", details, INTERRUPTS);
}

/** @type {BlockRule} */
function details(state, startLine, endLine, silent) {
  if (!DETAILS.test(lineOf(state, startLine)) || isIndented(state, startLine)) {
    return false;
  }
  const head = headOfDetails(
    linesOf(state, startLine, Math.min(endLine, startLine + LONGEST_SUMMARY)),
  );
  if (head === null || silent) {
    return head !== null;
  }
  const { lines, ...meta } = head;
  const { line: end, closed } = endOfDetails(state, startLine, endLine);
  const token = state.push("details_open", "details", 1);
  token.map = [startLine, end];
  token.meta = meta;
  blocksWithin(state, Math.min(startLine + lines, end), end);
  state.push("details_close", "details", -1);
  state.line = closed ? end + 1 : end;
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
 * @param {BlockState} state
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
 * @param {BlockState} state
 * @param {number} startLine
 * @param {number} endLine
 */
function blocksWithin(state, startLine, endLine) {
  const { lineMax } = state;
  state.lineMax = endLine;
  state.md.block.tokenize(state, startLine, endLine);
  state.lineMax = lineMax;
}
