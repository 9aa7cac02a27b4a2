import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { createKeeper } from "../src/state/kept/keeper.js";
import { chatOf, lastOf } from "./chats.js";

/** @typedef {import("../src/state/chats/model.js").Conversation} Conversation */

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

/** A keeper, and what it has written. */
function begin() {
  const writes = /** @type {Conversation[][]} */ ([]);
  const keep = vi.fn(async (/** @type {Conversation[]} */ conversations) => {
    writes.push(conversations);
    return /** @type {Conversation[]} */ ([]);
  });
  const journal = { write: vi.fn(), clear: vi.fn() };
  const [onFound, onTrouble] = [vi.fn(), vi.fn()];
  const loaded = [chatOf("old")];
  const keeper = createKeeper({ library: { keep, journal }, loaded, onFound, onTrouble });
  return { keeper, writes, keep, journal, onFound, onTrouble, loaded };
}

/** @param {number} lastEvent */
const growing = (lastEvent) =>
  chatOf("c", { state: "running", text: "word ".repeat(lastEvent), lastEvent });

describe("the keeper", () => {
  it("writes once a second at the most, text and number together", async () => {
    const { keeper, writes } = begin();
    for (let n = 1; n <= 300; n += 1) {
      keeper.keep([growing(n)]);
      await vi.advanceTimersByTimeAsync(10);
    }
    expect(writes.length).toBeGreaterThan(2);
    expect(writes.length).toBeLessThanOrEqual(4);
    for (const [conversation] of writes) {
      const { text, lastEvent } = lastOf(conversation);
      expect(text).toBe("word ".repeat(lastEvent));
    }
  });

  it("writes in time when the clock is put back", async () => {
    const { keeper, writes } = begin();
    keeper.keep([growing(1)]);
    await keeper.save();
    vi.setSystemTime(Date.now() - 3_600_000);
    keeper.keep([growing(2)]);
    await vi.advanceTimersByTimeAsync(1000);
    expect(writes.map(([one]) => lastOf(one).lastEvent)).toEqual([1, 2]);
  });

  it("writes a question at once, however short a while ago the page was opened", async () => {
    const { keeper, writes, loaded } = begin();
    keeper.keep(loaded);
    await vi.advanceTimersByTimeAsync(100);
    keeper.keep([growing(0), ...loaded]);
    await vi.advanceTimersByTimeAsync(0);
    expect(writes).toHaveLength(1);
  });

  it("writes the messages that have changed, and no others", async () => {
    const { keeper, writes, loaded } = begin();
    const [old] = /** @type {[Conversation]} */ (loaded);
    keeper.keep(loaded);
    await keeper.save();
    expect(writes).toEqual([]);
    const asked = chatOf("old-2", {}).messages;
    keeper.keep([{ ...old, messages: [...old.messages, ...asked] }]);
    await keeper.save();
    expect(writes).toMatchObject([[{ id: "old", messages: asked }]]);
    expect(writes[0]?.[0]?.messages).toHaveLength(2);
  });

  it("never writes twice at once, and writes then what has come meanwhile", async () => {
    const { keeper, keep, writes } = begin();
    /** @type {() => void} */
    let finish = () => undefined;
    keep.mockImplementationOnce((conversations) => {
      writes.push(conversations);
      return new Promise((resolve) => (finish = () => resolve([])));
    });
    keeper.keep([growing(1)]);
    const first = keeper.save();
    keeper.keep([growing(2)]);
    void keeper.save();
    await vi.advanceTimersByTimeAsync(3000);
    expect(writes).toHaveLength(1);
    finish();
    await first;
    await vi.advanceTimersByTimeAsync(1000);
    expect(writes.map(([one]) => lastOf(one).lastEvent)).toEqual([1, 2]);
  });

  it("leaves a note of what is not written yet when the page is left", async () => {
    const { keeper, journal } = begin();
    keeper.keep([growing(7)]);
    keeper.leave();
    expect(lastOf(journal.write.mock.lastCall?.[0][0])).toMatchObject({ lastEvent: 7 });
    await vi.advanceTimersByTimeAsync(0);
    expect(journal.clear).toHaveBeenCalled();
    keeper.leave();
    expect(journal.write.mock.lastCall?.[0]).toEqual([]);
  });

  it("tells of a full storage, tries again, and tells when that is over", async () => {
    const { keeper, keep, onTrouble, writes } = begin();
    keep.mockRejectedValueOnce(new DOMException("full", "QuotaExceededError"));
    keep.mockRejectedValueOnce(new Error("broken"));
    keeper.keep([growing(1)]);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(onTrouble.mock.calls.flat()).toEqual(["full", "failed", null]);
    expect(writes.map(([one]) => lastOf(one).lastEvent)).toEqual([1]);
  });

  it("hands on what another tab knows more of, and does not write that again", async () => {
    const { keeper, keep, onFound, writes } = begin();
    const whole = chatOf("c", { text: "Whole" });
    keep.mockResolvedValueOnce([whole]);
    keeper.keep([growing(1)]);
    await keeper.save();
    expect(onFound).toHaveBeenCalledWith(whole);
    keeper.mark(whole);
    keeper.keep([whole]);
    await keeper.save();
    expect(writes).toEqual([]);
  });

  it("does not bring back what is deleted for good", async () => {
    const { keeper, writes, journal } = begin();
    keeper.keep([growing(1)]);
    keeper.leave();
    await vi.advanceTimersByTimeAsync(0);
    keeper.keep([]);
    await keeper.save();
    expect(writes).toHaveLength(1);
    expect(journal.clear.mock.invocationCallOrder.at(-1)).toBeGreaterThan(
      journal.write.mock.invocationCallOrder.at(-1) ?? 0,
    );
  });
});
