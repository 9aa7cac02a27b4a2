import { readFileSync } from "node:fs";

import { renderToStaticMarkup } from "react-dom/server";
import { describe, expect, it } from "vitest";

import { Markdown } from "../src/components/Markdown.jsx";

/** @param {string} text */
function drawn(text) {
  return renderToStaticMarkup(<Markdown text={text} final />);
}

describe("Markdown", () => {
  it("draws what people expect", () => {
    const html = drawn(readFileSync(new URL("./sample.md", import.meta.url), "utf8"));
    for (const part of [
      '<h3 data-depth="2">A heading</h3>',
      "<strong>bold</strong>",
      "<em>emphasis</em>",
      "<code>code</code>",
      "<del>struck</del>",
      '<a href="https://example.com/" target="_blank" rel="noopener noreferrer" title="title">link</a>',
      '<li class="task"><span class="checkbox">☐ </span>task</li>',
      "<blockquote><p>A quotation",
      '<th scope="col" data-align="center">centre</th>',
      '<td data-align="right">3</td>',
      "<hr/>",
      "The end &amp; nothing more. 👋",
    ]) {
      expect(html).toContain(part);
    }
  });

  it.each([
    ["&hellip; &copy; &ngE; &#8364;&#x20AC;", "… © ≧̸ €€"],
    ["&nosuch; &constructor; & &amp;amp;", "&amp;nosuch; &amp;constructor; &amp; &amp;amp;"],
    ["&#0;&#xD800;&#x110000;", "\ufffd\ufffd\ufffd"],
  ])("draws character references, and leaves what is none: %j", (text, shown) =>
    expect(drawn(text)).toContain(`<p>${shown}</p>`),
  );

  it.each([
    "<script>alert(1)</script>",
    "text <img src=x onerror=alert(1)> text",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<svg/onload=alert(1)>",
    '<a href="javascript:alert(1)">x</a>',
    "<div\n\n<style>*{display:none}</style>",
    "- <math><mi xlink:href='javascript:alert(1)'>",
    "| <b onclick=alert(1)> |\n| --- |\n| <form action=x> |",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;",
  ])("shows HTML as the text that it is: %j", (text) => {
    const elements = drawn(text).match(/<\/?[a-z]\w*/gi) ?? [];
    const harmless = /^<\/?(?:div|p|ul|li|table|thead|tbody|tr|th|td)$/;
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
  ])("makes no link of %j", (text) => expect(drawn(text)).not.toContain("<a"));

  it("fetches nothing: an image is a link", () => {
    const html = drawn("![a chart](https://example.com/x.png)");
    expect(html).not.toContain("<img");
    expect(html).toContain('href="https://example.com/x.png"');
    expect(html).toContain(">a chart</a>");
  });

  it("lets a line break stand, in tables too", () => {
    expect(drawn("| a |\n| - |\n| 1<br>2 |")).toContain("<td>1<br/>2</td>");
  });

  it("draws nesting without end as text", () => {
    expect(drawn("> ".repeat(500)).length).toBeLessThan(5000);
    expect(drawn(`${"*a **b ".repeat(60)}${"** *".repeat(60)}`)).toContain("a");
  });
});
