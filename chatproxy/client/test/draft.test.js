import { describe, expect, it } from "vitest";

import { keepDrafts, loadDrafts } from "../src/state/chats/draft.js";
import { editedMessage, initialState, textInBox, textOfEdit } from "../src/state/chats/model.js";
import { reducer } from "../src/state/chats/reducer.js";
import { chatOf } from "./chats.js";
import { storageOf } from "./storage.js";

/** @typedef {import("../src/state/chats/reducer.js").Action} Action */

/** @param {Action[]} actions */
const after = (...actions) =>
  actions.reduce(reducer, initialState([chatOf("a"), chatOf("b")], { currentId: "a" }));
const open = (/** @type {string | null} */ id) => /** @type {const} */ ({ type: "chatOpened", id });
const typed = (/** @type {string} */ draft) => /** @type {const} */ ({ type: "drafted", draft });
const edit = (/** @type {string} */ messageId) =>
  /** @type {const} */ ({ type: "editBegun", messageId });

describe("drafts", () => {
  it("are each conversation's own", () => {
    const state = after(typed("for a"), open(null), typed("for a new one"), open("b"));
    expect(textInBox(state)).toBe("");
    expect(textInBox(reducer(state, open("a")))).toBe("for a");
    expect(textInBox(reducer(state, open(null)))).toBe("for a new one");
  });

  it("wait while a prompt is changed, and what it is changed to waits for a return", () => {
    const state = after(typed("next"), edit("a-u"), typed("Hello there"), open("b"), open("a"));
    expect(textInBox(state)).toBe("Hello there");
    expect(editedMessage(state)?.id).toBe("a-u");
    const left = reducer(state, { type: "editLeft" });
    expect(textInBox(left)).toBe("next");
    expect(editedMessage(left)).toBeUndefined();
  });

  it("stay in the box while an answer is changed in its place", () => {
    const state = after(edit("a-a"), typed("next"), { type: "editDrafted", text: "Hi you" });
    expect(textInBox(state)).toBe("next");
    expect(textOfEdit(state)).toBe("Hi you");
    expect(editedMessage(state)?.id).toBe("a-a");
  });

  it("of two messages that are being changed are both there", () => {
    const state = after(edit("a-a"), { type: "editDrafted", text: "Hi you" }, edit("a-u"), typed("Hello you"));
    const back = reducer(state, edit("a-a"));
    expect(textOfEdit(back)).toBe("Hi you");
    const left = reducer(back, { type: "editLeft" });
    expect(textOfEdit(reducer(left, edit("a-u")))).toBe("Hello you");
    expect(textOfEdit(reducer(left, edit("a-a")))).toBe("Hi");
  });

  it("are kept over a reload, the tab's own before another tab's", () => {
    const [lasting, mine, theirs] = [storageOf(), storageOf(), storageOf()];
    const drafts = { "": { text: "mine" }, a: { text: "", editedId: "a-u", edits: { "a-u": "x" } } };
    keepDrafts([lasting, mine], {}, drafts);
    keepDrafts([lasting, theirs], {}, { "": { text: "theirs" } });
    expect(loadDrafts([lasting, mine])).toEqual(drafts);
    expect(loadDrafts([lasting, storageOf()])[""]).toEqual({ text: "theirs" });
    keepDrafts([lasting, mine], drafts, {});
    expect(loadDrafts([lasting, mine])).toEqual({});
  });

  it("survive a full storage, a missing one, and what is damaged", () => {
    const damaged = storageOf();
    damaged.setItem("chatproxy.draft.a", "{");
    damaged.setItem("chatproxy.draft.b", '{"text":7}');
    damaged.setItem("chatproxy.draft.c", '{"text":"x","editedId":"m","edits":{"m":7}}');
    expect(loadDrafts([null, damaged])).toEqual({ c: { text: "x" } });
    keepDrafts([storageOf(0), null], {}, { a: { text: "x" } });
  });
});
