import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { sent } from "../src/state/answer.js";
import { createKeeper } from "../src/state/keeper.js";
import { loadConversations, removeConversation } from "../src/state/store.js";
import { storageOf } from "./storage.js";

/**
 * @typedef {import("../src/state/model.js").Answer} Answer
 * @typedef {import("../src/state/model.js").Conversation} Conversation
 */

/** @type {Storage} */
let storage;

beforeEach(() => {
  vi.useFakeTimers();
  storage = storageOf();
});

afterEach(() => {
  vi.useRealTimers();
});

/**
 * @param {number} lastEvent
 * @param {Partial<Answer>} [more]
 * @returns {Conversation}
 */
function chat(lastEvent, more) {
  const text = "word ".repeat(lastEvent);
  const answer = { ...sent("a", "deepseek-flash", 1), text, lastEvent, status: "answering", ...more };
  return { id: "c", title: "Hello", updatedAt: lastEvent, messages: [/** @type {Answer} */ (answer)] };
}

function kept() {
  return /** @type {Answer} */ (loadConversations(storage)[0]?.messages[0]);
}

describe("the keeper", () => {
  it("writes once a second at the most, text and number together", () => {
    const write = vi.spyOn(storage, "setItem");
    const keeper = createKeeper(storage, [], () => undefined);
    for (let n = 1; n <= 300; n += 1) {
      keeper.keep([chat(n)]);
      vi.advanceTimersByTime(10);
      const answer = kept();
      expect(answer?.text ?? "").toBe("word ".repeat(answer?.lastEvent ?? 0));
    }
    expect(write.mock.calls.length).toBeLessThanOrEqual(4);
  });

  it("writes at once when it is told to", () => {
    const keeper = createKeeper(storage, [], () => undefined);
    keeper.keep([chat(1)]);
    keeper.save();
    keeper.keep([chat(7)]);
    keeper.save();
    expect(kept().lastEvent).toBe(7);
  });

  it("does not overwrite what another tab has read to its end, and hands it on", () => {
    const found = vi.fn();
    const [here, there] = [createKeeper(storage, [], found), createKeeper(storage, [], vi.fn())];
    here.keep([chat(3)]);
    here.save();
    there.keep([chat(9, { state: "finished" })]);
    there.save();
    here.keep([chat(4)]);
    here.save();
    expect(kept()).toMatchObject({ state: "finished", lastEvent: 9 });
    expect(found.mock.lastCall?.[0].messages[0]).toMatchObject({ state: "finished" });
  });

  it("keeps the further one of two that are read by two tabs", () => {
    const [one, other] = [createKeeper(storage, [], vi.fn()), createKeeper(storage, [], vi.fn())];
    one.keep([chat(30)]);
    one.save();
    other.keep([chat(20)]);
    other.save();
    expect(kept().lastEvent).toBe(30);
    other.keep([chat(40)]);
    other.save();
    one.keep([chat(35)]);
    one.save();
    expect(kept().lastEvent).toBe(40);
  });

  it("comes to rest where two tabs have the same", () => {
    const [one, other] = [createKeeper(storage, [], vi.fn()), createKeeper(storage, [], vi.fn())];
    const frozen = chat(5, { state: "stopped", reason: "user" });
    one.keep([frozen]);
    one.save();
    const write = vi.spyOn(storage, "setItem");
    const further = chat(6, { state: "stopped", reason: "user" });
    for (let n = 0; n < 5; n += 1) {
      other.keep([further]);
      other.save();
      one.keep([{ ...frozen }]);
      one.save();
    }
    // The other one has read a little further: what it shows is kept, once.
    expect(write).toHaveBeenCalledTimes(1);
    expect(kept().lastEvent).toBe(6);
  });

  it("takes out what is deleted, and does not bring back what another tab has deleted", () => {
    const keeper = createKeeper(storage, [], vi.fn());
    const finished = [chat(5, { state: "finished" })];
    keeper.keep(finished);
    keeper.save();
    removeConversation(storage, "c");
    keeper.keep([...finished]);
    keeper.save();
    expect(loadConversations(storage)).toEqual([]);
    keeper.keep([]);
    keeper.save();
    expect(loadConversations(storage)).toEqual([]);
  });
});
