/**
 * A text that grows, as blocks that can be shown one by one.
 *
 * Only the end of a growing text can still change its meaning. So blocks before the last one are
 * *settled*: parsed once, and the same objects ever after. Each growth parses the *tail* again, and of
 * that only where its blocks begin and end; what is in a line is parsed by who draws it.
 *
 * What a reference means, a link's or a footnote's, may be said anywhere in the text. So definitions are
 * gathered beside the blocks, and blocks don't depend on them.
 *
 * Work is bounded: a line longer than `LONGEST_LINE` is no prose, and from there on the text is
 * shown as it is, in pieces. A paragraph that long keeps its lines, but what is in them is not
 * parsed, because the time for that can grow with the square of the length.
 *
 * So is memory. What is cut out of a text keeps all of that text in memory, and each frame of a
 * growing answer is a new text. So blocks are cut out of `rest`, which is as long as what has not
 * settled.
 */

export const LONGEST_LINE = 8192;
const LINE_END = /\r\n?|\n/g;
const CARRIAGE_RETURN = /\r\n?/g;
const PIECE = 2048;
/** Blocks that are drawn, or left out of sight, together. */
export const GROUP = 16;
/** The last line while it consists of nothing but markup: a list's dash is not yet an underline. */
const BARE_MARKUP =
  /(?:^|\n)[ \t]*(?:[-=*+#>~_]{1,8}[ \t]*|\|[-:| \t]*|`{1,2}|\d{1,9}[.)]?|\$|\\)$/;

/**
 * @typedef {import("./parse-blocks.js").Block} MarkdownBlock
 * @typedef {import("./parse-blocks.js").Footnote} Footnote
 * @typedef {import("./parse-blocks.js").Parsed} Parsed
 * @typedef {{kind: "plain", text: string}} PlainBlock
 * @typedef {MarkdownBlock | PlainBlock} Block
 * @typedef {Record<string, {href: string, title: string}>} Definitions
 *
 * @typedef {object} GrowingDocument
 * @property {string} text all of it
 * @property {boolean} final whether it will grow no more
 * @property {((text: string, growing: boolean) => Parsed | null) | null} parse null if the tail, and all
 *   that follows, is shown as it is
 * @property {string} rest what has not settled; never cut out of `text`
 * @property {Block[][]} groups the settled blocks, in groups of `GROUP`; these never change again
 * @property {Block[]} settled those that do not fill a group yet
 * @property {Block[]} tail
 * @property {Definitions} settledDefinitions
 * @property {Definitions} definitions of the whole text; the same object if none is new
 */

/** @type {GrowingDocument} */
export const EMPTY_PLAIN = {
  text: "",
  final: false,
  parse: null,
  rest: "",
  groups: [],
  settled: [],
  tail: [],
  settledDefinitions: {},
  definitions: {},
};

/**
 * The document for a longer text. If `text` does not continue the document, it begins anew.
 * @param {GrowingDocument} document
 * @param {string} text
 * @param {boolean} final
 * @param {GrowingDocument} empty what to begin with
 * @returns {GrowingDocument}
 */
export function grow(document, text, final, empty) {
  const continues = text.length >= document.text.length && text.startsWith(document.text);
  const base = continues
    ? { ...document, text, final, rest: document.rest + text.slice(document.text.length) }
    : { ...empty, text, final, rest: text };
  return base.parse === null ? growPlain(base) : growMarkdown(base);
}

/**
 * All blocks as they are to be drawn, in groups that keep their place.
 * @param {GrowingDocument} document
 * @returns {Block[][]}
 */
export function drawnGroups({ groups, settled, tail }) {
  return [...groups, ...inGroups([...settled, ...tail])];
}

/**
 * The footnotes of the text, in its order, the first for each label.
 * @param {GrowingDocument} document
 * @returns {Footnote[]}
 */
export function footnotesOf(document) {
  /** @type {Map<string, Footnote>} */
  const found = new Map();
  for (const block of drawnGroups(document).flat()) {
    if (block.kind === "footnote" && !found.has(block.label)) {
      found.set(block.label, block);
    }
  }
  return [...found.values()];
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
  const parsed = parse(document, rest, !final);
  if (parsed === null) {
    return growPlain(document);
  }
  const open = firstOpen(parsed, rest);
  const length = lineStart(rest, open > 0 ? (parsed.lines[open] ?? 0) : 0);
  const grown = settle(document, parsed, open, length);
  const definitions = added(grown.settledDefinitions, parsed.definitions);
  return {
    ...grown,
    tail: parsed.blocks.slice(open),
    definitions: same(definitions, document.definitions) ? document.definitions : definitions,
  };
}

/**
 * @param {GrowingDocument} document
 * @param {string} text
 * @param {boolean} growing
 */
function parse(document, text, growing) {
  const lines = text.replaceAll(CARRIAGE_RETURN, "\n").replaceAll("\0", "\ufffd");
  return document.parse?.(growing ? lines.replace(BARE_MARKUP, "") : lines, growing) ?? null;
}

/**
 * The last block can still change. So can the one before it, if the last one begins on a line that has
 * not ended: that may yet turn out to be a part of it.
 * @param {Parsed} parsed
 * @param {string} rest
 */
function firstOpen({ blocks, lines }, rest) {
  const last = blocks.length - 1;
  const lineEnds = rest.match(LINE_END)?.length ?? 0;
  return Math.max(0, lines[last] === lineEnds ? last - 1 : last);
}

/**
 * @param {string} text
 * @param {number} line
 * @returns {number} where the line begins
 */
function lineStart(text, line) {
  let start = 0;
  LINE_END.lastIndex = 0;
  for (let passed = 0; passed < line; passed += 1) {
    LINE_END.exec(text);
    start = LINE_END.lastIndex;
  }
  return start;
}

/**
 * @param {GrowingDocument} document
 * @param {string} part of `rest`, up to where the long line begins
 * @returns {GrowingDocument}
 */
function settleAll(document, part) {
  const parsed = parse(document, part, false);
  return parsed === null
    ? document
    : settle(document, parsed, parsed.blocks.length, part.length);
}

/**
 * @param {GrowingDocument} document
 * @param {Parsed} parsed
 * @param {number} count how many of its blocks settle
 * @param {number} length of their text, with what is between and behind them
 * @returns {GrowingDocument}
 */
function settle(document, { blocks, lines, definitions }, count, length) {
  const before = lines[count] ?? Infinity;
  const settled = count > 0 ? definitions.filter(({ line }) => line < before) : [];
  return {
    ...withSettled(document, blocks.slice(0, count), length),
    settledDefinitions: added(document.settledDefinitions, settled),
  };
}

/**
 * @param {GrowingDocument} document
 * @param {Block[]} blocks
 * @param {number} length
 * @returns {GrowingDocument}
 */
function withSettled(document, blocks, length) {
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
 * @param {Definitions} known
 * @param {import("./parse-blocks.js").Definition[]} found
 * @returns {Definitions} the first counts
 */
function added(known, found) {
  if (found.length === 0) {
    return known;
  }
  const news = found.map(({ label, href, title }) => [label, { href, title }]);
  return { ...Object.fromEntries(news), ...known };
}

/**
 * @param {Definitions} left
 * @param {Definitions} right
 */
function same(left, right) {
  const labels = Object.keys(left);
  return (
    labels.length === Object.keys(right).length &&
    labels.every(
      (label) => left[label]?.href === right[label]?.href && left[label]?.title === right[label]?.title,
    )
  );
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
  const pieces = [];
  let from = 0;
  while (rest.length - from > PIECE) {
    const to = from + pieceLength(rest.slice(from, from + PIECE));
    pieces.push({ kind: "plain", text: rest.slice(from, to) });
    from = to;
  }
  /** @type {Block[]} */
  const tail = from < rest.length ? [{ kind: "plain", text: rest.slice(from) }] : [];
  return { ...withSettled(document, pieces, from), parse: null, tail };
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
