import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { describe, expect, it } from "vitest";

import {
  drawnGroups,
  EMPTY_PLAIN,
  footnotesOf,
  grow,
  GROUP,
  LONGEST_LINE,
} from "../src/markdown/growing-document.js";
import { parseBlocks } from "../src/markdown/parse-blocks.js";
import { parseSpans } from "../src/markdown/parse-spans.js";
import { NO_REFERENCES } from "../src/markdown/references.js";
import { CASES } from "./corpus.js";

/** @typedef {import("../src/markdown/growing-document.js").GrowingDocument} GrowingDocument */

const SAMPLE = readFileSync(new URL("./sample.md", import.meta.url), "utf8");
/** @type {GrowingDocument} */
const EMPTY = { ...EMPTY_PLAIN, parse: parseBlocks };

/** @param {GrowingDocument} document */
function blocksOf(document) {
  return drawnGroups(document).flat();
}

/** @param {GrowingDocument} document */
function textOf(document) {
  return blocksOf(document)
    .map((block) => ("text" in block ? block.text : ""))
    .join("");
}

/** @param {GrowingDocument} document */
function drawn(document) {
  return { groups: drawnGroups(document), definitions: document.definitions };
}

/**
 * @param {string} text
 * @param {number[]} ends where its pieces end
 */
function streamed(text, ends) {
  let document = EMPTY;
  for (const end of ends) {
    document = grow(document, text.slice(0, end), false, EMPTY);
  }
  return grow(document, text, true, EMPTY);
}

/**
 * @param {string} text
 * @param {number} [step]
 */
function inSteps(text, step = 1) {
  return Array.from({ length: Math.ceil(text.length / step) }, (_, at) => (at + 1) * step);
}

/**
 * The least of three measurements, or the first that is little: what else goes on adds to some.
 * @param {() => number} measure
 * @param {number} little
 */
