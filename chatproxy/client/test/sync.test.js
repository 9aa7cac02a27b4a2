import "fake-indexeddb/auto";
import { IDBFactory } from "fake-indexeddb";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { isSame, withSaid, withTimes } from "../src/state/chats/join.js";
import { adopt } from "../src/state/chats/merge.js";
import { withAdded } from "../src/state/chats/tree.js";
import { openLibrary } from "../src/state/kept/library.js";
import { createServer, Unavailable } from "../src/sync/server.js";
import { synchronize } from "../src/sync/synchronize.js";
import { chatOf } from "./chats.js";

/**
 * @typedef {import("../src/state/chats/model.js").Conversation} Conversation
 * @typedef {import("../src/sync/synchronize.js").Sides["server"]} Server
 */

beforeEach(() => {
  globalThis.indexedDB = new IDBFactory();
});

/** A server that keeps conversations as the real one does. */
function createFakeServer({ most = 100, longest = 1e6 } = {}) {
  /** @type {Map<string, {revision: number, text: string | null}>} */
  const kept = new Map();
  let last = 1000;
  let puts = 0;
  const state = { away: false, refused: new Map() };
  const check = (/** @type {string} */ id = "") => {
    if (state.away || state.refused.has(id)) {
      throw new Unavailable(state.refused.get(id) ?? 503);
    }
  };
  /** @type {Server} */
  const server = {
    async list(after) {
      check();
      const all = [...kept].filter(([, { revision }]) => revision > after);
      const heads = all.map(([id, { revision, text }]) => ({ id, revision, ...(text ? {} : { deleted: /** @type {const} */ (true) }) }));
      const page = heads.toSorted((a, b) => a.revision - b.revision).slice(0, 2);
      return { conversations: page, revision: page.at(-1)?.revision ?? after, more: heads.length > 2 };
    },
    async get(id) {
      check(id);
      const found = kept.get(id);
      if (!found) {
        return null;
      }
      const { revision, text } = found;
      return text ? { revision, conversation: JSON.parse(text) } : { deletedAt: revision };
    },
    async put(conversation, seen) {
      check(conversation.id);
      puts += 1;
      const text = JSON.stringify(conversation);
      const revision = kept.get(conversation.id)?.revision ?? 0;
      if (revision !== seen) {
        return { outcome: "changed", revision };
      }
      if (text.length > longest || (!revision && kept.size >= most)) {
        return { outcome: text.length > longest ? "large" : "full", revision };
      }
      kept.set(conversation.id, { revision: (last += 1), text });
      return { outcome: "kept", revision: last };
    },
    async remove(id, seen) {
      check();
      const revision = kept.get(id)?.revision ?? 0;
      if (revision !== seen) {
        return { outcome: "changed", revision };
      }
      kept.set(id, { revision: (last += 1), text: null });
      return { outcome: "deleted", revision: last };
    },
  };
  return { server, kept, state, puts: () => puts };
}

/**
 * A device: a page with its library.
 * @param {Server} server
 * @param {string} name of its database, since all are in one browser here
 */
async function createDevice(server, name) {
  const library = await openLibrary(null, null, name);
  if (!library.outbox) {
    throw new Error("no outbox");
  }
  const sides = { server, outbox: library.outbox, refused: new Map() };
  /** @type {Map<string, Conversation>} */
  const shown = new Map();
  return {
    library,
    shown,
    /** @param {Conversation} conversation */
    async keep(conversation) {
      shown.set(conversation.id, conversation);
      await library.keep([conversation]);
    },
    /** @param {string} id */
    async purge(id) {
      shown.delete(id);
      await library.purge([id]);
    },
    round: () =>
      synchronize({
        ...sides,
        onTaken(taken) {
          const mine = shown.get(taken.id);
          shown.set(taken.id, mine ? adopt(mine, taken) : taken);
        },
        onGone: (id) => void shown.delete(id),
      }),
    unsent: async () => (await sides.outbox.unsent()).map(({ id }) => id),
    /** What is kept in the browser. */
    async all() {
      const { conversations } = await openLibrary(null, null, name);
      const whole = conversations.map(async ({ shut, needed, ...one }) => {
        const [messages = []] = await library.read([one.id]);
        return withTimes({ ...one, messages });
      });
      return (await Promise.all(whole)).toSorted((a, b) => (a.id < b.id ? -1 : 1));
    },
  };
}

afterEach(() => {
  vi.unstubAllGlobals();
});

describe("what the server says of one conversation", () => {
  const put = () => createServer({}).put(chatOf("x"), 0);

  it("is known by the status if a proxy says it with a page of its own", async () => {
    for (const [status, outcome] of /** @type {const} */ ([[413, "large"], [507, "full"]])) {
      vi.stubGlobal("fetch", async () => new Response("<html>", { status }));
      expect((await put()).outcome).toBe(outcome);
    }
  });

  it("is told apart from that there is no connection, if it takes too long", async () => {
    vi.stubGlobal("fetch", () => Promise.reject(new DOMException("late", "TimeoutError")));
    await expect(put()).rejects.toMatchObject({ status: 408 });
    vi.stubGlobal("fetch", () => Promise.reject(new TypeError("away")));
    await expect(put()).rejects.toMatchObject({ status: 0 });
  });
});

