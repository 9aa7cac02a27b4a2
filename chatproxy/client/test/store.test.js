import { describe, expect, it } from "vitest";

import { sent } from "../src/state/answer.js";
import { loadConversations, removeConversation, saveConversation } from "../src/state/store.js";

/** @typedef {import("../src/state/model.js").Conversation} Conversation */

/**
 * @param {number} room how many characters fit
 * @returns {Storage}
 */
function storageOf(room = 1e9) {
  /** @type {Map<string, string>} */
  const items = new Map();
  const used = () => [...items].reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  return {
    get length() {
      return items.size;
    },
    clear: () => items.clear(),
    getItem: (key) => items.get(key) ?? null,
    key: (index) => [...items.keys()][index] ?? null,
    removeItem: (key) => void items.delete(key),
    setItem(key, value) {
      const before = items.get(key);
      items.delete(key);
      if (used() + key.length + value.length > room) {
        if (before !== undefined) {
          items.set(key, before);
        }
        throw new DOMException("full", "QuotaExceededError");
      }
      items.set(key, value);
    },
  };
}

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

  it("marks an answer that ran when the page went away, and keeps its text", () => {
    const storage = storageOf();
    const answer = { ...sent("s", "deepseek-flash", 1), text: "Half" };
    saveConversation(storage, { ...conversation("a", 1), messages: [answer] });
    expect(loadConversations(storage)[0]?.messages).toMatchObject([
      { state: "stopped", reason: "reload", text: "Half" },
    ]);
  });

  it("makes room by forgetting the oldest", () => {
    const storage = storageOf(3000);
    for (let n = 0; n < 10; n += 1) {
      expect(saveConversation(storage, conversation(`c${n}`, n, "x".repeat(500)))).toBe(true);
    }
    const ids = loadConversations(storage).map(({ id }) => id);
    expect(ids.length).toBeGreaterThan(2);
    expect(ids[0]).toBe("c9");
  });

  it("survives a storage that takes nothing, and one that is not there", () => {
    expect(saveConversation(storageOf(0), conversation("a", 1))).toBe(false);
    expect(saveConversation(null, conversation("a", 1))).toBe(false);
    expect(loadConversations(null)).toEqual([]);
  });

  it("shortens what would take all the room", () => {
    const storage = storageOf(5_000_000);
    expect(saveConversation(storage, conversation("a", 1, "x".repeat(6_000_000)))).toBe(true);
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
