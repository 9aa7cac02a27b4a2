/**
 * What stands within a line of Markdown, as a tree: text, and spans of it.
 *
 * HTML is never parsed as such. A few tags that answers use for what Markdown can't say become spans;
 * their attributes are dropped. All else that looks like a tag stays the text that it is.
 */

import { parser } from "./parser.js";
import { withEnds } from "./rules/unfinished.js";

/**
 * @typedef {import("markdown-it").Token} Token
 *
 * @typedef {"strong" | "em" | "del" | "ins" | "b" | "i" | "u" | "s" | "mark" | "small" | "sub" | "sup"
 *   | "kbd" | "samp" | "var" | "q"} Tag
 *
 * @typedef {string
 *   | {kind: "tag", tag: Tag, children: Span[]}
 *   | {kind: "bare", children: Span[]}
 *   | {kind: "link", href: string, title: string, children: Span[]}
 *   | {kind: "code", text: string}
 *   | {kind: "formula", tex: string, display: boolean, closed: boolean}
 *   | {kind: "footnote", label: string, number: number | undefined}
 *   | {kind: "break"}} Span
 *
 * @typedef {object} Known what the rest of the text says about its references
 * @property {Record<string, {href: string, title: string}>} definitions of links, by their labels
 * @property {Map<string, number>} footnotes their numbers, by their labels
 * @property {boolean} mayBeDefined whether the text still grows
 *
 * @typedef {object} Frame a span that has begun
 * @property {string} tag of an HTML tag; "" for Markdown's own
 * @property {string} source the tag as it was written
 * @property {(children: Span[]) => Span} build
 * @property {Span[]} children
 */