const NAMES = ["a".repeat(32), "b".repeat(32), "c".repeat(32)];

/** @param {ReturnType<typeof createFakeServer>} fake */
const createTwo = async ({ server }) =>
  /** @type {const} */ ([await createDevice(server, "a".repeat(32)), await createDevice(server, "b".repeat(32))]);

/**
 * @param {Conversation} chat
 * @param {string} id
 * @param {number} [at]
 */
const asked = (chat, id, at = 5) =>
  withAdded(chat, { role: "user", id, parentId: chat.messages.at(-1)?.id ?? null, at, text: id });

describe("conversations of several devices", () => {
  it("are on the others after a round, with all that belongs to them", async () => {
    const fake = createFakeServer();
    const [one, two] = await createTwo(fake);
    const chats = ["x", "y", "z"].map((id) => chatOf(id, {}, { settings: { system: "Be kind" } }));
    for (const chat of chats) {
      await one.keep(chat);
    }
    await one.round();
    expect(await one.unsent()).toEqual([]);
    await two.round();
    expect(await two.all()).toEqual(await one.all());
    expect([...two.shown.keys()].toSorted()).toEqual(["x", "y", "z"]);
    await two.round();
    await one.round();
    expect(fake.puts()).toBe(3);
  });

  it("keep what both wrote at the same time", async () => {
    const fake = createFakeServer();
    const [one, two] = await createTwo(fake);
    await one.keep(chatOf("x"));
    await one.round();
    await two.round();
    await one.keep(withSaid(asked(chatOf("x"), "from-one"), { title: "One's", named: true }, 50));
    await two.keep(withSaid(asked(chatOf("x"), "from-two", 6), { pinned: true }, 60));
    await one.round();
    await two.round();
    await one.round();
    const [both] = await one.all();
    expect(await two.all()).toEqual([both]);
    expect(both).toMatchObject({ title: "One's", pinned: true });
    expect(both?.messages.map(({ id }) => id)).toEqual(["x-u", "x-a", "from-one", "from-two"]);
    expect(one.shown.get("x")?.messages).toHaveLength(4);
  });

  it("go on without the server, and are sent when it is there again", async () => {
    const fake = createFakeServer();
    const [one, two] = await createTwo(fake);
    fake.state.away = true;
    await one.keep(chatOf("x"));
    await expect(one.round()).rejects.toThrow(Unavailable);
    expect(await one.unsent()).toEqual(["x"]);
    fake.state.away = false;
    await one.round();
    await two.round();
    expect(await two.all()).toHaveLength(1);
  });

  it("are deleted on all, can be restored, and are gone for good if they are purged", async () => {
    const fake = createFakeServer();
    const [one, two] = await createTwo(fake);
    await one.keep(chatOf("x"));
    await one.round();
    await two.round();
    await one.keep(withSaid(chatOf("x"), { deletedAt: 70 }, 70));
    await one.round();
    await two.round();
    expect(await two.all()).toMatchObject([{ deletedAt: 70 }]);
    await two.keep(withSaid(chatOf("x"), { deletedAt: 0 }, 80));
    await two.round();
    // Its time is over, and it has not heard that somebody wants it back.
    await one.purge("x");
    await one.round();
    expect(await one.all()).toMatchObject([{ id: "x", deletedAt: 0 }]);
    await two.purge("x");
    await two.round();
    await one.round();
    expect([await one.all(), await two.all()]).toEqual([[], []]);
    expect(one.shown.size).toBe(0);
  });

  it("come back if they were purged while another one wrote to them", async () => {
    const fake = createFakeServer();
    const [one, two] = await createTwo(fake);
    await one.keep(chatOf("x"));
    await one.round();
    await two.round();
    await two.keep(asked(chatOf("x"), "still-wanted"));
    await one.purge("x");
    await one.round();
    await two.round();
    await one.round();
    expect(await one.all()).toEqual(await two.all());
    expect((await one.all())[0]?.messages).toHaveLength(3);
  });

  it("that were purged before the server heard of them leave nothing", async () => {
    const fake = createFakeServer();
    const [one] = await createTwo(fake);
    await one.keep(chatOf("x"));
    await one.purge("x");
    await one.round();
    expect([fake.kept.size, await one.unsent()]).toEqual([0, []]);
  });

  it("are sent when an answer begins and when it ends, and not while it grows", async () => {
    const fake = createFakeServer();
    const [one, two] = await createTwo(fake);
    const running = (/** @type {number} */ n) =>
      chatOf("x", { state: "running", text: "x".repeat(n), lastEvent: n }, { updatedAt: n });
    for (const n of [1, 2, 3]) {
      await one.keep(running(n));
      await one.round();
    }
    expect(fake.puts()).toBe(1);
    await two.round();
    expect(two.shown.get("x")?.messages.at(-1)).toMatchObject({ state: "running", lastEvent: 1 });
    await one.keep(chatOf("x", { lastEvent: 9, text: "All of it" }, { updatedAt: 9 }));
    await one.round();
    await two.round();
    expect(two.shown.get("x")?.messages.at(-1)).toMatchObject({ state: "finished", text: "All of it" });
  });

  it("stay here if the server keeps no more, or not so large ones, and it is told", async () => {
    const fake = createFakeServer({ most: 1, longest: 2000 });
    const [one] = await createTwo(fake);
    await one.keep(chatOf("x"));
    expect(await one.round()).toBe(null);
    await one.keep(chatOf("y", { text: "y".repeat(3000) }));
    expect(await one.round()).toBe("large");
    const asked = fake.puts();
    expect(await one.round()).toBe("large");
    expect(fake.puts()).toBe(asked);
    await one.keep(chatOf("z"));
    expect(await one.round()).toBe("full");
    expect(await one.all()).toHaveLength(3);
  });

  it.each([400, 403, 408, 500])("hold up no other one if the server says %d to one", async (status) => {
    const fake = createFakeServer();
    const [one, two] = await createTwo(fake);
    await one.keep(chatOf("a"));
    await one.keep(chatOf("b"));
    fake.state.refused.set("a", status);
    expect(await one.round()).toBe("refused");
    expect([[...fake.kept.keys()], await one.unsent()]).toEqual([["b"], ["a"]]);
    fake.state.refused.clear();
    await one.keep(asked(chatOf("a"), "more"));
    expect(await one.round()).toBe(null);
    // What can't be read is not forgotten, and what was written meanwhile goes out.
    fake.state.refused.set("a", status);
    await two.keep(chatOf("c"));
    await two.round();
    expect([(await two.all()).length, fake.kept.size]).toEqual([2, 3]);
    fake.state.refused.clear();
    vi.useFakeTimers({ now: Date.now() + 1e6, toFake: ["Date"] });
    await two.round();
    vi.useRealTimers();
    expect(await two.all()).toHaveLength(3);
  });

  it("that end a round come last in the next one", async () => {
    const fake = createFakeServer();
    const [one] = await createTwo(fake);
    await one.keep(chatOf("a"));
    await one.keep(chatOf("b"));
    fake.state.refused.set("a", 0);
    await expect(one.round()).rejects.toThrow(Unavailable);
    await expect(one.round()).rejects.toThrow(Unavailable);
    expect([...fake.kept.keys()]).toEqual(["b"]);
  });

  it("that the operator has erased stay here, and are written again only if they change", async () => {
    const fake = createFakeServer();
    const [one] = await createTwo(fake);
    await one.keep(chatOf("x"));
    await one.round();
    fake.kept.clear();
    await one.round();
    expect([fake.kept.size, (await one.all()).length]).toEqual([0, 1]);
    await one.keep(asked(chatOf("x"), "more"));
    await one.round();
    expect(fake.kept.size).toBe(1);
  });

  it("come to the same, whatever each writes and whenever it is there", async () => {
    const fake = createFakeServer();
    const devices = await Promise.all(NAMES.map((name) => createDevice(fake.server, name)));
    let seed = 11;
    const roll = (/** @type {number} */ most) => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return Math.floor((seed / 2 ** 32) * most);
    };
    const written = [];
    for (let n = 10; n < 70; n += 1) {
      const device = /** @type {typeof devices[0]} */ (devices[roll(3)]);
      const chat = device.shown.get(`chat${roll(2)}`) ?? chatOf(`chat${roll(2)}`);
      const changes = [
        () => asked(chat, `u${n}`, n),
        () => withSaid(chat, { title: `T${n}`, named: true }, n),
        () => withSaid(chat, { pinned: !roll(2) }, n),
      ];
      const change = changes[roll(4)];
      const changed = change?.();
      await (changed ? device.keep(changed) : device.round());
      written.push(...(change === changes[0] ? [`u${n}`] : []));
    }
    for (let n = 0; n < 3; n += 1) {
      for (const device of devices) {
        await device.round();
      }
    }
    const puts = fake.puts();
    const [first, ...others] = await Promise.all(devices.map((device) => device.all()));
    others.forEach((other) => expect(isSame(other, first)).toBe(true));
    const ids = first?.flatMap(({ messages }) => messages.map(({ id }) => id));
    written.forEach((id) => expect(ids).toContain(id));
    for (const device of devices) {
      await device.round();
    }
    expect(fake.puts()).toBe(puts); // nobody writes what the others have
  });
});
