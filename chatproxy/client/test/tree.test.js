import { describe, expect, it } from "vitest";

import { sent } from "../src/state/chats/answer.js";
import { inOrder, pathOf, pathTo, rooted, versionsIn, withAdded, withShown } from "../src/state/chats/tree.js";

/**
 * @typedef {import("../src/state/chats/model.js").Conversation} Conversation
 * @typedef {import("../src/state/chats/model.js").Message} Message
 */

/**
 * @param {string} id
 * @param {string | null} parentId
 * @param {number} [at]
 * @returns {Message}
 */
const prompt = (id, parentId, at = 0) => ({ role: "user", id, parentId, at, text: id });
/**
 * @param {string} id
 * @param {string} parentId
 * @param {Partial<import("../src/state/chats/model.js").Answer>} [more]
 * @returns {Message}
 */
const answer = (id, parentId, more) =>
  sent(id, "deepseek-flash", 0, { parentId, text: id, state: "finished", ...more });

/**
 * @param {Message[]} messages
 * @returns {Conversation}
 */
const chat = (...messages) => ({ id: "c", title: "", updatedAt: 0, messages, chosen: [] });

const ids = (/** @type {Message[]} */ messages) => messages.map(({ id }) => id).join(" ");

/** Two questions; the first was changed once, its second answer asked for again. */
const FORKED = chat(
  prompt("p1", null),
  answer("a1", "p1"),
  prompt("q1", "a1"),
  answer("b1", "q1"),
  prompt("p2", null),
  answer("a2", "p2"),
  answer("a3", "p2"),
);

describe("a conversation", () => {
  it("shows the newest versions, as one path", () => {
    expect(ids(pathOf(FORKED))).toBe("p2 a3");
    expect(pathOf(FORKED)).toBe(pathOf(FORKED));
    expect(pathOf(undefined)).toEqual([]);
  });

  it("shows an older version, and what came after it, once that is chosen", () => {
    const older = withShown(FORKED, "p1");
    expect(ids(pathOf(older))).toBe("p1 a1 q1 b1");
    expect(ids(pathOf(withShown(older, "a2")))).toBe("p2 a2");
    expect(withShown(withShown(older, "a2"), "a3").chosen).toEqual([]);
  });

  it("remembers what was chosen at each fork, while another side is shown", () => {
    const second = withShown(FORKED, "a2");
    expect(ids(pathOf(withShown(withShown(second, "p1"), "p2")))).toBe("p2 a2");
  });

  it("shows what is added, whatever was chosen there", () => {
    const older = withShown(FORKED, "a2");
    expect(ids(pathOf(withAdded(older, answer("a4", "p2"))))).toBe("p2 a4");
    expect(ids(pathOf(withAdded(older, prompt("q2", "a2"), answer("b2", "q2"))))).toBe("p2 a2 q2 b2");
    expect(FORKED.messages).toHaveLength(7);
  });

  it("leads back from any message, shown or not", () => {
    expect(ids(pathTo(FORKED, "b1"))).toBe("p1 a1 q1 b1");
    expect(pathTo(FORKED, null)).toEqual([]);
    expect(pathTo(undefined, "b1")).toEqual([]);
  });

  it("counts the versions of what is shown", () => {
    expect([...versionsIn(FORKED)]).toEqual([
      ["p2", { at: 1, ids: ["p1", "p2"] }],
      ["a3", { at: 1, ids: ["a2", "a3"] }],
    ]);
    expect(versionsIn(withShown(FORKED, "q1")).get("p1")).toEqual({ at: 0, ids: ["p1", "p2"] });
    expect(versionsIn(chat(prompt("p", null))).size).toBe(0);
  });

  it("does not count an answer with nothing in it, unless it is shown or runs", () => {
    const failed = answer("f", "p2", { text: "", state: "failed" });
    const runs = answer("r", "p2", { text: "", state: "running" });
    const before = chat(prompt("p2", null), failed, answer("a", "p2"));
    expect(versionsIn(before).size).toBe(0);
    expect(versionsIn(withShown(before, "f")).get("f")).toEqual({ at: 0, ids: ["f", "a"] });
    expect(versionsIn(withShown(withAdded(before, runs), "a")).get("a")?.ids).toEqual(["a", "r"]);
  });

  it("has no path without end, however damaged it is", () => {
    const loop = chat(prompt("a", null), prompt("a", "a"), prompt("b", "c"), prompt("c", "b"));
    expect(pathOf(loop).length).toBeLessThanOrEqual(4);
    expect(pathTo(loop, "b").length).toBeLessThanOrEqual(4);
  });

  it("is put in order by birth, and nothing of it is out of reach", () => {
    const messages = [prompt("b", "lost", 2), prompt("a", null, 1)];
    expect(ids(inOrder(messages))).toBe("a b");
    expect(rooted(messages)[0]).toMatchObject({ parentId: null });
    expect(rooted(messages)[1]).toBe(messages[1]);
  });
});
