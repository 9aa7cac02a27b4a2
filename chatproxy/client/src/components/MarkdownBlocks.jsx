/**
 * Markdown's blocks as elements. They are made from the lexer's tokens, never from HTML: what looks
 * like HTML in an answer is shown as the text that it is.
 */

import { useLanguage } from "../i18n/current.js";
import { CodeBlock } from "./CodeBlock.jsx";
import { Inline } from "./MarkdownInline.jsx";

/**
 * @typedef {import("marked").Token} Token
 * @typedef {import("marked").Tokens.Generic} Generic
 * @typedef {import("marked").Tokens.Heading} HeadingToken
 * @typedef {import("marked").Tokens.List} List
 * @typedef {import("marked").Tokens.Table} Table
 */

/** Deeper nesting than this is shown as text. */
const DEEPEST = 20;

/** @param {{tokens: Token[], depth: number}} props */
export function Blocks({ tokens, depth }) {
  return tokens.map((token, index) => <Block key={index} token={token} depth={depth} />);
}

/** @param {{token: Generic, depth: number}} props */
function Block({ token, depth }) {
  const draw = depth > DEEPEST ? asText : (DRAWN[token.type] ?? paragraph);
  return draw(token, depth);
}

/** @type {Record<string, (token: Generic, depth: number) => import("react").ReactNode>} */
const DRAWN = {
  space: () => null,
  def: () => null,
  hr: () => <hr />,
  html: asText,
  heading: (token) => <Heading token={/** @type {HeadingToken} */ (token)} />,
  code: (token) => <CodeBlock text={token.text} language={token.lang ?? ""} />,
  list: (token, depth) => <ListBlock list={/** @type {List} */ (token)} depth={depth} />,
  table: (token) => <TableBlock table={/** @type {Table} */ (token)} />,
  text: (token) => <Inline tokens={token.tokens ?? [token]} />,
  checkbox: (token) => <Inline tokens={[token]} />,
  blockquote: (token, depth) => (
    <blockquote>
      <Blocks tokens={token.tokens ?? []} depth={depth + 1} />
    </blockquote>
  ),
};

/** @param {Generic} token */
function paragraph(token) {
  return (
    <p>
      <Inline tokens={token.tokens ?? [token]} />
    </p>
  );
}

/** @param {Generic} token */
function asText(token) {
  return <p className="as-text">{token.raw.trimEnd()}</p>;
}

/**
 * A message has a heading of the second level, so those of its text begin with the third.
 * @param {{token: HeadingToken}} props
 */
function Heading({ token }) {
  const level = Math.min(6, Math.max(3, token.depth + 1));
  const Tag = /** @type {"h3" | "h4" | "h5" | "h6"} */ (`h${level}`);
  return (
    <Tag data-depth={token.depth}>
      <Inline tokens={token.tokens} />
    </Tag>
  );
}

/** @param {{list: List, depth: number}} props */
function ListBlock({ list, depth }) {
  const items = list.items.map((item, index) => (
    <li key={index} className={item.task ? "task" : undefined}>
      <Blocks tokens={item.tokens} depth={depth + 1} />
    </li>
  ));
  return list.ordered ? <ol start={list.start || undefined}>{items}</ol> : <ul>{items}</ul>;
}

/** @param {{table: Table}} props */
function TableBlock({ table }) {
  const { say } = useLanguage();
  return (
    <div className="table-box" role="group" aria-label={say("table")} tabIndex={0}>
      <table>
        <thead>
          <tr>
            {table.header.map((cell, index) => (
              <th key={index} scope="col" data-align={cell.align ?? undefined}>
                <Inline tokens={cell.tokens} />
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {table.rows.map((row, index) => (
            <tr key={index}>
              {row.map((cell, column) => (
                <td key={column} data-align={cell.align ?? undefined}>
                  <Inline tokens={cell.tokens} />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
