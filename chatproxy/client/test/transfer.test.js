import { describe, expect, it } from "vitest";

import { currentLanguage } from "../src/i18n/current.js";
import { sent } from "../src/state/chats/answer.js";
import { initialState } from "../src/state/chats/model.js";
import { asConversation } from "../src/state/chats/record.js";
import { reducer } from "../src/state/chats/reducer.js";
import { asJson, asMarkdown, fileName, fromJson, withMissing } from "../src/state/chats/transfer.js";
import { withAdded, withShown } from "../src/state/chats/tree.js";
import { chatOf, lastOf } from "./chats.js";

/** @typedef {import("../src/state/chats/model.js").Conversation} Conversation */

const NOW = 1000;
const FORKED = withShown(
  withAdded(
    chatOf("c", {}, { pinned: true, named: true, shelvedAt: 7 }),
    sent("c-b", "deepseek-flash", 5, { parentId: "c-u", text: "Ho", state: "stopped", reason: "user" }),
  ),
  "c-a",
);

/** @param {unknown} chats */
const file = (chats) => JSON.stringify({ format: "chatproxy", version: 1, chats });
/** @param {any} change of the first message of a conversation */
const changed = (change) => {
  const { messages, ...chat } = chatOf("c");
  return { ...chat, messages: messages.map((one, at) => (at === 0 ? { ...one, ...change } : one)) };
};

describe("a conversation as a file", () => {
  it("comes back with all its versions, as it was", () => {
    const text = asJson([FORKED, chatOf("d")], NOW).join("");
    expect(fromJson(text, NOW)).toEqual({ imported: [FORKED, chatOf("d", {}, { shelvedAt: 0 })], damaged: 0 });
  });

  it("comes back with its settings and files", () => {
    const file = { id: "f", kind: "text", name: "a.txt", content: "words", size: 5 };
    const whole = { ...changed({ attachments: [file] }), settings: { temperature: 1, system: null }, shelvedAt: 3 };
    expect(fromJson(asJson([whole], NOW).join(""), NOW)).toEqual({ imported: [whole], damaged: 0 });
    const foreign = { ...changed({ attachments: [{ ...file, kind: "x" }] }), settings: { temperature: 9 } };
    const { imported } = /** @type {any} */ (fromJson(asJson([foreign], NOW).join(""), NOW));
    expect(imported[0].settings).toEqual({});
    expect(imported[0].messages[0]).not.toHaveProperty("attachments");
  });

  it("is readable as Markdown: what is shown, and how it ended", () => {
    expect(asMarkdown(currentLanguage(), [FORKED]).join("")).toBe("# Hello\n\n## You\n\nHello\n\n## DeepSeek\n\nHi\n");
    const [text] = asMarkdown(currentLanguage(), [withShown(FORKED, "c-b")]);
    expect(text).toContain("Ho\n\n*AI response stopped by user.*");
  });

  it.each([
    ["a/b\\c:d*e?\n", "a b c d e"],
    ["../..", "chat"],
    ["你好", "你好"],
    ["", "chat"],
  ])("has a name that every file system takes: %j", (title, name) => {
    expect(fileName(title, "md")).toBe(`${name}.md`);
  });
});

describe("a file from anybody", () => {
  it.each(["", "null", "[]", "7", '{"format":"other","version":1,"chats":[]}', file({}), file(null)])(
    "that has no chats is none: %j",
    (text) => expect(fromJson(text, NOW)).toBeNull(),
  );

  it.each([
    ["no object", null],
    ["an id that is none", { ...chatOf("c"), id: "../x" }],
    ["no title", { ...chatOf("c"), title: {} }],
    ["a time that is none", { ...chatOf("c"), updatedAt: "soon" }],
    ["a role of its own", changed({ role: "system" })],
    ["a text that is none", changed({ text: ["x"] })],
    ["one id twice", changed({ id: "c-a" })],
    ["a message before itself", changed({ parentId: "c-a" })],
    ["a parent that is none", changed({ parentId: 7 })],
  ])("with %s loses that conversation, and no other", (_name, bad) => {
    const found = fromJson(file([bad, chatOf("d")]), NOW);
    expect(found).toMatchObject({ imported: [{ id: "d" }], damaged: 1 });
  });

  it("brings in no field that is not known, and no value that is not sound", () => {
    const hostile = JSON.parse(
      file([
        { ...changed({ html: "<b>" }), __proto__: null, polluted: 1, pinned: "yes", chosen: "x" },
      ]).replace('"polluted":1', '"__proto__":{"polluted":1},"constructor":1'),
    );
    const { imported } = /** @type {any} */ (fromJson(JSON.stringify(hostile), NOW));
    expect(Object.keys(imported[0]).sort()).toEqual(
      ["chosen", "id", "messages", "shelvedAt", "title", "updatedAt"].sort(),
    );
    expect(imported[0].messages[0].html).toBeUndefined();
    expect(imported[0].chosen).toEqual([]);
    expect(/** @type {any} */ ({}).polluted).toBeUndefined();
  });

  it("has whole times, which a server takes and to which one can be added", () => {
    const odd = [1.5, 1e20].map((at) => asConversation({ ...chatOf("d"), updatedAt: at, shelvedAt: at }));
    const times = odd.map((chat) => [chat?.updatedAt, chat?.shelvedAt]);
    expect(times).toEqual([[2, undefined], [Number.MAX_SAFE_INTEGER, undefined]]);
  });

  it("makes the page ask for nothing, and is not from the future", () => {
    const running = chatOf("c", { state: "running", lastEvent: 3 }, { updatedAt: 1e15 });
    const waiting = chatOf("d", { state: "stopped", stop: "unconfirmed", startedAt: 1e15 });
    const { imported } = /** @type {any} */ (fromJson(file([running, waiting]), NOW));
    expect(lastOf(imported[0]).state).toBe("cut_off");
    expect(imported[0].updatedAt).toBe(NOW);
    expect(lastOf(imported[1]).stop).toBeUndefined();
    expect(lastOf(imported[1]).startedAt).toBe(NOW);
  });

  it("is read in time that grows with its length, however deep its tree", () => {
    const messages = Array.from({ length: 20_000 }, (_, n) => ({
      ...{ role: "user", text: "x", at: n, id: `m${n}` },
      parentId: n > 0 ? `m${n - 1}` : null,
    }));
    expect(fromJson(file([{ ...chatOf("c"), messages }]), NOW)?.damaged).toBe(0);
  });

  it("adds to a conversation that is here what is missing, and changes nothing", () => {
    const mine = chatOf("c", { text: "Mine" }, { deletedAt: 5 });
    const theirs = { ...FORKED, title: "Theirs" };
    const [whole] = reducer(initialState([mine]), {
      ...{ type: "chatsImported", conversations: [theirs, chatOf("d")], now: NOW },
    }).conversations.filter(({ id }) => id === "c");
    expect(whole?.messages.map(({ text }) => text)).toEqual(["Hello", "Mine", "Ho"]);
    expect(whole).toMatchObject({ title: "Hello", deletedAt: 0 });
    expect(withMissing(FORKED, mine)).toBe(FORKED);
  });
});
