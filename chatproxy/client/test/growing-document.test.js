import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { describe, expect, it } from "vitest";

import {
  drawnGroups,
  EMPTY_MARKDOWN,
  EMPTY_PLAIN,
  grow,
  GROUP,
  LONGEST_LINE,
} from "../src/lib/growing-document.js";

const SAMPLE = readFileSync(new URL("./sample.md", import.meta.url), "utf8");

/** @param {import("../src/lib/growing-document.js").GrowingDocument} document */
function blocksOf(document) {
  return drawnGroups(document).flat();
}

/** @param {import("../src/lib/growing-document.js").GrowingDocument} document */
function textOf(document) {
  return blocksOf(document)
    .map((block) => (block.kind === "plain" ? block.text : block.token.raw))
    .join("");
}

/**
 * @param {string} text
 * @param {number} step
 */
function streamed(text, step) {
  let document = EMPTY_MARKDOWN;
  for (let end = step; end < text.length; end += step) {
    document = grow(document, text.slice(0, end), false);
  }
  return grow(document, text, true);
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
  it.each([1, 2, 3, 7, 50])("ends as the same blocks, streamed %i characters at a time", (step) => {
    const whole = blocksOf(grow(EMPTY_MARKDOWN, SAMPLE, true));
    expect(blocksOf(streamed(SAMPLE, step))).toEqual(whole);
  });

  it("parses settled blocks once", () => {
    const first = grow(EMPTY_MARKDOWN, "# One\n\nTwo\n\nThree", false);
    const next = grow(first, "# One\n\nTwo\n\nThree and more\n\nFour", false);
    expect(blocksOf(next)[0]).toBe(blocksOf(first)[0]);
    expect(blocksOf(next)[1]).toBe(blocksOf(first)[1]);
  });

  it("keeps full groups, so that they need not be compared", () => {
    const text = Array.from({ length: 3 * GROUP }, (_, n) => `Paragraph ${n}`).join("\n\n");
    const first = grow(EMPTY_MARKDOWN, text, false);
    const next = grow(first, `${text}\n\nOne more`, false);
    expect(first.groups.length).toBe(2);
    expect(next.groups[0]).toBe(first.groups[0]);
    expect(next.groups[1]).toBe(first.groups[1]);
  });

  it("waits with a line that is only markup so far", () => {
    const document = grow(EMPTY_MARKDOWN, "Some text\n-", false);
    expect(blocksOf(document)).toMatchObject([{ token: { type: "paragraph" } }]);
  });

  it("finds the address of a link that is defined at the end", () => {
    const text = "See [this][1].\n\nMore.\n\n[1]: https://example.com\n";
    const [first] = blocksOf(streamed(text, 3));
    expect(JSON.stringify(first)).toContain('"href":"https://example.com"');
  });

  it("begins anew where the text is another one", () => {
    const document = grow(EMPTY_MARKDOWN, "One\n\nTwo\n\nThree", false);
    expect(textOf(grow(document, "Other", true))).toBe("Other");
  });

  it("shows a line without end as plain pieces, and loses nothing", () => {
    const line = "x".repeat(2 * 1024 * 1024);
    const document = streamed(`Before\n\n${line}\nafter`, 400_000);
    expect(document.plain).toBe(true);
    expect(textOf(document)).toContain("Before");
    expect(textOf(document).replace("Before\n\n", "Before")).toContain(`${line}\nafter`);
  });

  it.each([
    ["Markdown", EMPTY_MARKDOWN, "Some *words* of a paragraph.\n\n- and an item\n\n"],
    ["plain text", EMPTY_PLAIN, "Some words. "],
  ])("takes no more memory for having been streamed: %s", (_name, empty, part) => {
    const text = part.repeat(80_000 / part.length);
    const whole = memoryOf(() => grow(empty, text, true, empty));
    const grown = memoryOf(() => {
      let document = empty;
      for (let [from, soFar] = [0, ""]; from < text.length; from += 50) {
        soFar += text.slice(from, from + 50); // as the page does it
        document = grow(document, soFar, false, empty);
      }
      return grow(document, text, true, empty);
    });
    expect(grown).toBeLessThan(2 * whole + 1e6);
  });

  it("takes no longer for a piece of it than a frame has", () => {
    const line = "word ".repeat(500_000);
    let document = grow(EMPTY_MARKDOWN, line, false);
    const took = Array.from({ length: 20 }, (_, n) => {
      const longer = line + "more ".repeat(n);
      const begun = performance.now();
      document = grow(document, longer, false);
      return performance.now() - begun;
    });
    // Other work may keep the core from most of them; what one costs shows in the quickest.
    expect(Math.min(...took)).toBeLessThan(16);
  });

  it("never cuts a character in two", () => {
    const text = "👋".repeat(LONGEST_LINE);
    for (const block of blocksOf(grow(EMPTY_PLAIN, text, true))) {
      expect(block.kind === "plain" && block.text.isWellFormed()).toBe(true);
    }
  });

  it.each([
    [">".repeat(10_000)],
    ["- ".repeat(5000)],
    ["[".repeat(10_000)],
    ["*a ".repeat(5000)],
    ["`".repeat(10_001)],
    ["![](".repeat(4000)],
    ["<a ".repeat(5000)],
    ["| ".repeat(8000)],
    ["**_".repeat(5000)],
    ["&".repeat(16_000)],
    ["\\".repeat(16_000)],
    ["http://".repeat(2300)],
    ["a@".repeat(8000)],
    ["_".repeat(16_000)],
    ["~~".repeat(8000)],
    ["[a](<".repeat(3200)],
    ["1. ".repeat(5000)],
  ])("survives a hostile line, case %#", (text) => {
    const begun = performance.now();
    const document = grow(EMPTY_MARKDOWN, text, false);
    expect(drawnGroups(document).length).toBeGreaterThan(0);
    expect(performance.now() - begun).toBeLessThan(500);
  });

  it("survives a hostile paragraph of many lines", () => {
    const begun = performance.now();
    grow(EMPTY_MARKDOWN, "[a](<b *c `d\n".repeat(20_000), false);
    expect(performance.now() - begun).toBeLessThan(500);
  });
});
