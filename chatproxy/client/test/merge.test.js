import { describe, expect, it } from "vitest";

import { sent } from "../src/state/chats/answer.js";
import { atRest } from "../src/state/chats/join.js";
import { addMessage, adopt, unite } from "../src/state/chats/merge.js";
import { pathOf, withAdded } from "../src/state/chats/tree.js";

/**
 * @typedef {import("../src/state/chats/model.js").Answer} Answer
 * @typedef {import("../src/state/chats/model.js").Conversation} Conversation
 */

/**
 * @param {Partial<Answer>} answer
 * @param {number} [askedAt]
 * @returns {Conversation}
 */
function chat(answer, askedAt = 1000) {
  const whole = sent(`a${askedAt}`, "deepseek-flash", askedAt, { parentId: "u", ...answer });
  /** @type {import("../src/state/chats/model.js").UserMessage} */
  const prompt = { role: "user", id: "u", parentId: null, at: 1000, text: "Hello" };
  const updatedAt = askedAt + whole.lastEvent;
  return { id: "c", title: "Hello", updatedAt, messages: [prompt, whole], chosen: [] };
}

const at = (/** @type {number} */ lastEvent) => ({ text: "x".repeat(lastEvent), lastEvent });
/** @type {Record<string, Conversation>} */
const VERSIONS = {
  "running, early": chat(at(2)),
  "running, late": chat(at(9)),
  "cut off, early": chat({ ...at(2), state: "cut_off" }),
  "cut off, late": chat({ ...at(9), state: "cut_off" }),
  "left by a reload": chat({ ...at(9), state: "stopped", reason: "reload" }),
  stopped: chat({ ...at(5), state: "stopped", reason: "user" }),
  "stopped, not confirmed": chat({ ...at(5), state: "stopped", reason: "user", stop: "unconfirmed" }),
  "stopped, confirmed": chat({ ...at(5), state: "stopped", reason: "user", stop: "stopped" }),
  failed: chat({ ...at(5), state: "failed" }),
  finished: chat({ ...at(12), state: "finished" }),
};
const pairs = Object.keys(VERSIONS).flatMap((one) =>
  Object.keys(VERSIONS).map((other) => /** @type {const} */ ([one, other])),
);

/** @param {string} name */
const version = (name) => /** @type {Conversation} */ (VERSIONS[name]);
/** @param {Conversation} conversation */
const answerOf = ({ messages }) => /** @type {Answer} */ (messages.at(-1));
/** @param {string} name */
const rests = (name) => atRest(answerOf(version(name)));

/**
 * @param {Conversation} mine
 * @param {Conversation} kept
 */
const add = (mine, kept) => /** @type {Answer} */ (addMessage(answerOf(mine), answerOf(kept)));

describe("what is kept, if two tabs have an answer", () => {
  it.each(pairs)("comes to the same, whichever tab is the first: %s, %s", (one, other) => {
    const [mine, theirs] = [version(one), version(other)];
    const keep = (/** @type {Conversation} */ by, /** @type {Answer} */ kept) =>
      /** @type {Answer} */ (addMessage(answerOf(by), kept));
    const first = keep(mine, keep(theirs, answerOf(mine)));
    const second = keep(theirs, answerOf(mine));
    // Both tabs write again and again: nothing is left to add.
    expect(keep(theirs, first)).toBe(first);
    expect(keep(mine, first)).toBe(first);
    expect(keep(mine, second)).toBe(second);
    expect(first.lastEvent).toBe(second.lastEvent);
  });

  it.each(pairs)("is never less than what was there: %s over %s", (mine, kept) => {
    const answer = add(version(mine), version(kept));
    const before = answerOf(version(kept));
    expect(answer.text.length).toBeGreaterThanOrEqual(before.text.length);
    if (rests(kept)) {
      expect(answer.state).toBe(before.state);
    } else {
      expect(atRest(answer) || answer.lastEvent >= before.lastEvent).toBe(true);
      expect(atRest(answer)).toBe(rests(mine));
    }
  });

  it("has the messages of both", () => {
    const [old, recent] = [chat({ state: "finished", ...at(99) }), chat({}, 2000)];
    const ids = unite(old, recent).messages.map(({ id }) => id);
    expect(ids).toEqual(["u", "a1000", "a2000"]);
    expect(unite(recent, old).messages.map(({ id }) => id)).toEqual(ids);
  });
});

describe("what is shown, if another tab has kept a conversation", () => {
  it.each(pairs)("changes only for one that has come to rest, or whose Stop is confirmed: %s, %s", (mine, theirs) => {
    const shown = adopt(version(mine), version(theirs));
    const [before, other] = [answerOf(version(mine)), answerOf(version(theirs))];
    if (rests(theirs) && !rests(mine)) {
      const text = before.text.length > other.text.length ? before.text : other.text;
      const lastEvent = Math.max(before.lastEvent, other.lastEvent);
      expect(answerOf(shown)).toEqual({ ...other, text, lastEvent });
    } else if (before.stop === "unconfirmed" && other.stop === "stopped") {
      expect(answerOf(shown)).toEqual({ ...before, stop: "stopped" });
    } else {
      expect(shown).toBe(version(mine));
    }
  });

  it("has what they have added, and shows that if they have asked since", () => {
    const [old, recent] = [chat({ state: "finished" }), chat({}, 2000)];
    const forked = withAdded(old, sent("b", "deepseek-flash", 1500, { parentId: "u" }));
    const shown = adopt(forked, recent);
    expect(pathOf(shown).at(-1)?.id).toBe("a2000");
    expect(shown.messages).toHaveLength(4);
    expect(pathOf(adopt(recent, { ...old, chosen: ["a1000"] })).at(-1)?.id).toBe("a2000");
    const older = { ...forked, chosen: ["a1000"] };
    expect(pathOf(older).at(-1)?.id).toBe("a1000");
    expect(pathOf(adopt(older, recent)).at(-1)?.id).toBe("a2000");
  });

  it("is to be read first if it is not open here, at once if an answer runs", () => {
    const [done, runs] = [chat({ state: "finished" }), chat({})];
    expect(adopt(undefined, done)).toMatchObject({ shut: true, messages: [], needed: false });
    expect(adopt(undefined, runs)).toMatchObject({ shut: true, messages: [], needed: true });
    const shut = { ...done, messages: [], shut: true };
    expect(adopt(shut, { ...done, title: "Named", shelvedAt: 1 })).toMatchObject({ title: "Named" });
  });
});