function leastOf(measure, little) {
  let least = Infinity;
  for (let tries = 0; tries < 3 && least > little; tries += 1) {
    least = Math.min(least, measure());
  }
  return least;
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc");

/**
 * @param {() => unknown} make
 * @returns {number} bytes that what it makes takes
 */
function memoryOf(make) {
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  const made = make();
  collectGarbage();
  const taken = process.memoryUsage().heapUsed - before;
  expect(made).toBeDefined();
  return taken;
}

describe("a growing document", () => {
  it.each([{ title: "a sample", source: SAMPLE }, ...CASES])(
    "is that of the whole text in the end, wherever it was cut, with $title",
    ({ source }) => {
      const whole = drawn(grow(EMPTY, source, true, EMPTY));
      for (const split of inSteps(source, Math.ceil(source.length / 200))) {
        expect(drawn(streamed(source, [split]))).toEqual(whole);
      }
      for (const step of [1, 7, 50]) {
        expect(drawn(streamed(source, inSteps(source, step)))).toEqual(whole);
      }
    },
  );

  it("is that of the whole text with other line ends, and joined from all cases", () => {
    const all = CASES.map(({ source }) => source).join("\n\n");
    for (const text of [all, all.replaceAll("\n", "\r\n"), all.replaceAll("\n", "\r")]) {
      const whole = grow(EMPTY, text, true, EMPTY);
      expect(drawn(streamed(text, inSteps(text, 11)))).toEqual(drawn(whole));
    }
  });

  it("goes on after what was taken for its end", () => {
    const document = grow(grow(EMPTY, "One\n\nTw", true, EMPTY), "One\n\nTwo", false, EMPTY);
    expect(blocksOf(document)).toMatchObject([{ text: "One" }, { text: "Two" }]);
  });

  it("parses settled blocks once", () => {
    const first = grow(EMPTY, "# One\n\nTwo\n\nThree", false, EMPTY);
    const next = grow(first, "# One\n\nTwo\n\nThree and more\n\nFour", false, EMPTY);
    expect(blocksOf(next)[0]).toBe(blocksOf(first)[0]);
  });

  it("parses no more than its end", () => {
    /** @type {string[]} */
    const parsed = [];
    /** @type {GrowingDocument} */
    const empty = {
      ...EMPTY_PLAIN,
      parse(text, growing) {
        parsed.push(text);
        return parseBlocks(text, growing);
      },
    };
    let document = empty;
    const text = Array.from({ length: 100 }, (_, n) => `Paragraph ${n}.\n\n`).join("");
    for (let end = 1; end <= text.length; end += 1) {
      document = grow(document, text.slice(0, end), false, empty);
    }
    const longest = parsed.reduce((most, each) => Math.max(most, each.length), 0);
    expect(longest).toBeLessThan(50);
  });

  it("keeps full groups, so that they need not be compared", () => {
    const text = Array.from({ length: 3 * GROUP }, (_, n) => `Paragraph ${n}`).join("\n\n");
    const first = grow(EMPTY, text, false, EMPTY);
    const next = grow(first, `${text}\n\nOne more`, false, EMPTY);
    expect(first.groups.length).toBe(2);
    expect(next.groups[0]).toBe(first.groups[0]);
    expect(next.groups[1]).toBe(first.groups[1]);
  });

  it("waits with a line that is only markup so far", () => {
    const document = grow(EMPTY, "Some text\n-", false, EMPTY);
    expect(blocksOf(document)).toMatchObject([{ kind: "paragraph" }]);
  });

  it("finds the address of a link wherever it is defined, and says only what is new", () => {
    const text = "See [this][1].\n\n> [1]: https://example.com\n\nMore\n\nand more";
    const document = grow(EMPTY, text, false, EMPTY);
    expect(document.definitions).toMatchObject({ 1: { href: "https://example.com" } });
    const next = grow(document, `${text}.\n\nThe end`, false, EMPTY);
    expect(next.definitions).toBe(document.definitions);
  });

  it("has the footnotes in their order, the first for each label", () => {
    const text = "[^b]: B\n\nText\n\n[^a]: A\n[^b]: another";
    const found = footnotesOf(streamed(text, inSteps(text)));
    expect(found).toMatchObject([
      { label: "b", blocks: [{ text: "B" }] },
      { label: "a", blocks: [{ text: "A" }] },
    ]);
  });

  it("begins anew if the text is another one", () => {
    const document = grow(EMPTY, "One\n\nTwo\n\nThree", false, EMPTY);
    expect(textOf(grow(document, "Other", true, EMPTY))).toBe("Other");
  });

  it("shows a line without end as plain pieces, and loses nothing", () => {
    const line = "x".repeat(2 * 1024 * 1024);
    const text = `Before\n\n${line}\nafter`;
    const document = streamed(text, inSteps(text, 400_000));
    expect(document.parse).toBe(null);
    expect(textOf(document)).toBe(`Before${line}\nafter`);
  });

  it.each([
    ["Markdown", EMPTY, "Some *words* of a paragraph.\n\n- and an item\n\n"],
    ["plain text", EMPTY_PLAIN, "Some words. "],
  ])("takes no more memory for having been streamed: %s", (_name, empty, part) => {
    const text = part.repeat(40_000 / part.length);
    const stream = () => {
      let document = empty;
      for (let [from, soFar] = [0, ""]; from < text.length; from += 50) {
        soFar += text.slice(from, from + 50); // as the page does it
        document = grow(document, soFar, false, empty);
      }
      return grow(document, text, true, empty);
    };
    const most = 100 * text.length;
    expect(leastOf(() => memoryOf(stream), most)).toBeLessThan(most);
  });

  it("takes no longer for a piece of it than a frame has", () => {
    const line = "word ".repeat(500_000);
    let document = grow(EMPTY, line, false, EMPTY);
    let longer = line;
    const measure = () => {
      longer += "more ";
      const begun = process.threadCpuUsage();
      document = grow(document, longer, false, EMPTY);
      return process.threadCpuUsage(begun).user;
    };
    expect(leastOf(measure, 16_000)).toBeLessThan(16_000);
  });

  it("never cuts a character in two", () => {
    const text = "👋".repeat(LONGEST_LINE);
    for (const block of blocksOf(grow(EMPTY_PLAIN, text, true, EMPTY_PLAIN))) {
      expect(block.kind === "plain" && block.text.isWellFormed()).toBe(true);
    }
  });
});

describe("what has no end yet", () => {
  const known = NO_REFERENCES;
  /** @param {any[]} spans @returns {any[]} */
  const shown = (spans) =>
    spans
      .filter((span) => span !== "")
      .map((span) => (span.children ? { ...span, children: shown(span.children) } : span));
  const strong = (/** @type {any[]} */ ...children) => ({ kind: "tag", tag: "strong", children });
  const em = (/** @type {any[]} */ ...children) => ({ kind: "tag", tag: "em", children });
  const del = (/** @type {any[]} */ ...children) => ({ kind: "tag", tag: "del", children });
  const code = (/** @type {string} */ text) => ({ kind: "code", text });

  it.each([
    ["a **bo", ["a ", strong("bo")]],
    ["a **bold*", ["a ", strong("bold")]],
    ["a **bold**", ["a ", strong("bold")]],
    ["a *b **c", ["a ", em("b ", strong("c"))]],
    ["**a *b* c", [strong("a ", em("b"), " c")]],
    ["_a **b_ c", [em("a **b"), " c"]],
    ["***both", [em(strong("both"))]],
    ["~~gone _and", [del("gone ", em("and"))]],
    ["**注意：", [strong("注意：")]],
    ["a **", ["a "]],
    ["2 * 3 and snake_case", ["2 * 3 and snake_case"]],
    ["run `npm i", ["run ", code("npm i")]],
    ["run `npm` or `", ["run ", code("npm"), " or "]],
    ["**run `a * b", [strong("run ", code("a * b"))]],
    ["``a ` b", [code("a ` b")]],
    ["\\`no `yes", ["`no ", code("yes")]],
  ])("is shown as what it is going to be: %s", (text, spans) => {
    expect(shown(parseSpans(text, known, true))).toEqual(spans);
  });

  it.each(["a **bo", "run `npm i", "~~x"])("is text, if the text has ended: %s", (text) => {
    expect(parseSpans(text, known, false).join("")).toBe(text);
  });
});

describe("hostile text", () => {
  const pieces = [
    ">", "- ", "[", "*a ", "`", "![](", "<a ", "<sub>", "| ", "**_",
    "&", "\\", "\\(", "\\[", "$a", "$$",
    "$5 ", "http://", "a@", "_", "~~", "[a](<", "[^a]", "1. ", "**注",
    "<details>\n", "<details>\n<summary>", "<details> x\n", "[^1]: \n", "[1]:\n", "$$\n",
    "\\[\n", "```\n", "> - ", "| a\n|-\n", "[a](<b *c `d\n",
  ];

  /** Microseconds. */
  const LITTLE = 30_000;

  /**
   * The processor time that it takes, in microseconds: other work on the machine does not count.
   * @param {() => unknown} work
   */
  function cost(work) {
    return leastOf(() => {
      const begun = process.threadCpuUsage();
      work();
      return process.threadCpuUsage(begun).user;
    }, LITTLE);
  }

  /**
   * Whether eight times as much costs less than the square of that; a little may cost anything.
   * @param {(length: number) => unknown} work
   * @param {number} length
   */
  function expectLinear(work, length) {
    const long = cost(() => work(8 * length));
    expect(long < LITTLE || long < 32 * cost(() => work(length))).toBe(true);
  }

  it.each(pieces)("costs what its length does: %j again and again", (piece) => {
    const text = piece.repeat(Math.ceil(20_000 / piece.length));
    expectLinear((length) => grow(EMPTY, text.slice(0, length), false, EMPTY), 2500);
    const known = { ...NO_REFERENCES, mayBeDefined: true };
    expectLinear((length) => parseSpans(text.slice(0, length), known, true), LONGEST_LINE / 8);
  });
});
