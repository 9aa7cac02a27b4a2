/**
 * Code that grows, in parts that are highlighted one by one.
 *
 * A highlighter reads code from its begin, and what it makes of a line hangs on the lines before: a
 * comment or a string may have begun there. So a part ends where none is open: at a line break that
 * stands in no element of what the highlighter makes of it. Then a growing text costs the
 * highlighting of its last part, and the parts are the same however the text came.
 *
 * In a page of HTML the style and the scripts are elements too, of another language. A part may end
 * in those; then the next one begins in that language, and ends before its closing tag.
 */

/** In lines: how much is looked at to find the end of a part, at first and at most. */
const WINDOW = 64;
const WIDEST = 512;
/** In characters: a part that is longer is no code that somebody reads. */
export const LONGEST_PART = 32_768;
const CLOSING_TAG = /^.*<\/(?:script|style)\b/im;

/**
 * @typedef {import("hast").ElementContent | import("hast").RootContent} Content
 * @typedef {(code: string, language?: string) => import("hast").Root} Highlight
 *   `language` if it is another one than the code's
 *
 * @typedef {object} Part
 * @property {string} text without the line break at its end
 * @property {string | undefined} language
 *
 * @typedef {object} GrowingCode
 * @property {string} text
 * @property {Highlight | null} highlight
 * @property {Part[]} settled
 * @property {number} settledTo
 * @property {string | undefined} language that of the rest
 */

/** @type {GrowingCode} */
export const NO_CODE = {
  text: "",
  highlight: null,
  settled: [],
  settledTo: 0,
  language: undefined,
};

/**
 * The parts of a longer text. If it does not continue the code, or the highlighter is another one, they
 * begin anew.
 * @param {GrowingCode} code
 * @param {string} text
 * @param {Highlight | null} highlight
 * @returns {GrowingCode}
 */
export function growCode(code, text, highlight) {
  const continues = code.highlight === highlight && text.startsWith(code.text);
  const from = continues ? code : NO_CODE;
  const settled = [...from.settled];
  let { settledTo } = from;
  let language = languageAt(text, settledTo, from.language);
  for (
    let cut = nextCut(text, settledTo, highlight, language);
    cut !== null;
    cut = nextCut(text, settledTo, highlight, language)
  ) {
    settled.push({ text: text.slice(settledTo, cut.at), language });
    settledTo = cut.at + 1;
    language = languageAt(text, settledTo, cut.language);
  }
  return { text, highlight, settled, settledTo, language };
}

/**
 * @param {GrowingCode} code
 * @returns {Part[]}
 */
export function partsOf({ text, settled, settledTo, language }) {
  return [...settled, { text: text.slice(settledTo), language }];
}

/**
 * @typedef {{at: number, language: string | undefined}} Cut the line break at which a part ends, and
 *   the language of the next one
 */

/**
 * @param {string} text
 * @param {number} from
 * @param {Highlight | null} highlight
 * @param {string | undefined} language
 * @returns {Cut | null} null if the text is not long enough yet
 */
function nextCut(text, from, highlight, language) {
  for (let lines = WINDOW; ; lines *= 2) {
    const end = endOfLines(text, from, lines);
    const window = text.slice(from, end < 0 ? undefined : end + 1);
    const closing = language === undefined ? null : CLOSING_TAG.exec(window);
    if (closing !== null) {
      return { at: from + closing.index - 1, language: undefined };
    }
    if (end < 0) {
      return null;
    }
    if (highlight === null || lines >= WIDEST || window.length > LONGEST_PART) {
      return { at: end, language };
    }
    const cut = lastOpenBreak(highlight(window, language).children, language);
    if (cut !== null) {
      return { at: from + cut.at, language: cut.language };
    }
  }
}

/**
 * A line with the closing tag is the outer language's.
 * @param {string} text
 * @param {number} from
 * @param {string | undefined} language
 */
function languageAt(text, from, language) {
  const closes = language !== undefined && CLOSING_TAG.test(text.slice(from, endOfLine(text, from)));
  return closes ? undefined : language;
}

/**
 * @param {string} text
 * @param {number} from
 */
function endOfLine(text, from) {
  const end = text.indexOf("\n", from);
  return end < 0 ? text.length : end;
}

/**
 * @param {string} text
 * @param {number} from
 * @param {number} lines
 * @returns {number} where the last of these lines ends; -1 if there are fewer
 */
function endOfLines(text, from, lines) {
  let end = from - 1;
  for (let passed = 0; passed < lines; passed += 1) {
    end = text.indexOf("\n", end + 1);
    if (end < 0) {
      return -1;
    }
  }
  return end;
}

/**
 * The last line break that stands in no element, but those of another language.
 * @param {Content[]} contents
 * @param {string | undefined} language
 * @returns {Cut | null}
 */
function lastOpenBreak(contents, language) {
  /** @type {Cut | null} */
  let last = null;
  let at = 0;
  for (const content of contents) {
    const length = lengthOf(content);
    const within = breakIn(content, language);
    if (within !== null) {
      last = { at: at + within.at, language: within.language };
    }
    at += length;
  }
  return last;
}

/**
 * @param {Content} content
 * @param {string | undefined} language
 * @returns {Cut | null}
 */
function breakIn(content, language) {
  if (content.type === "text") {
    const at = content.value.lastIndexOf("\n");
    return at < 0 ? null : { at, language };
  }
  const other = languageOf(content);
  return other === undefined || content.type !== "element"
    ? null
    : lastOpenBreak(content.children, other);
}

/**
 * @param {Content} content
 * @returns {string | undefined} the language of an element that is in another one
 */
function languageOf(content) {
  const names = content.type === "element" ? content.properties.className : undefined;
  const name = Array.isArray(names) ? String(names[0]) : "hljs-";
  return name.startsWith("hljs-") ? undefined : name.replace("language-", "");
}

/**
 * @param {Content} content
 * @returns {number}
 */
function lengthOf(content) {
  if (content.type === "text") {
    return content.value.length;
  }
  return content.type === "element"
    ? content.children.reduce((sum, each) => sum + lengthOf(each), 0)
    : 0;
}
