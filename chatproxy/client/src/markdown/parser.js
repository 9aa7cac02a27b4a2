/**
 * The parser of Markdown: markdown-it, with emphasis that works in Chinese, Japanese and Korean, and
 * the rules of ours. Only its tokens are used. It makes no HTML, and what looks like HTML in an answer
 * is a token with its source.
 */

import MarkdownIt from "markdown-it";
import cjkFriendly from "markdown-it-cjk-friendly";

import { useBlockRules } from "./block-rules.js";
import { useInlineRules } from "./inline-rules.js";

export const parser = new MarkdownIt({ html: true, linkify: true, maxNesting: 30 });
parser.use(cjkFriendly);
useBlockRules(parser);
useInlineRules(parser);
// An address is checked when it is drawn, and is not rewritten here.
parser.validateLink = () => true;
parser.normalizeLink = (address) => address;
parser.normalizeLinkText = (address) => address;
