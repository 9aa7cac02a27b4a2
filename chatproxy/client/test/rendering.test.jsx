import { renderToStaticMarkup } from "react-dom/server";
import { describe, expect, it } from "vitest";

import { MarkdownDocument } from "../src/markdown/MarkdownDocument.jsx";
import { CASES } from "./corpus.js";

/**
 * @param {string} text
 * @param {boolean} [final]
 */
function drawn(text, final = true) {
  return renderToStaticMarkup(<MarkdownDocument text={text} final={final} />);
}

/** @type {[RegExp, string][]} */
const IN_SHORT = [
  [/ target="_blank" rel="noopener noreferrer"/g, ""],
  [/_R_\w*_(?=-footnote)/g, ""],
  [/<button [^>]*>↩<\/button>/g, "↩"],
  [/<div class="code-head">.*?<\/div>/gs, ""],
  [/<span class="code-part">(.*?)<\/span>/gs, "$1"],
  [
    /<div class="code"( dir="ltr")?><div class="code-box" role="group" aria-label="Code( ?[^"]*)" tabindex="0"><pre><code>(.*?)<\/code><\/pre><\/div><\/div>/gs,
    "<pre$1$2>$3</pre>",
  ],
  [/<code class="tex"( dir="ltr")? data-display="false">(.*?)<\/code>/gs, "<tex$1>$2</tex>"],
  [/<code class="tex"( dir="ltr")? data-display="true">(.*?)<\/code>/gs, "<tex display>$2</tex>"],
  [
    /<div class="formula-box" role="group" aria-label="Formula" tabindex="0"><tex display>(.*?)<\/tex><\/div>/gs,
    "<formula>$1</formula>",
  ],
  [
    /<div class="table-box" role="group" aria-label="Table" tabindex="0">(.*?<\/table>)<\/div>/gs,
    "$1",
  ],
  [/<div class="blocks">(.*?)<\/div>(?=$|<section|<div class="blocks">)/gs, "$1"],
  [/\n/g, "⏎"],
];

/**
 * @param {string} html
 * @param {boolean} withDirections
 */
function inShort(html, withDirections) {
  const start = withDirections ? html : html.replace(/ dir="(?:auto|ltr)"/g, "");
  return IN_SHORT.reduce((text, [what, by]) => text.replace(what, by), start);
}

describe("Markdown", () => {
  it.each(CASES)("$title", ({ title, source, expected }) => {
    expect(inShort(drawn(source), title.startsWith("directions"))).toBe(expected);
  });

  it.each([
    "<script>alert(1)</script>",
    "text <img src=x onerror=alert(1)> text",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<svg/onload=alert(1)>",
    '<a href="javascript:alert(1)">x</a>',
    "<div\n\n<style>*{display:none}</style>",
    "- <math><mi xlink:href='javascript:alert(1)'>",
    "| <b onclick=alert(1)> |\n| --- |\n| <form action=x> |",
    "<details ontoggle=alert(1) open>\n<summary onclick=alert(1)>x</summary>\n\n</details>",
    "<sub onclick=alert(1)>x</sub>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;",
  ])("makes nothing of HTML that can do harm: %j", (text) => {
    const elements = drawn(text).match(/<\/?[a-z][^>]*/gi) ?? [];
    const harmless =
      /^<\/?(?:div|p|ul|li|table|thead|tbody|tr|th|td|sub|details|summary)(?: (?:class|dir|role|scope|tabindex|open|aria-label)="[^"]*")*$/;
    expect(elements.filter((element) => !harmless.test(element))).toEqual([]);
  });

  it.each([
    "[x](javascript:alert(1))",
    "[x](JAVASCRIPT:alert(1))",
    "[x](java&#115;cript:alert(1))",
    "[x](&#1;javascript:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](java&Tab;script:alert(1))",
    "[x](<java\tscript:alert(1)>)",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:x)",
    "<javascript:alert(1)>",
    "![x](javascript:alert(1))",
    "[x][1]\n\n[1]: javascript:alert(1)",
    "[x](//example.com)",
  ])("makes no link of %j", (text) => expect(drawn(text)).not.toContain("<a"));

  it("fetches nothing: an image is a link", () => {
    const html = drawn("![a chart](https://example.com/x.png)");
    expect(html).not.toContain("<img");
    expect(html).toContain('href="https://example.com/x.png"');
    expect(html).toContain(">a chart</a>");
  });

  it("draws nesting without end as text", () => {
    expect(drawn("> ".repeat(500)).length).toBeLessThan(5000);
    expect(drawn(`${"- ".repeat(200)}end`)).toContain("end");
    expect(drawn(`${"*a **b ".repeat(60)}${"** *".repeat(60)}`)).toContain("a");
    expect(drawn("<details>\n".repeat(100))).toContain("&lt;details&gt;");
  });

  it("names the footnotes of each message for that message", () => {
    const text = "a[^1]\n\n[^1]: b";
    const html = renderToStaticMarkup(
      <>
        <MarkdownDocument text={text} final />
        <MarkdownDocument text={text} final />
      </>,
    );
    const ids = [...html.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id);
    const targets = [...html.matchAll(/href="#([^"]*)"/g)].map(([, id]) => id);
    expect(new Set(ids).size).toBe(2);
    expect(targets).toEqual(ids);
  });
});

describe("Markdown that grows", () => {
  it.each([
    ["\\(x^2 +", "<tex>x^2 +</tex>"],
    ["so \\[ x", "<tex display>x</tex>"],
    ["$$\nx\n\n+ y", "<formula>x⏎⏎+ y</formula>"],
    ["\\[\nx \\\\", "<formula>x \\\\</formula>"],
    ["```js\nlet a", "<pre js>let a</pre>"],
    ["H<sub>2", "<sub>2</sub>"],
    ["a **b** <kbd>C", "<kbd>C</kbd>"],
    ["It costs $5 and", "<p>It costs $5 and</p>"],
    ["See [^1]", "<sup>1</sup>"],
    ["5 * 3 and ` more of it", "<p>5 * 3 and ` more of it</p>"],
    ["5 * 3 and *more `of it", "<em>more <code>of it</code></em>"],
    ["<details>\n<summary>Mo", "<summary>Mo</summary>"],
  ])("shows what has no end yet as what it is going to be: %j", (text, expected) => {
    expect(inShort(drawn(text, false), false)).toContain(expected);
  });

  it("shows only the end of the text so", () => {
    const text = "- <kbd>a\n- \\(b\n- c\n\n  > <kbd>d\n  >\n  > e";
    expect(inShort(drawn(text, false), false)).toBe(inShort(drawn(text), false));
  });
});
