import { describe, expect, it } from "vitest";

import { sent } from "../src/state/answer.js";
import { add, adopt, atRest } from "../src/state/merge.js";

/**
 * @typedef {import("../src/state/model.js").Answer} Answer
 * @typedef {import("../src/state/model.js").Conversation} Conversation
 */

/**
 * @param {Partial<Answer>} answer
 * @param {number} [askedAt]
 * @returns {Conversation}
 */
function chat(answer, askedAt = 1000) {
  const whole = { ...sent(`a${askedAt}`, "deepseek-flash", askedAt), ...answer };
  const messages = [{ role: /** @type {const} */ ("user"), id: "u", text: "Hello" }, whole];
  return { id: "c", title: "Hello", updatedAt: askedAt + whole.lastEvent, messages };
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

describe("what is kept, where two tabs have a conversation", () => {
  it.each(pairs)("comes to the same, whichever tab is the first: %s, %s", (one, other) => {
    const first = add(version(one), add(version(other), version(one)));
    const second = add(version(other), add(version(one), version(one)));
    // Both tabs write again and again: nothing is left to add.
    expect(add(version(other), first)).toBe(first);
    expect(add(version(one), first)).toBe(first);
    expect(add(version(one), second)).toBe(second);
    expect(answerOf(first).lastEvent).toBe(answerOf(second).lastEvent);
  });

  it.each(pairs)("is never less than what was there: %s over %s", (mine, kept) => {
    const answer = answerOf(add(version(mine), version(kept)));
    const before = answerOf(version(kept));
    expect(answer.text.length).toBeGreaterThanOrEqual(before.text.length);
    if (rests(kept)) {
      expect(answer.state).toBe(before.state);
    } else {
      expect(atRest(answer) || answer.lastEvent >= before.lastEvent).toBe(true);
      expect(atRest(answer)).toBe(rests(mine));
    }
  });

  it("is the conversation with the later question, whenever it was saved", () => {
    const [old, recent] = [chat({ state: "finished", ...at(99) }), chat({}, 2000)];
    old.updatedAt = 9999;
    expect(add(old, recent)).toBe(recent);
    expect(add(recent, old)).toBe(recent);
  });
});

describe("what is shown, where another tab has kept a conversation", () => {
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

  it("is theirs where they have asked since, or where it is new here", () => {
    const [old, recent] = [chat({ state: "finished" }), chat({}, 2000)];
    expect(adopt(old, recent)).toBe(recent);
    expect(adopt(recent, old)).toBe(recent);
    expect(adopt(undefined, old)).toBe(old);
  });
});
