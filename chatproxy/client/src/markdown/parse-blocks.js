/**
 * The blocks of a Markdown text, as a tree. What stands within a line is not parsed here: a block keeps
 * its source, and `parse-spans.js` parses that when it is drawn.
 */

import { parser } from "./parser.js";
import { beginsWithTag } from "./parse-spans.js";

/**
 * @typedef {import("markdown-it").Token} Token
 *
 * @typedef {{kind: "paragraph", text: string}
 *   | {kind: "heading", level: number, text: string}
 *   | {kind: "code", text: string, language: string}
 *   | {kind: "formula", tex: string, closed: boolean}
 *   | {kind: "list", start: number | null, items: Item[]}
 *   | {kind: "quote", blocks: Block[]}
 *   | {kind: "table", aligns: string[], header: string[], rows: string[][]}
 *   | {kind: "details", summary: string, open: boolean, blocks: Block[]}
 *   | {kind: "rule"}
 *   | {kind: "raw", text: string}
 *   | Footnote} Block
 *   `start` is null for a list without numbers; `raw` is HTML, and what is nested too deep
 *
 * @typedef {{kind: "footnote", label: string, blocks: Block[]}} Footnote
 * @typedef {{done: boolean | null, blocks: Block[]}} Item `done` is null for what is no task
 *
 * @typedef {{label: string, href: string, title: string, line: number}} Definition of a link's address
 *
 * @typedef {object} Parsed
 * @property {Block[]} blocks
 * @property {number[]} lines on which each of them begins
 * @property {Definition[]} definitions wherever they stand, each label's first
 */

const TASK = /^\[([ xX])\]\s+/;

/** @typedef {{token: Token, children: Node[]}} Node */

/**
 * @param {string} text
 * @param {boolean} growing
 * @returns {Parsed | null} null if the parser gives up
 */
export function parseBlocks(text, growing) {
  const references = Object.create(null);
  /** @type {Token[]} */
  const tokens = [];
  try {
    parser.block.parse(text, parser, { references, growing }, tokens);
  } catch {
    return null;
  }
  const top = asTree(tokens).filter(isBlock);
  return {
    blocks: top.map(asBlock),
    lines: top.map(({ token }) => token.map?.[0] ?? 0),
    definitions: definitionsOf(tokens, references),
  };
}

/**
 * The parser's tokens, which are begins and ends in a row, as a tree.
 * @param {Token[]} tokens
 */
function asTree(tokens) {
  /** @type {Node[][]} */
  const around = [];
  /** @type {Node[]} */
  let nodes = [];
  for (const token of tokens) {
    if (token.nesting < 0) {
      nodes = around.pop() ?? nodes;
      continue;
    }
    const node = { token, children: [] };
    nodes.push(node);
    if (token.nesting > 0) {
      around.push(nodes);
      nodes = node.children;
    }
  }
  return nodes;
}

/** @param {Node} node */
function isBlock({ token }) {
  return token.type !== "reference_definition";
}

/** @param {Node} node */
function blocksOf({ children }) {
  return children.filter(isBlock).map(asBlock);
}

/**
 * @param {Node} node
 * @returns {Block}
 */
function asBlock(node) {
  const { token } = node;
  switch (token.type) {
    case "paragraph_open":
      return { kind: "paragraph", text: textOf(node) };
    case "heading_open":
      return { kind: "heading", level: Number(token.tag.slice(1)), text: textOf(node) };
    case "bullet_list_open":
      return { kind: "list", start: null, items: node.children.map(asItem) };
    case "ordered_list_open":
      return { kind: "list", start: startOf(token), items: node.children.map(asItem) };
    case "blockquote_open":
      return { kind: "quote", blocks: blocksOf(node) };
    case "table_open":
      return asTable(node);
    case "details_open":
      return { kind: "details", ...headOf(token), blocks: blocksOf(node) };
    case "footnote_open":
      return { kind: "footnote", label: String(token.meta?.label), blocks: blocksOf(node) };
    default:
      return asLeaf(token);
  }
}

/**
 * @param {Token} token
 * @returns {Block}
 */
function asLeaf({ type, content, info, meta }) {
  switch (type) {
    case "fence":
    case "code_block":
      return { kind: "code", text: content.replace(/\n$/, ""), language: info.trim() };
    case "formula":
      return { kind: "formula", tex: content, closed: !!meta?.closed };
    case "hr":
      return { kind: "rule" };
    default:
      return beginsWithTag(content)
        ? { kind: "paragraph", text: content.trim() }
        : { kind: "raw", text: content.trimEnd() };
  }
}

/**
 * The source within a block that has no blocks in it.
 * @param {Node} node
 */
function textOf({ children }) {
  return children[0]?.token.content ?? "";
}

/** @param {Token} token */
function startOf(token) {
  return Number(token.attrGet("start") ?? 1);
}

/** @param {Token} token */
function headOf({ meta }) {
  return { summary: String(meta?.summary), open: !!meta?.open };
}

/**
 * @param {Node} node
 * @returns {Item}
 */
function asItem(node) {
  const blocks = blocksOf(node);
  const [first, ...others] = blocks;
  const task = first?.kind === "paragraph" ? TASK.exec(first.text) : null;
  if (first?.kind !== "paragraph" || task === null) {
    return { done: null, blocks };
  }
  const text = first.text.slice(task[0].length);
  return { done: task[1] !== " ", blocks: [{ ...first, text }, ...others] };
}

/**
 * @param {Node} node
 * @returns {Block}
 */
function asTable({ children }) {
  const rows = children.flatMap((part) => part.children);
  const cells = rows.map((row) => row.children.map(textOf));
  const [header = [], ...others] = cells;
  const aligns = rows[0]?.children.map(({ token }) => alignOf(token)) ?? [];
  return { kind: "table", aligns, header, rows: others };
}

/** @param {Token} token with a style, as in HTML */
function alignOf(token) {
  return /\w+$/.exec(String(token.attrGet("style") ?? ""))?.[0] ?? "";
}

/**
 * @param {Token[]} tokens
 * @param {Record<string, {href: string, title: string}>} references
 */
function definitionsOf(tokens, references) {
  /** @type {Map<string, Definition>} */
  const found = new Map();
  for (const { type, meta, map } of tokens) {
    const label = String(meta?.label);
    const reference = references[label];
    if (type === "reference_definition" && reference && !found.has(label)) {
      found.set(label, { label, ...reference, line: map?.[0] ?? 0 });
    }
  }
  return [...found.values()];
}
