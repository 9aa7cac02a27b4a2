import { beforeEach, describe, expect, it, vi } from "vitest";

import { typeset } from "../src/markdown/typeset.js";

/** As much of an element as KaTeX needs. */
class Element {
  /** @type {Record<string, string>} */
  style = {};
  /** @type {Map<string, string>} */
  attributes = new Map();
  /** @type {Element[]} */
  children = [];

  /**
   * @param {string} name
   * @param {string} value
   */
  setAttribute(name, value) {
    this.attributes.set(name, value);
  }

  /** @param {Element} child */
  appendChild(child) {
    this.children.push(child);
  }

  /**
   * It, and all that is in it.
   * @param {Element[]} found
   */
  all(found = []) {
    found.push(this);
    this.children.forEach((child) => child.all(found));
    return found;
  }
}

beforeEach(() => {
  const create = () => new Element();
  vi.stubGlobal("document", {
    createElement: create,
    createElementNS: create,
    createTextNode: create,
    createDocumentFragment: create,
  });
});

/**
 * @param {string} tex
 * @returns {Element[] | undefined} undefined if nothing comes of it
 */
function elements(tex) {
  return /** @type {Element | null} */ (/** @type {unknown} */ (typeset(tex, true)))?.all();
}

describe("typeset", () => {
  it.each([
    "x^2 + \\frac{1}{2}",
    "\\vec{a} \\fcolorbox{red}{blue}{x} \\pmb{y} \\left( \\int_0^1 \\right)",
    "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\\\ 5 & 6 \\\\ 7 & 8 \\end{pmatrix}",
    "\\ce{2H2 + O2 -> 2H2O}",
    "\\text{速度} = 5 \\, \\mathrm{m/s}",
    "\\newcommand{\\own}{\\mathbb{R}} x \\in \\own",
  ])("makes elements of %j, and no attribute that the page's policy forbids", (tex) => {
    const found = elements(tex);
    expect(found?.length).toBeGreaterThan(10);
    expect(found?.some((each) => each.attributes.has("style"))).toBe(false);
  });

  it("sets by the DOM what KaTeX writes as an attribute: the width of an arrow", () => {
    const styles = elements("\\vec{a}")?.map(({ style }) => style.cssText);
    expect(styles).toContain("width:0.471em");
  });

  it.each([
    ["what is none", "\\frac{1}"],
    ["what it does not know", "\\nosuchcommand{x}"],
    ["nesting without end", "{".repeat(1900) + "}".repeat(1900)],
    ["a macro that calls itself", "\\def\\a{\\a\\a}\\a"],
    ["long macros", `\\def\\a{${"x".repeat(1500)}}${"\\a".repeat(1000)}`],
    ["macros of macros", `\\def\\a{xxxx}\\def\\b{\\a\\a\\a}\\def\\c{\\b\\b\\b}${"\\c".repeat(600)}`],
    ["what is too long", "x".repeat(5000)],
    ["more rows than anybody reads", `\\begin{matrix}${"x\\\\".repeat(1300)}\\end{matrix}`],
  ])("makes nothing of %s", (_name, tex) => expect(elements(tex)).toBe(undefined));

  it.each([
    `${"\\sqrt{".repeat(500)}x${"}".repeat(500)}`,
    "x^{".repeat(900) + "}".repeat(900),
    `${"\\frac{1}{".repeat(300)}x${"}".repeat(300)}`,
    "\\frac{1}{".repeat(39) + "x".repeat(3500) + "}".repeat(39),
    `\\begin{matrix}${"&".repeat(3900)}\\end{matrix}`,
    `\\begin{matrix}${"&".repeat(500)}\\end{matrix}`,
    `\\begin{matrix}${"x\\\\".repeat(499)}\\end{matrix}`,
    "\\left(x".repeat(400) + "\\right)".repeat(400),
    "\\overbrace{x}".repeat(300),
    "\\dfrac12".repeat(500),
    "\\ce{H2O}".repeat(400),
    "x".repeat(4000),
  ])("makes no more than some thousand elements of a hostile one, case %#", (tex) => {
    expect(elements(tex)?.length ?? 0).toBeLessThan(20_000);
  });

  it("lets a formula name no size beyond a line", () => {
    const found = elements("\\rule{5000em}{4000em} \\hspace{3000em} \\kern2000em x") ?? [];
    const sizes = found.flatMap(({ style }) => Object.values(style).map((size) => parseFloat(size)));
    expect(Math.max(...sizes.filter((size) => !Number.isNaN(size)))).toBeLessThan(50);
  });
});
