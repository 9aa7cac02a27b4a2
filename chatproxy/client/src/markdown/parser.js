/**
 * The parser of Markdown: markdown-it, with emphasis that works in Chinese, Japanese and Korean, and
 * rules of ours (`rules/`). Only its tokens are used. It makes no HTML, and what looks like HTML in an answer
 * is a token with its source.
 */

import MarkdownIt from "markdown-it";
import cjkFriendly from "markdown-it-cjk-friendly";

import { limitDepth } from "./rules/depth.js";
import { useDetails } from "./rules/details.js";
import { useFootnotes } from "./rules/footnotes.js";
import { useFormulas } from "./rules/formulas.js";
import { useUnfinished } from "./rules/unfinished.js";

export const parser = new MarkdownIt({ html: true, linkify: true, maxNesting: 30 });
parser.use(cjkFriendly);
limitDepth(parser);
useFormulas(parser);
useDetails(parser);
useFootnotes(parser);
useUnfinished(parser);
// An address is checked when it is drawn, and is not rewritten here.
parser.validateLink = () => true;
parser.normalizeLink = (address) => address;
parser.normalizeLinkText = (address) => address;
