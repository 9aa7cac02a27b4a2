import { describe, expect, it } from "vitest";

import { growCode, NO_CODE, partsOf } from "../src/markdown/growing-code.js";
import { highlighterFor } from "../src/markdown/highlighter.js";
import { grammarNamed } from "../src/markdown/languages.js";

/** @typedef {import("../src/markdown/growing-code.js").Highlight} Highlight */
/** @typedef {import("../src/markdown/growing-code.js").Content} Content */

const PYTHON = Array.from(
  { length: 40 },
  (_, n) => `def f${n}(x):\n    """Says\n\n    so."""\n    return "${n}" + x  # ${n}\n`,
).join("\n");
const STYLE = Array.from({ length: 50 }, (_, n) => `.c${n} {\n  color: red;\n}`).join("\n");
const SCRIPT = Array.from({ length: 300 }, (_, n) => `const a${n} = "<p>" + ${n};`).join("\n");
const HTML = `<!doctype html>
<style>
${STYLE}
</style>
<p class="a">text</p>
<script>
${SCRIPT}
</script>
<p class="b">text</p>`;

/**
 * The highlighted parts as one list: a name and what it stands for.
 * @param {import("../src/markdown/growing-code.js").GrowingCode} code
 */
function highlighted(code) {
  return partsOf(code).flatMap(({ text, language }) => {
    const { children = [] } = code.highlight?.(text, language) ?? {};
    return [...children.flatMap((content) => named(content, "")), ["", "\n"]];
  });
}

/**
 * @param {Content} content
 * @param {string} name
 * @returns {string[][]}
 */
function named(content, name) {
  if (content.type === "text") {
    return [[name, content.value]];
  }
  if (content.type !== "element") {
    return [];
  }
  return content.children.flatMap((each) => named(each, String(content.properties.className)));
}

/**
 * @param {string[][]} pairs
 * @param {string} name
 */
function ofName(pairs, name) {
  return pairs.filter(([each]) => each === name).map(([, text]) => text);
}

describe("growing code", () => {
  it.each([
    /** @type {const} */ (["python", PYTHON, 1]),
    /** @type {const} */ (["xml", HTML, 7]),
  ])("has the same parts however it came: %s", async (name, text, least) => {
    const highlight = await highlighterFor(name);
    const whole = growCode(NO_CODE, text, highlight);
    for (const step of [least, 333]) {
      let code = NO_CODE;
      for (let end = step; end < text.length; end += step) {
        code = growCode(code, text.slice(0, end), highlight);
      }
      expect(partsOf(growCode(code, text, highlight))).toEqual(partsOf(whole));
    }
    expect(partsOf(whole).map((part) => part.text).join("\n")).toBe(text);
  });

  it("ends a part in no comment and no string", async () => {
    const highlight = await highlighterFor("python");
    const pairs = highlighted(growCode(NO_CODE, PYTHON, highlight));
    const whole = highlight(PYTHON).children.flatMap((content) => named(content, ""));
    for (const name of ["hljs-string", "hljs-keyword", "hljs-comment", "hljs-number"]) {
      expect(ofName(pairs, name)).toEqual(ofName(whole, name));
    }
  });

  it("highlights a page's style and scripts to their ends", async () => {
    const highlight = await highlighterFor("xml");
    const pairs = highlighted(growCode(NO_CODE, HTML, highlight));
    expect(ofName(pairs, "hljs-keyword").filter((text) => text === "const").length).toBe(300);
    expect(ofName(pairs, "hljs-selector-class").length).toBe(50);
    expect(ofName(pairs, "hljs-string")).toContain('"b"');
  });

  it("highlights no more than its last part again", async () => {
    const python = await highlighterFor("python");
    let most = 0;
    /** @type {Highlight} */
    const counting = (code, language) => {
      most = Math.max(most, code.length);
      return python(code, language);
    };
    let code = NO_CODE;
    for (let end = 1; end <= PYTHON.length; end += 9) {
      code = growCode(code, PYTHON.slice(0, end), counting);
      const { text, language } = partsOf(code).at(-1) ?? { text: "" };
      counting(text, language);
    }
    expect(most).toBeLessThan(4000);
  });

  it("is bounded if a part has no end", async () => {
    const highlight = await highlighterFor("python");
    const text = `"""\n${"never ending\n".repeat(5000)}`;
    const parts = partsOf(growCode(NO_CODE, text, highlight));
    expect(Math.max(...parts.map((part) => part.text.length))).toBeLessThan(10_000);
  });

  it("begins anew if the text or the highlighter is another one", async () => {
    const highlight = await highlighterFor("python");
    const plain = growCode(NO_CODE, PYTHON, null);
    const code = growCode(plain, PYTHON, highlight);
    expect(partsOf(code)).toEqual(partsOf(growCode(NO_CODE, PYTHON, highlight)));
    expect(partsOf(growCode(code, "x", highlight))).toEqual([{ text: "x", language: undefined }]);
  });
});

describe("the name of a language", () => {
  it.each([
    ["Python", "python"],
    ["c++", "cpp"],
    ["HTML", "xml"],
    ["tsx", "typescript"],
    ["nosuch", undefined],
    ["constructor", undefined],
    ["", undefined],
  ])("%j is %j", (name, grammar) => expect(grammarNamed(name)).toBe(grammar));
});
