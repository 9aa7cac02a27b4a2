import { describe, expect, it } from "vitest";

import { sent } from "../src/state/chats/answer.js";
import { atRest, isSame, join, joinOutside, withSaid, withTimes } from "../src/state/chats/join.js";
import { rooted } from "../src/state/chats/tree.js";
import { chatOf } from "./chats.js";

/**
 * @typedef {import("../src/state/chats/model.js").Answer} Answer
 * @typedef {import("../src/state/chats/model.js").Conversation} Conversation
 */

describe("title, pin and deletion", () => {
  const mine = chatOf("c");

  it("are the later ones, and one's own if there are none", () => {
    const named = withSaid(mine, { title: "Mine", named: true }, 5);
    const pinned = withSaid(mine, { pinned: true }, 7);
    expect(joinOutside(mine, named)).toMatchObject({ title: "Mine", named: true });
    const both = { title: "Mine", named: true, pinned: true, shelvedAt: 7 };
    expect(joinOutside(named, pinned)).toMatchObject(both);
    expect(joinOutside(pinned, named)).toMatchObject(both);
    const unpinned = withSaid(pinned, { pinned: false }, 8);
    expect(joinOutside(pinned, unpinned)).toMatchObject({ pinned: false });
    expect(joinOutside(unpinned, pinned)).toBe(unpinned);
    const set = withSaid(mine, { settings: { temperature: 1 } }, 6);
    expect(joinOutside(pinned, set)).toMatchObject({ pinned: true, settings: { temperature: 1 } });
    expect(joinOutside(mine, { ...mine })).toBe(mine);
  });

  it("can be changed after a device with a fast clock has said something", () => {
    const fast = withSaid(mine, { pinned: true }, 9000);
    const changed = withSaid(fast, { pinned: false }, 8000);
    expect(join(fast, changed)).toMatchObject({ pinned: false });
    expect(join(changed, fast)).toMatchObject({ pinned: false });
  });

  it("outlive that the conversation goes on in another tab", () => {
    // As an earlier version of the page has it: one time for all of them.
    const named = { ...mine, title: "Mine", named: true, deletedAt: 5, shelvedAt: 5 };
    const later = { ...mine, title: "Something", updatedAt: 9999 };
    expect(joinOutside(named, later)).toMatchObject({ title: "Mine", deletedAt: 5, updatedAt: 9999 });
    expect(joinOutside(later, named)).toMatchObject({ title: "Mine", deletedAt: 5, updatedAt: 9999 });
    expect(joinOutside({ ...named, named: false }, later)).toMatchObject({ title: "Something" });
  });
});

/** Numbers that look random, and are the same each time. */
function createDice() {
  let state = 7;
  return (/** @type {number} */ most) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * most);
  };
}

const STATES = /** @type {const} */ (["running", "cut_off", "stopped", "failed", "finished"]);
const STOPS = /** @type {const} */ ([undefined, "unconfirmed", "stopped", "nothing-to-stop"]);

/**
 * @param {string} id
 * @param {string | null} parentId
 * @param {(most: number) => number} roll
 */
function answerOf(id, parentId, roll) {
  const lastEvent = roll(4);
  const more = { text: "x".repeat(lastEvent), lastEvent, parentId, stop: STOPS[roll(4)] };
  const state = STATES[roll(5)] ?? "running";
  const why = state === "stopped" && { reason: roll(2) ? "user" : "reload" };
  return sent(id, "m", 10, { ...more, state, ...why });
}

/**
 * What a device makes of a conversation: some of all messages that there are, further or less far, and
 * some of what can be said.
 * @param {(most: number) => number} roll
 * @returns {Conversation}
 */
function copyOf(roll) {
  const { messages: [prompt], ...outside } = chatOf("c");
  /** @type {import("../src/state/chats/model.js").Message[]} */
  const messages = prompt ? [prompt] : [];
  for (let n = 0; n < 4; n += 1) {
    const parentId = n % 2 ? `a${n - 1}` : prompt?.id ?? null;
    if (roll(2)) {
      messages.push(answerOf(`a${n}`, parentId, roll));
    }
    if (roll(3) === 0) {
      messages.push({ role: "user", id: `u${n}`, parentId, at: 20 + n, text: `Prompt ${n}` });
    }
  }
  /** @type {Conversation} */
  let copy = { ...outside, updatedAt: roll(4), title: `T${roll(3)}`, messages };
  if (roll(5) === 0) {
    copy = { ...copy, ...(roll(2) && { named: true }), pinned: true, shelvedAt: roll(4) };
  }
  const words = [
    { title: `N${roll(3)}`, named: true },
    { pinned: Boolean(roll(2)) },
    { deletedAt: roll(3) },
    { settings: { temperature: roll(2) } },
    { model: `m${roll(2)}` },
    { chosen: [`a${roll(4)}`] },
  ];
  for (const word of words) {
    copy = roll(3) ? copy : withSaid(copy, word, 1 + roll(5));
  }
  return copy;
}

/** @param {Conversation} one @param {Conversation} other */
function expectSame(one, other) {
  expect(withTimes(one)).toEqual(withTimes(other));
  expect(isSame(withTimes(one), withTimes(other))).toBe(true);
}

describe("copies of a conversation, of all kinds", () => {
  const roll = createDice();
  const triples = Array.from({ length: 60 }, () => [copyOf(roll), copyOf(roll), copyOf(roll)]);
  /** @type {(check: (a: Conversation, b: Conversation, c: Conversation) => void) => void} */
  const each = (check) => triples.forEach(([a, b, c]) => a && b && c && check(a, b, c));

  it("come to the same in any order, and however often they are joined", () => {
    each((a, b, c) => {
      const whole = join(join(a, b), c);
      for (const other of [join(a, join(b, c)), join(join(c, a), b), join(c, join(b, a))]) {
        expectSame(whole, other);
      }
      expectSame(join(whole, a), whole);
      expectSame(join(b, whole), whole);
      expectSame(join(whole, whole), whole);
    });
  });

  it("lose nothing that a person wrote, or got", () => {
    each((a, b, c) => {
      const whole = join(join(a, b), c);
      const ids = whole.messages.map(({ id }) => id);
      expect(new Set(ids).size).toBe(ids.length);
      for (const copy of [a, b, c]) {
        expect(!copy.named || whole.named).toBe(true);
        for (const message of copy.messages) {
          const there = whole.messages.find(({ id }) => id === message.id);
          expect(there?.parentId).toBe(message.parentId);
          if (message.role === "user") {
            expect(there).toEqual(message);
          } else {
            expect(there?.text.length).toBeGreaterThanOrEqual(message.text.length);
            expect(!atRest(message) || atRest(/** @type {Answer} */ (there))).toBe(true);
          }
        }
      }
      expect(rooted(whole.messages).length).toBe(ids.length);
    });
  });

  it("tell of each thing what was said last", () => {
    each((a, b, c) => {
      const whole = join(join(a, b), c);
      const pins = [a, b, c].filter(({ saidAt }) => saidAt);
      const last = Math.max(...pins.map(({ saidAt }) => saidAt?.pinned ?? 0));
      const said = pins.filter(({ saidAt }) => (saidAt?.pinned ?? 0) === last);
      const earlier = [a, b, c].filter(({ saidAt }) => !saidAt).map((one) => one.shelvedAt ?? 0);
      if (last > Math.max(0, ...earlier)) {
        expect(said.map(({ pinned }) => pinned)).toContain(whole.pinned);
      }
    });
  });
});
