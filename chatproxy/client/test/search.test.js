import { describe, expect, it, vi } from "vitest";

import { findFolded, folded } from "../src/lib/folded-text.js";
import { search } from "../src/state/chats/search.js";
import { chatOf } from "./chats.js";

/**
 * @typedef {import("../src/state/chats/model.js").Conversation} Conversation
 * @typedef {import("../src/state/chats/search.js").Hit} Hit
 */

/**
 * @param {string} query
 * @param {Conversation[]} conversations
 * @param {AbortSignal} [signal]
 */
async function hitsOf(query, conversations, signal = new AbortController().signal) {
  const texts = new Map(conversations.map(({ id, messages }) => [id, messages]));
  const read = vi.fn(async (/** @type {string[]} */ ids) => ids.map((id) => texts.get(id) ?? []));
  const shut = conversations.map((one) => ({ ...one, messages: [], shut: true }));
  /** @type {Hit[]} */
  const hits = [];
  for await (const more of search(query, shut, read, signal)) {
    hits.push(...more);
  }
  return { hits, read };
}

describe("a folded text", () => {
  it.each([
    ["ÀÉÎÕÜñç", "aeiounc"],
    ["Łódź, Tromsø, Straße", "lodz, tromso, strasse"],
    ["ΌΔΟΣ όδος", "οδοσ οδοσ"],
    ["ＡＢＣ１２", "abc12"],
    ["你好", "你好"],
    ["שָׁלוֹם", "שלום"],
    ["Plain", "plain"],
  ])("%s is %s", (text, plain) => expect(folded(text)).toBe(plain));

  it.each([
    ["Ein Café in Łódź", "cafe", "Café"],
    ["Ein Café in Łódź", "lodz", "Łódź"],
    ["die Straße dort", "strasse", "Straße"],
    ["e\u0301te\u0301", "ete", "e\u0301te"],
    ["我们今天去北京，明天去上海。", "北京", "北京"],
    [`${"Ż👍\u0301ß".repeat(3000)} Café`, "cafe", "Café"],
  ])("%.40s has %s where it was", (text, wanted, found) => {
    const [begin, end] = findFolded(text, wanted) ?? [0, 0];
    expect(text.slice(begin, end)).toBe(found);
    expect(findFolded(text, "xyz")).toBeNull();
  });
});

describe("a search", () => {
  const chats = [
    chatOf("a", { text: "Ein Café in Łódź." }, { title: "Reise" }),
    chatOf("b", { text: "我们今天去北京，明天去上海。" }, { title: "旅行" }),
    chatOf("c", { text: "Nothing here" }, { title: "A café of one's own" }),
  ];

  it.each([
    ["cafe lodz", ["a a-a"]],
    ["LODZ, paris", []],
    ["北京", ["b b-a"]],
    ["cafe", ["c", "a a-a"]],
    ["hello", ["a a-u", "b b-u", "c c-u"]],
    ["   ", []],
    ["旅", ["b"]],
  ])("for %j finds %j", async (query, expected) => {
    const { hits } = await hitsOf(query, chats);
    expect(hits.map(({ id, messageId }) => [id, messageId].filter(Boolean).join(" "))).toEqual(
      expected,
    );
  });

  it("does not show the same twice of one conversation", async () => {
    const [one] = /** @type {[Conversation]} */ ([chatOf("a", { text: "a needle" })]);
    const again = chatOf("b", { text: "a needle" }).messages;
    const { hits } = await hitsOf("needle", [{ ...one, messages: [...one.messages, ...again] }]);
    expect(hits.map(({ messageId }) => messageId)).toEqual(["a-a"]);
  });

  it("shows what is around the find, on one line", async () => {
    const text = `${"before ".repeat(30)}\n\nthe needle\n${"after ".repeat(30)}`;
    const [hit] = (await hitsOf("NEEDLE", [chatOf("a", { text })])).hits;
    expect(hit?.excerpt?.[1]).toBe("needle");
    expect(hit?.excerpt?.[0]).toMatch(/^…\S*[ before]+ the $/);
    expect(hit?.excerpt?.[2]).toMatch(/^ after .*…$/);
  });

  it("has its first hits before all is read, and ends when another one begins", async () => {
    const many = Array.from({ length: 1000 }, (_, n) => chatOf(`c${n}`, { text: "a needle" }));
    const ending = new AbortController();
    const read = vi.fn(async (/** @type {string[]} */ ids) => ids.map((id) => chatOf(id, { text: "a needle" }).messages));
    const shut = many.map((one) => ({ ...one, messages: [], shut: true }));
    for await (const hits of search("needle", shut, read, ending.signal)) {
      if (hits.length > 0) {
        ending.abort();
      }
    }
    expect(read).toHaveBeenCalledTimes(1);
  });

  it("shows a bounded number of hits", async () => {
    const many = Array.from({ length: 1000 }, (_, n) => chatOf(`c${n}`));
    const { hits, read } = await hitsOf("hello", many);
    expect(hits.length).toBeLessThan(200);
    expect(read.mock.calls.length).toBeLessThan(10);
  });
});
