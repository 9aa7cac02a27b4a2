import { decodeHTMLStrict } from "entities/decode";

import { safeLink } from "../lib/safe-link.js";

/**
 * @typedef {import("marked").Token} Token
 * @typedef {import("marked").Tokens.Generic} Generic
 * @typedef {import("react").ReactNode} ReactNode
 */

const DEEPEST = 20;
const LINE_BREAK = /^<br\s*\/?>$/i;

/**
 * What stands in a line of Markdown.
 * @param {{tokens: Token[], depth?: number}} props
 */
export function Inline({ tokens, depth = 0 }) {
  return tokens.map((token, index) => <Piece key={index} token={token} depth={depth + 1} />);
}

/** @param {{token: Generic, depth: number}} props */
function Piece({ token, depth }) {
  if (depth > DEEPEST) {
    return token.raw;
  }
  const inner = token.tokens ? <Inline tokens={token.tokens} depth={depth} /> : null;
  return (DRAWN[token.type] ?? text)(token, inner);
}

/** @type {Record<string, (token: Generic, inner: ReactNode) => ReactNode>} */
const DRAWN = {
  strong: (_token, inner) => <strong>{inner}</strong>,
  em: (_token, inner) => <em>{inner}</em>,
  del: (_token, inner) => <del>{inner}</del>,
  codespan: (token) => <code>{token.text}</code>,
  br: () => <br />,
  link,
  image: link,
  checkbox: (token) => <span className="checkbox">{token.checked ? "☑ " : "☐ "}</span>,
  html: (token) => (LINE_BREAK.test(token.raw) ? <br /> : token.raw),
  escape: (token) => token.text,
};

/**
 * @param {Generic} token
 * @param {ReactNode} inner
 */
function text(token, inner) {
  return inner ?? decodeHTMLStrict(token.text ?? token.raw);
}

/**
 * @param {Generic} token
 * @param {ReactNode} inner
 */
function link(token, inner) {
  return <Link token={token}>{inner ?? token.text}</Link>;
}

/**
 * A link that can do no harm, or else only its text. Images are links too: fetching one would tell
 * its server who reads the answer.
 * @param {{token: Generic, children: ReactNode}} props
 */
function Link({ token, children }) {
  const href = safeLink(token.autolink ? token.href : decodeHTMLStrict(token.href));
  if (href === null) {
    return children;
  }
  return (
    <a href={href} target="_blank" rel="noopener noreferrer" title={token.title ?? undefined}>
      {children}
    </a>
  );
}
