import { endsContainer, linesOf, push } from "./lines.js";

/** Deeper nesting than this is shown as text. A list's item is two levels deeper than the list. */
const DEEPEST = 20;

/** @param {import("./lines.js").Parser} parser */
export function limitDepth(parser) {
  parser.block.ruler.before("table", "too_deep", tooDeep);
}

/** @type {import("./lines.js").BlockRule} */
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
