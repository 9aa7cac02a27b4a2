/**
 * What stands within a line of our Markdown beyond CommonMark and GFM, as rules for markdown-it's
 * inline parser: formulas and references to footnotes; and where a bare address ends.
 *
 * A rule looks at `state.pos`; if its piece begins there, it pushes a token (unless it is only
 * asked, `silent`) and moves `state.pos` behind it. `state.env.growing` says that the text has not
 * ended; see `block-rules.js`.
 */

/**
 * @typedef {import("markdown-it").StateInline} State
 * @typedef {(state: State, silent: boolean) => boolean} Rule
 */

const BACKSLASH = 92;
const DOLLAR = 36;
/** What ends an address in Chinese and Japanese, as a space ends it elsewhere. */
const CJK_PUNCTUATION = /[\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff3d\uff5b-\uff65“”‘’…—]/;
const FOOTNOTE = /\[\^([^\]\s]{1,100})\]/y;
const LETTER_OR_DIGIT = /[A-Za-z0-9]/;
/** What follows a dollar that is money: "5 million", not "5 x". */
const AMOUNT = /^[\d.,]+\s+[a-z]{3,}/i;

/** @param {import("markdown-it").MarkdownIt} parser */
export function useInlineRules(parser) {
  parser.inline.ruler.before("escape", "bracket_formula", bracketFormula);
  parser.inline.ruler.before("escape", "dollar_formula", dollarFormula);
  parser.inline.ruler.before("link", "footnote", footnote);
  endAddressesAtCjkPunctuation(parser.linkify);
}

/**
 * `\( … \)` and `\[ … \]`. As long as the text grows, one without an end is a formula too.
 * @type {Rule}
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
 * @type {Rule}
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
export function indexOfCloser(src, closer, from, max = src.length) {
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
 * @param {State} state
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
 * `[^label]`, if there is such a footnote, or if one may still come.
 * @type {Rule}
 */
function footnote(state, silent) {
  FOOTNOTE.lastIndex = state.pos;
  const label = state.linkLevel === 0 ? FOOTNOTE.exec(state.src)?.[1] : undefined;
  if (label === undefined || FOOTNOTE.lastIndex > state.posMax) {
    return false;
  }
  const end = FOOTNOTE.lastIndex;
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

/** @param {import("markdown-it").MarkdownIt["linkify"]} linkify */
function endAddressesAtCjkPunctuation(linkify) {
  const { matchAtStart } = linkify;
  linkify.matchAtStart = (text) => {
    const end = text.search(CJK_PUNCTUATION);
    return matchAtStart.call(linkify, end < 0 ? text : text.slice(0, end));
  };
}
