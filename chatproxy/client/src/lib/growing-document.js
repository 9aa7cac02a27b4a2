/**
 * A Markdown text that grows, as blocks that can be shown one by one.
 *
 * Only the end of a growing text can still change its meaning. So blocks before the last one are
 * *settled*: parsed once, and the same objects ever after. Each growth parses the *tail* again.
 *
 * Work is bounded: a line longer than `LONGEST_LINE` is no prose, and from there on the text is
 * shown as it is, in pieces. A paragraph that long keeps its lines, but what is in them is not
 * parsed, because the time for that can grow with the square of the length.
 *
 * So is memory. What a lexer cuts out of a text keeps all of that text in memory, and each frame of
 * a growing answer is a new text. So it is given `rest`, which is as long as what has not settled.
 */

import { Lexer } from "marked";

export const LONGEST_LINE = 8192;
const LINE_END = /\r\n?/g;
const PIECE = 2048;
/** Blocks that are drawn, or left out of sight, together. */
export const GROUP = 16;
/** A definition, `[name]: address`, can come after the links that need it. */
const DEFINITION = /^ {0,3}\[[^\]\n]+\]:/m;
const MOST_TO_PARSE_AGAIN = 200_000;
/** The last line while it consists of nothing but markup: a list's dash is not yet an underline. */
const BARE_MARKUP = /(?:^|\n)[ \t]*(?:[-=*+#>|~_]{1,8}[ \t]*|`{1,2}|\d{1,9}[.)]?)$/;

/**
 * @typedef {import("marked").Token} Token
 * @typedef {{kind: "markdown", token: Token} | {kind: "plain", text: string}} Block
 *
 * @typedef {object} GrowingDocument
 * @property {string} text all of it
 * @property {boolean} final whether it will grow no more
 * @property {string} rest what has not settled; never cut out of `text`
 * @property {Block[][]} groups the settled blocks, in groups of `GROUP`; these never change again
 * @property {Block[]} settled those that do not fill a group yet
 * @property {Block[]} tail
 * @property {boolean} plain whether the tail, and all that follows, is not parsed
 */

/** @type {GrowingDocument} */
export const EMPTY_MARKDOWN = {
  text: "",
  final: false,
  rest: "",
  groups: [],
  settled: [],
  tail: [],
  plain: false,
};

/** @type {GrowingDocument} */
export const EMPTY_PLAIN = { ...EMPTY_MARKDOWN, plain: true };

/**
 * The document for a longer text. Where `text` does not continue the document, it begins anew.
 * @param {GrowingDocument} document
 * @param {string} text
 * @param {boolean} final
 * @param {GrowingDocument} [empty] what to begin with
 * @returns {GrowingDocument}
 */
export function grow(document, text, final, empty = EMPTY_MARKDOWN) {
  const continues =
    text.length >= document.text.length &&
    text.startsWith(document.text) &&
    !(final && needsAnotherParse(document, text));
  const base = continues
    ? { ...document, text, final, rest: document.rest + text.slice(document.text.length) }
    : { ...empty, text, final, rest: text };
  return base.plain ? growPlain(base) : growMarkdown(base);
}

/**
 * @param {GrowingDocument} document
 * @param {string} text
 */
function needsAnotherParse(document, text) {
  const parsedInParts = !document.plain && document.rest.length < document.text.length;
  return parsedInParts && text.length <= MOST_TO_PARSE_AGAIN && DEFINITION.test(text);
}

/**
 * @param {GrowingDocument} document
 * @returns {GrowingDocument}
 */
function growMarkdown(document) {
  const { rest, final } = document;
  const longLine = findLongLine(rest);
  if (longLine >= 0) {
    return growPlain(settleAll(document, rest.slice(0, longLine)));
  }
  const tokens = lex(final ? rest : rest.replace(BARE_MARKUP, ""));
  if (tokens === null) {
    return growPlain({ ...document, plain: true });
  }
  const { done, open } = final ? { done: tokens, open: [] } : splitOpen(tokens);
  const length = done.reduce((sum, token) => sum + token.raw.length, 0);
  // The lexer may rewrite what it reads (line ends): then its lengths say nothing.
  if (!final && !rest.startsWith(done.map((token) => token.raw).join(""))) {
    return { ...document, tail: asBlocks(tokens) };
  }
  return { ...settle(document, asBlocks(done), length), tail: asBlocks(open) };
}

/**
 * @param {GrowingDocument} document
 * @param {string} part of `rest`, up to where the long line begins
 * @returns {GrowingDocument}
 */
function settleAll(document, part) {
  const tokens = lex(part);
  return tokens === null ? document : settle(document, asBlocks(tokens), part.length);
}

/**
 * @param {GrowingDocument} document
 * @param {Block[]} blocks
 * @param {number} length of their text
 * @returns {GrowingDocument}
 */
function settle(document, blocks, length) {
  const rest = document.rest.slice(length);
  if (blocks.length === 0) {
    return { ...document, rest };
  }
  const all = inGroups([...document.settled, ...blocks]);
  const open = (all.at(-1)?.length ?? 0) < GROUP ? all.pop() : [];
  const groups = all.length > 0 ? [...document.groups, ...all] : document.groups;
  return { ...document, rest, groups, settled: open ?? [] };
}

/**
 * All blocks as they are to be drawn, in groups that keep their place.
 * @param {GrowingDocument} document
 * @returns {Block[][]}
 */
export function drawnGroups({ groups, settled, tail }) {
  return [...groups, ...inGroups([...settled, ...tail])];
}

/** @param {Block[]} blocks */
function inGroups(blocks) {
  const count = Math.ceil(blocks.length / GROUP);
  return Array.from({ length: count }, (_, at) => blocks.slice(at * GROUP, (at + 1) * GROUP));
}

/**
 * @param {GrowingDocument} document
 * @returns {GrowingDocument}
 */
function growPlain(document) {
  const { rest } = document;
  /** @type {Block[]} */
  const added = [];
  let from = 0;
  while (rest.length - from > PIECE) {
    const to = from + pieceLength(rest.slice(from, from + PIECE));
    added.push({ kind: "plain", text: rest.slice(from, to) });
    from = to;
  }
  /** @type {Block[]} */
  const tail = from < rest.length ? [{ kind: "plain", text: rest.slice(from) }] : [];
  return { ...settle(document, added, from), plain: true, tail };
}

/**
 * How much of `piece` to show as one: to the end of a line, or of a word, or all of it.
 * @param {string} piece
 */
function pieceLength(piece) {
  const line = piece.lastIndexOf("\n") + 1;
  if (line > PIECE / 2) {
    return line;
  }
  const word = piece.lastIndexOf(" ") + 1;
  if (word > PIECE / 2) {
    return word;
  }
  // Never between the halves of a surrogate pair.
  const last = piece.charCodeAt(piece.length - 1);
  return last >= 0xd800 && last <= 0xdbff ? piece.length - 1 : piece.length;
}

/**
 * @param {string} text
 * @returns {number} where the first long line begins; -1 if there is none
 */
function findLongLine(text) {
  let from = 0;
  while (text.length - from > LONGEST_LINE) {
    const end = text.indexOf("\n", from);
    if ((end < 0 ? text.length : end) - from > LONGEST_LINE) {
      return from;
    }
    from = end + 1;
  }
  return -1;
}

/**
 * @param {string} text
 * @returns {Token[] | null} null where the lexer gives up, as on nesting without end
 */
function lex(text) {
  try {
    const lexer = new Lexer({ gfm: true });
    lexer.blockTokens(text.replaceAll(LINE_END, "\n"), lexer.tokens);
    for (const { src, tokens } of lexer.inlineQueue) {
      if (src.length > LONGEST_LINE) {
        tokens.push({ type: "text", raw: src, text: src });
      } else {
        lexer.inlineTokens(src, tokens);
      }
    }
    return lexer.tokens;
  } catch {
    return null;
  }
}

/**
 * The last block, with the empty lines after it, can still change.
 * @param {Token[]} tokens
 */
function splitOpen(tokens) {
  let last = tokens.length - 1;
  while (last > 0 && tokens[last]?.type === "space") {
    last -= 1;
  }
  const at = Math.max(0, last);
  return { done: tokens.slice(0, at), open: tokens.slice(at) };
}

/**
 * @param {Token[]} tokens
 * @returns {Block[]}
 */
function asBlocks(tokens) {
  return tokens
    .filter((token) => token.type !== "space" && token.type !== "def")
    .map((token) => ({ kind: "markdown", token }));
}