/** @type {Set<string>} */
const TAGS = new Set(
  "strong em del ins b i u s mark small sub sup kbd samp var q".split(" "),
);
/** Tags that only look different, by an attribute that we drop. */
const BARE_TAGS = new Set(["span", "font"]);
/** Text without anything that could be markup or an address, as most cells of a table are. */
const PLAIN = /^[^\n\\`*_~[\]<&$:@]*$/;
const TAG = /^<(\/?)([a-z]+)(?:\s[^>]*|\/)?>$/i;

/**
 * Whether a block of HTML is a paragraph that begins with a tag of these.
 * @param {string} html
 */
export function beginsWithTag(html) {
  const name = /^<\/?([a-z]+)/i.exec(html)?.[1]?.toLowerCase() ?? "";
  return TAGS.has(name) || BARE_TAGS.has(name) || name === "br";
}

/**
 * @param {string} text
 * @param {Known} known
 * @param {boolean} growing whether `text` is the end of one that grows
 * @returns {Span[]}
 */
export function parseSpans(text, known, growing) {
  if (PLAIN.test(text)) {
    return [text];
  }
  const { definitions, footnotes, mayBeDefined } = known;
  const env = { references: definitions, footnotes, mayBeDefined, growing };
  const source = growing ? withEnds(text) : text;
  return nest(parser.parseInline(source, env)[0]?.children ?? [], growing);
}

/**
 * @param {Token[]} tokens
 * @param {boolean} growing
 */
function nest(tokens, growing) {
  const root = frame("", "", (children) => ({ kind: "bare", children }));
  const stack = [root];
  for (const token of tokens) {
    if (token.nesting > 0) {
      stack.push(frame("", "", (children) => markdownSpan(token, children)));
    } else if (token.nesting < 0) {
      leave(stack, (top) => top.tag === "", growing);
    } else if (token.type === "html_inline") {
      takeTag(stack, token.content, growing);
    } else {
      stack.at(-1)?.children.push(leaf(token));
    }
  }
  while (stack.length > 1) {
    unfinished(stack, growing);
  }
  return root.children;
}

/**
 * @param {string} tag
 * @param {string} source
 * @param {Frame["build"]} build
 * @returns {Frame}
 */
function frame(tag, source, build) {
  return { tag, source, build, children: [] };
}

/**
 * Ends the innermost span that is meant, and those within it that have no end.
 * @param {Frame[]} stack
 * @param {(frame: Frame) => boolean} isMeant
 * @param {boolean} growing
 */
function leave(stack, isMeant, growing) {
  while (stack.length > 2 && !isMeant(/** @type {Frame} */ (stack.at(-1)))) {
    unfinished(stack, growing);
  }
  close(stack);
}

/** @param {Frame[]} stack */
function close(stack) {
  const top = /** @type {Frame} */ (stack.pop());
  stack.at(-1)?.children.push(top.build(top.children));
}

/**
 * A tag without an end is text. If the text grows, the end may still come.
 * @param {Frame[]} stack
 * @param {boolean} growing
 */
function unfinished(stack, growing) {
  if (growing) {
    close(stack);
  } else {
    const { source, children } = /** @type {Frame} */ (stack.pop());
    stack.at(-1)?.children.push(source, ...children);
  }
}

/**
 * @param {Frame[]} stack
 * @param {string} source
 * @param {boolean} growing
 */
function takeTag(stack, source, growing) {
  const [, slash, written] = TAG.exec(source) ?? [];
  const tag = written?.toLowerCase() ?? "";
  const into = /** @type {Frame} */ (stack.at(-1));
  if (tag === "br") {
    into.children.push({ kind: "break" });
  } else if (!TAGS.has(tag) && !BARE_TAGS.has(tag)) {
    into.children.push(source);
  } else if (slash === "") {
    stack.push(frame(tag, source, (children) => tagSpan(tag, children)));
  } else if (hasOpen(stack, tag)) {
    leave(stack, (top) => top.tag === tag, growing);
  } else {
    into.children.push(source);
  }
}

/**
 * Whether the tag is open, and opened within the innermost span of Markdown.
 * @param {Frame[]} stack
 * @param {string} tag
 */
function hasOpen(stack, tag) {
  const markdown = stack.findLastIndex((each) => each.tag === "");
  return stack.findLastIndex((each) => each.tag === tag) > markdown;
}

/**
 * @param {string} tag
 * @param {Span[]} children
 * @returns {Span}
 */
function tagSpan(tag, children) {
  return TAGS.has(tag)
    ? { kind: "tag", tag: /** @type {Tag} */ (tag), children }
    : { kind: "bare", children };
}

/**
 * @param {Token} token
 * @param {Span[]} children
 * @returns {Span}
 */
function markdownSpan(token, children) {
  switch (token.type) {
    case "link_open":
      return link(token.attrGet("href"), token.attrGet("title"), children);
    case "s_open":
      return { kind: "tag", tag: "del", children };
    default:
      return { kind: "tag", tag: token.type === "strong_open" ? "strong" : "em", children };
  }
}

/**
 * @param {string | number | null} href
 * @param {string | number | null} title
 * @param {Span[]} children
 * @returns {Span}
 */
function link(href, title, children) {
  return { kind: "link", href: String(href ?? ""), title: String(title ?? ""), children };
}

/**
 * @param {Token} token
 * @returns {Span}
 */
function leaf(token) {
  switch (token.type) {
    case "code_inline":
      return { kind: "code", text: token.content };
    case "hardbreak":
      return { kind: "break" };
    case "softbreak":
      return "\n";
    case "formula":
      return formula(token);
    case "footnote_mark":
      return { kind: "footnote", ...footnoteMark(token) };
    case "image":
      return link(token.attrGet("src"), token.attrGet("title"), nest(token.children ?? [], false));
    default:
      return token.content;
  }
}

/**
 * @param {Token} token
 * @returns {Span}
 */
function formula({ content, meta }) {
  return { kind: "formula", tex: content, display: !!meta?.display, closed: !!meta?.closed };
}

/** @param {Token} token */
function footnoteMark({ meta }) {
  return /** @type {{label: string, number: number | undefined}} */ (meta);
}
