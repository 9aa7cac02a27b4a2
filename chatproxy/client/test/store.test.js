import { describe, expect, it } from "vitest";

import { sent } from "../src/state/answer.js";
import { loadConversations, removeConversation, saveConversation } from "../src/state/store.js";
import { storageOf } from "./storage.js";

/** @typedef {import("../src/state/model.js").Conversation} Conversation */

/**
 * @param {string} id
 * @param {number} updatedAt
 * @param {string} text
 * @returns {Conversation}
 */
function conversation(id, updatedAt, text = "Hello") {
  return { id, title: "Hello", updatedAt, messages: [{ role: "user", id: "u", text }] };
}

describe("the store", () => {
  it("gives back what it was given, the newest first", () => {
    const storage = storageOf();
    const [old, recent] = [conversation("a", 1), conversation("b", 2)];
    saveConversation(storage, old);
    saveConversation(storage, recent);
    expect(loadConversations(storage)).toEqual([recent, old]);
    removeConversation(storage, "b");
    expect(loadConversations(storage)).toEqual([old]);
  });

  it("gives back a running answer with its place, to be taken up there", () => {
    const storage = storageOf();
    const half = { ...sent("s", "deepseek-flash", 1), text: "Half", lastEvent: 7 };
    for (const [status, then] of [["answering", "answering"], ["reconnecting", "answering"]]) {
      const answer = /** @type {any} */ ({ ...half, status });
      saveConversation(storage, { ...conversation("a", 1), messages: [answer] });
      expect(loadConversations(storage)[0]?.messages).toEqual([{ ...half, status: then }]);
    }
  });

  it.each([
    [{ text: "", reasoning: "Hm" }, "stalled", "thinking"],
    [{ text: "", reasoning: "" }, "reconnecting", "waiting"],
    [{ text: "", reasoning: "" }, "queued", "queued"],
  ])("knows what it was doing: %j, %s", (texts, status, then) => {
    const storage = storageOf();
    const answer = /** @type {any} */ ({ ...sent("s", "deepseek-flash", 1), ...texts, status });
    saveConversation(storage, { ...conversation("a", 1), messages: [answer] });
    expect(loadConversations(storage)[0]?.messages).toMatchObject([{ status: then }]);
  });

  it("marks an answer whose place is not known, and keeps its text", () => {
    const storage = storageOf();
    const answer = { ...sent("s", "deepseek-flash", 1), text: "Half", lastEvent: undefined };
    saveConversation(storage, { ...conversation("a", 1), messages: [/** @type {any} */ (answer)] });
    expect(loadConversations(storage)[0]?.messages).toMatchObject([
      { state: "stopped", reason: "reload", text: "Half" },
    ]);
  });

  it("never parts the text of a running answer from its place", () => {
    const storage = storageOf();
    const text = "x".repeat(2_500_000);
    const answer = { ...sent("s", "deepseek-flash", 1), text, lastEvent: 7 };
    saveConversation(storage, { ...conversation("a", 1), messages: [answer] });
    expect(loadConversations(storage)[0]?.messages).toMatchObject([{ text: "", lastEvent: 0 }]);
  });

  it("makes room by forgetting the oldest", () => {
    const storage = storageOf(3000);
    for (let n = 0; n < 10; n += 1) {
      expect(saveConversation(storage, conversation(`c${n}`, n, "x".repeat(500)))).toContain("xxx");
    }
    const ids = loadConversations(storage).map(({ id }) => id);
    expect(ids.length).toBeGreaterThan(2);
    expect(ids[0]).toBe("c9");
  });

  it("survives a storage that takes nothing, and one that is not there", () => {
    expect(saveConversation(storageOf(0), conversation("a", 1))).toBeNull();
    expect(saveConversation(null, conversation("a", 1))).toBeNull();
    expect(loadConversations(null)).toEqual([]);
  });

  it("shortens what would take all the room", () => {
    const storage = storageOf(5_000_000);
    expect(saveConversation(storage, conversation("a", 1, "x".repeat(6_000_000)))).not.toBeNull();
    expect(loadConversations(storage)[0]?.messages[0]?.text.length).toBe(200_000);
  });

  it("passes over what is damaged", () => {
    const storage = storageOf();
    storage.setItem("chatproxy.chat.x", "{broken");
    storage.setItem("chatproxy.chat.y", '{"id":"y","messages":[{"role":"system"}]}');
    storage.setItem("other", "{}");
    expect(loadConversations(storage)).toEqual([]);
  });
});
