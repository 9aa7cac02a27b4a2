import { describe, expect, it } from "vitest";

import { en } from "../src/i18n/en.js";
import { createLanguage } from "../src/i18n/language.js";
import { zhCN } from "../src/i18n/zh-CN.js";
import { shorten } from "../src/lib/graphemes.js";
import { readSimulate } from "../src/lib/page-settings.js";
import { failedSentence, serversOwnWords, stopLine } from "../src/lib/sentences.js";
import { safeLink } from "../src/markdown/safe-link.js";
import { addressOf, conversationIn } from "../src/state/view/address.js";

const ENGLISH = createLanguage("en", en);
const CHINESE = createLanguage("zh-CN", zhCN);

describe("safeLink", () => {
  it.each(["https://example.com/a?b=c#d", "http://example.com/", "mailto:a@example.com"])(
    "lets %s through",
    (href) => expect(safeLink(href)).toBe(href),
  );

  it.each([
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    " javascript:alert(1)",
    "java\nscript:alert(1)",
    "java\tscript:alert(1)",
    "\u0001javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "blob:https://example.com/x",
    "file:///etc/passwd",
    "/relative",
    "//example.com",
    "",
  ])("does not make a link of %j", (href) => expect(safeLink(href)).toBeNull());
});

describe("stopLine", () => {
  it.each([
    [{ stopMs: 2.6, events: 42, upstreamClosed: true }, "stopped in 3 ms, 42 chunks received"],
    [{ stopMs: 0.2, events: 1, upstreamClosed: true }, "stopped in 1 ms, 1 chunk received"],
    [{ events: 0 }, "0 chunks received"],
  ])("%j", (receipt, line) => {
    expect(stopLine(ENGLISH, { receipt })).toBe(line);
    expect(stopLine(ENGLISH, { stop: "stopped", receipt })).toBe(line);
  });

  it("promises nothing that the server did not confirm", () => {
    const receipt = { stopMs: 2000, events: 4, upstreamClosed: false };
    expect(stopLine(ENGLISH, { stop: "unconfirmed", receipt })).toMatch(/not confirmed/);
    expect(stopLine(ENGLISH, { stop: "unconfirmed" })).toMatch(/not confirmed/);
    expect(stopLine(ENGLISH, { stop: "nothing-to-stop" })).toMatch(/nothing to stop/);
    expect(stopLine(ENGLISH, { stop: "refused" })).toMatch(/refused.*may go on/);
    expect(stopLine(ENGLISH, { stop: "refused", stopRefusal: "Who?" })).toMatch(/Who\?/);
  });
});

describe("failedSentence", () => {
  const known = { code: "upstream_busy", message: "DeepSeek answered 429." };
  const unknown = { code: "upstream_rejected", message: "Invalid temperature." };

  it("is the page's own for a code that it knows, with the server's as a detail in Chinese", () => {
    expect(failedSentence(ENGLISH, known)).toMatch(/too busy/);
    expect(serversOwnWords(ENGLISH, known)).toBe("");
    expect(failedSentence(CHINESE, known)).toMatch(/过于繁忙/);
    expect(serversOwnWords(CHINESE, known)).toBe(known.message);
  });

  it("is the server's own otherwise", () => {
    expect(failedSentence(ENGLISH, unknown)).toBe(unknown.message);
    expect(failedSentence(CHINESE, unknown)).toBe("回答失败。服务器返回的说明：Invalid temperature.");
    expect(serversOwnWords(CHINESE, unknown)).toBe("");
    expect(failedSentence(ENGLISH, { code: "constructor", message: "" })).toBe("The answer failed.");
  });
});

describe("shorten", () => {
  it.each([
    ["Hello", "Hello"],
    ["A long prompt", "A lon…"],
    ["Mind the gap", "Mind…"],
    ["👨‍👩‍👧‍👦👩🏽‍🚀🇨🇳éé…", "👨‍👩‍👧‍👦👩🏽‍🚀🇨🇳éé…"],
    ["👨‍👩‍👧‍👦👩🏽‍🚀🇨🇳éééé", "👨‍👩‍👧‍👦👩🏽‍🚀🇨🇳éé…"],
    ["一二三四五六七", "一二三四五…"],
    [`e${"\u0301".repeat(1e6)}`, `e${"\u0301".repeat(95)}…`],
  ])("%s", (text, shown) => expect(shorten(text, 6)).toBe(shown));
});

describe("readSimulate", () => {
  it("reads the query or the hash, and passes over what is mistyped", () => {
    const text = encodeURIComponent('{"rate":5}');
    expect(readSimulate({ search: `?simulate=${text}`, hash: "" })).toEqual({ rate: 5 });
    expect(readSimulate({ search: "", hash: `#simulate=${text}` })).toEqual({ rate: 5 });
    expect(readSimulate({ search: "?simulate={", hash: "" })).toBeUndefined();
    expect(readSimulate({ search: "", hash: "" })).toBeUndefined();
  });
});

describe("the address of a conversation", () => {
  it.each([null, "session_1718345013123_k3j9x0ab", "a/b#c?d %"])("leads back to %j", (id) =>
    expect(conversationIn({ hash: addressOf(id) })).toBe(id),
  );

  it.each(["", "#", "#simulate={}", "#/chat/%"])("is not %j", (hash) =>
    expect(conversationIn({ hash })).toBeUndefined(),
  );
});
