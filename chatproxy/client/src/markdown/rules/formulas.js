/**
 * Formulas: `\( … \)`, `\[ … \]`, `$…$` and `$$…$$`, in a line or in lines of their own.
 */

import {
  endsContainer,
  INTERRUPTS,
  isIndented,
  lineCount,
  lineOf,
  linesOf,
  push,
} from "./lines.js";

/**
 * @typedef {import("./lines.js").BlockState} BlockState
 * @typedef {import("./lines.js").BlockRule} BlockRule
 * @typedef {import("./lines.js").InlineState} InlineState
 * @typedef {import("./lines.js").InlineRule} InlineRule
 */

const BACKSLASH = 92;
const DOLLAR = 36;
const LETTER_OR_DIGIT = /[A-Za-z0-9]/;
/** What follows a dollar that is money: "5 million", not "5 x". */
const AMOUNT = /^[\d.,]+\s+[a-z]{3,}/i;
/** How many lines a formula may have. */
const LONGEST = 200;
/** @type {Record<string, string>} */
const CLOSERS = { $$: "$$", "\\[": "\\]" };
/** What may follow a formula that stands in lines of its own. */
const REST_OF_FORMULA = /^[.,;:。，；]?\s*$/;

/** @param {import("./lines.js").Parser} parser */
export function useFormulas(parser) {
  parser.block.ruler.before("table", "formula", formula, INTERRUPTS);
  parser.inline.ruler.before("escape", "bracket_formula", bracketFormula);
  parser.inline.ruler.before("escape", "dollar_formula", dollarFormula);
}

/**
 * `\( … \)` and `\[ … \]`. As long as the text grows, one without an end is a formula too.
 * @type {InlineRule}
 */
function bracketFormula(state, silent) {
  const { src, pos, posMax } = state;
  const opener = src.slice(pos, pos + 2);
  if (opener !== "\\(" && opener !== "\\[") {
    return false;
  }
  const display = opener === "\\[";
  const at = indexOfCloser(src, display ? "\\]" : "\\)", pos + 2, posMax);
  if (at < 0) {
    const mayGoOn = state.env.growing && posMax === src.length;
    const tex = src.slice(pos + 2).trim();
    return mayGoOn ? take(state, silent, { tex, display, closed: false, end: posMax }) : false;
  }
  const tex = src.slice(pos + 2, at).trim();
  // `\[text\](address)` is a link that shall be none.
  const isLink = display && src.charAt(at + 2) === "(";
  return isLink || tex === ""
    ? false
    : take(state, silent, { tex, display, closed: true, end: at + 2 });
}

/**
 * `$…$` and `$$…$$`. Money is no formula: `$` opens one only before what is no space and after what
 * is no letter or digit; the next `$` must close it, after what is no space and not before a digit.
 * @type {InlineRule}
 */
function dollarFormula(state, silent) {
  const { src, pos, posMax } = state;
  if (src.charCodeAt(pos) !== DOLLAR) {
    return false;
  }
  const closer = src.charCodeAt(pos + 1) === DOLLAR ? "$$" : "$";
  const begin = pos + closer.length;
  const at = indexOfCloser(src, closer, begin, posMax);
  const source = src.slice(begin, at);
  if (at < 0 || source.trim() === "" || (closer === "$" && !isFormula(src, pos, source, at))) {
    return false;
  }
  // GitLab writes $`…`$.
  const tex = source.trim().replace(/^`([^`]+)`$/, "$1");
  return take(state, silent, {
    tex,
    display: closer === "$$",
    closed: true,
    end: at + closer.length,
  });
}

/**
 * @param {string} src
 * @param {number} pos where the opening `$` stands
 * @param {string} source what is between the two
 * @param {number} end where the closing one stands
 */
function isFormula(src, pos, source, end) {
  return (
    source.trim() === source &&
    !LETTER_OR_DIGIT.test(src.charAt(pos - 1)) &&
    !/\d/.test(src.charAt(end + 1)) &&
    !AMOUNT.test(source)
  );
}

/**
 * @param {string} src
 * @param {string} closer the end of a formula
 * @param {number} from
 * @param {number} [max]
 * @returns {number} where it stands, and not behind a backslash; -1 if it does not
 */
function indexOfCloser(src, closer, from, max = src.length) {
  let at = from;
  while (at + closer.length <= max) {
    if (src.startsWith(closer, at)) {
      return at;
    }
    at += src.charCodeAt(at) === BACKSLASH ? 2 : 1;
  }
  return -1;
}

/**
 * @param {InlineState} state
 * @param {boolean} silent
 * @param {{tex: string, display: boolean, closed: boolean, end: number}} formula
 */
function take(state, silent, { tex, display, closed, end }) {
  if (!silent) {
    const token = state.push("formula", "", 0);
    token.content = tex;
    token.meta = { display, closed };
  }
  state.pos = end;
  return true;
}

/**
 * `$$ … $$` and `\[ … \]`, if nothing else stands in their lines, but a full stop, say. An empty line
 * belongs to the formula only if its opening stands alone.
 * @type {BlockRule}
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
 * @param {BlockState} state
 * @param {number} startLine
 * @param {number} endLine
 * @param {string} closer
 * @returns {{line: number, closed: boolean, rest: string} | null} the line behind it, and the last line
 *   from the closer on
 */
function endOfFormula(state, startLine, endLine, closer) {
  const first = lineOf(state, startLine).slice(2);
  const alone = first.trim() === "";
  const limit = Math.min(endLine, startLine + LONGEST);
  const inFirst = indexOfCloser(first, closer, 0) >= 0;
  const last = inFirst ? startLine : lineWith(state, closer, startLine + 1);
  if (last >= limit) {
    const mayGoOn = state.env.growing && limit === lineCount(state);
    const isOne = mayGoOn && isOneFormula(state, startLine, limit, alone);
    return isOne ? { line: limit, closed: false, rest: "" } : null;
  }
  const text = inFirst ? first : lineOf(state, last);
  const rest = text.slice(indexOfCloser(text, closer, 0));
  const ends = REST_OF_FORMULA.test(rest.slice(2));
  return ends && isOneFormula(state, startLine, last + 1, alone)
    ? { line: last + 1, closed: true, rest }
    : null;
}

/**
 * Whether nothing between the lines ends a formula.
 * @param {BlockState} state
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
 * @param {BlockState} state
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
 * @param {BlockState} state
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
