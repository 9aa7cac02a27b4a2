import "fake-indexeddb/auto";
import { IDBFactory, IDBObjectStore } from "fake-indexeddb";
import { openDB } from "idb";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { createJournal, readJournal } from "../src/state/kept/journal.js";
import { allOf, openLibrary } from "../src/state/kept/library.js";
import { move } from "../src/sync/use-earlier.js";
import { chatOf, lastOf } from "./chats.js";
import { storageOf } from "./storage.js";

/** @typedef {import("../src/state/kept/library.js").Library} Library */

beforeEach(() => {
  globalThis.indexedDB = new IDBFactory();
});

afterEach(() => {
  vi.unstubAllGlobals();
});

/** @param {Library} library */
const ids = (library) => allOf(library).map(({ id }) => id);

describe("chats of somebody who had not said who they are", () => {
  const file = { id: "f", kind: /** @type {const} */ ("text"), name: "a.txt", content: "A", size: 1 };

  it("are an owner's with the files of what is being written, and are left if there is no room", async () => {
    const [to, earlier] = [await openLibrary(null, null, "a".repeat(32)), await openLibrary(null)];
    const chats = Array.from({ length: 25 }, (_, n) => chatOf(`c${n}`));
    await earlier.keep(chats);
    await earlier.draftFiles.keep("c3", "", [file]);
    await earlier.draftFiles.keep("c3", "c3-u", [file]);
    const from = await openLibrary(null, null);
    const left = vi.fn();
    const full = { ...to, keep: () => Promise.reject(new DOMException("full", "QuotaExceededError")) };
    await expect(move(from, full, left)).rejects.toThrow("full");
    expect((await openLibrary(null, null)).conversations).toHaveLength(25);
    await move(from, to, left);
    expect(left.mock.calls.map(([, number]) => number)).toEqual([5, 0]);
    expect((await openLibrary(null, null)).conversations).toEqual([]);
    expect((await openLibrary(null, null, "a".repeat(32))).conversations).toHaveLength(25);
    expect(await to.draftFiles.read("c3", "")).toEqual([file]);
    expect(await to.draftFiles.read("c3", "c3-u")).toEqual([file]);
  });
});

describe("the library", () => {
  it("gives back what it was given, the newest first, and more than sixty of it", async () => {
    const library = await openLibrary(null);
    const chats = Array.from({ length: 70 }, (_, n) => chatOf(`c${n}`, {}, { updatedAt: n + 1 }));
    await library.keep(chats);
    const again = await openLibrary(null, null);
    expect(ids(again)).toEqual(chats.map(({ id }) => id).reverse());
    expect(again.conversations.every(({ shut }) => shut)).toBe(true);
    expect(await again.read(["c7", "c69", "none"])).toEqual([
      chats[7]?.messages,
      chats[69]?.messages,
      [],
    ]);
  });

  it("reads at once what is shown first, and what still runs or waits for its Stop", async () => {
    const library = await openLibrary(null);
    await library.keep([
      chatOf("runs", { state: "running", status: "reconnecting", lastEvent: 7 }),
      chatOf("stops", { state: "stopped", stop: "unconfirmed" }),
      chatOf("done"),
      chatOf("newest", {}, { updatedAt: 9 }),
    ]);
    const open = async (/** @type {string | null} */ id) =>
      (await openLibrary(null, id ?? undefined)).conversations
        .filter(({ shut }) => !shut)
        .map(({ id }) => id)
        .sort();
    expect(await open("done")).toEqual(["done", "runs", "stops"]);
    expect(await open(null)).toEqual(["newest", "runs", "stops"]);
    const { conversations } = await openLibrary(null, null);
    expect(lastOf(conversations.find(({ id }) => id === "runs"))).toMatchObject({
      status: "answering",
      lastEvent: 7,
    });
  });

  it("keeps the files of drafts, as long as their chat, and takes in nothing that is none", async () => {
    /** @type {import("../src/lib/attachments.js").Attachment} */
    const file = { id: "f", kind: "text", name: "a.txt", content: "Hi", size: 2 };
    const { draftFiles: mine } = await openLibrary(null);
    await mine.keep("c", "", [file]);
    await mine.keep("c", "u", [file, /** @type {any} */ ({ id: "damaged" })]);
    await mine.keep("", "", []);
    const again = await openLibrary(null);
    const { read, keep } = again.draftFiles;
    const all = () => Promise.all([read("c", ""), read("c", "u"), read("", ""), read("c", "x")]);
    expect(await all()).toEqual([[file], [file], [], null]);
    await keep("", "", null);
    await again.purge(["c"]);
    expect(await all()).toEqual([null, null, null, null]);
  });

  it("takes over what an earlier version of the page has kept", async () => {
    const db = await openDB("chatproxy", 1, {
      upgrade(db) {
        db.createObjectStore("chats", { keyPath: "id" });
        const messages = db.createObjectStore("messages", { keyPath: ["chatId", "id"] });
        messages.createIndex("pending", "pending");
      },
    });
    const { messages, ...chat } = chatOf("old");
    await db.put("chats", chat);
    db.close();
    const library = await openLibrary(null);
    expect(ids(library)).toEqual(["old"]);
    await library.draftFiles.keep("old", "", []);
    expect(await library.draftFiles.read("old", "")).toEqual([]);
  });

  it("never overwrites what another tab knows more of, and hands that on", async () => {
    const [one, other] = [await openLibrary(null), await openLibrary(null)];
    await one.keep([chatOf("c", { state: "running", text: "Ha", lastEvent: 2 })]);
    await other.keep([chatOf("c", { text: "Half and half", lastEvent: 9 })]);
    const found = await one.keep([chatOf("c", { state: "running", text: "Half", lastEvent: 4 })]);
    expect(lastOf(found[0])).toMatchObject({ state: "finished", lastEvent: 9 });
    const [messages = []] = await one.read(["c"]);
    expect(messages.at(-1)).toMatchObject({ text: "Half and half", state: "finished" });
  });

  it("writes nothing that it has already", async () => {
    const library = await openLibrary(null);
    await library.keep([chatOf("c")]);
    const put = vi.spyOn(IDBObjectStore.prototype, "put");
    await library.keep([chatOf("c")]);
    expect(put).not.toHaveBeenCalled();
  });

  it("tells the other tabs what it keeps, and what is deleted for good", async () => {
    const [one, other] = [await openLibrary(null), await openLibrary(null)];
    /** @type {string[]} */
    const heard = [];
    const end = other.listen({
      onKept: ({ id, messages }) => heard.push(`${id} ${messages.length}`),
      onDeleted: (id) => heard.push(`${id} gone`),
    });
    await one.keep([chatOf("c")]);
    await one.keep([chatOf("c", { text: "Hi there" })]);
    await one.keep([chatOf("d")]);
    await one.purge(["d"]);
    await vi.waitFor(() => expect(heard).toEqual(["c 2", "c 1", "d 2", "d gone"]));
    end();
    expect(ids(await openLibrary(null))).toEqual(["c"]);
    expect(await one.read(["d"])).toEqual([[]]);
  });

  it("tells a tab that listens later, too, but each thing once", async () => {
    const [one, other, late] = [
      await openLibrary(null),
      await openLibrary(null),
      await openLibrary(null),
    ];
    /** @type {string[]} */
    const heard = [];
    const hear = (/** @type {string} */ who) => ({
      onKept: (/** @type {{id: string}} */ { id }) => void heard.push(`${who} ${id}`),
      onDeleted: () => undefined,
    });
    other.listen(hear("other"));
    await one.keep([chatOf("c")]);
    await vi.waitFor(() => expect(heard).toEqual(["other c"]));
    late.listen(hear("late"))();
    late.listen(hear("late"));
    await one.keep([chatOf("d")]);
    await vi.waitFor(() => expect(heard).toEqual(["other c", "late c", "other d", "late d"]));
  });

  it("refuses to grow beyond its bound, and takes more once there is room", async () => {
    let usage = 2 ** 31;
    vi.stubGlobal("navigator", { storage: { estimate: async () => ({ usage, quota: 2 ** 40 }) } });
    const library = await openLibrary(null);
    await library.keep([chatOf("before it was measured")]);
    expect(await library.room()).toEqual({ used: 2 ** 31, bound: 1e9 });
    await expect(library.keep([chatOf("c")])).rejects.toMatchObject({ name: "QuotaExceededError" });
    usage = 5;
    await library.keep([chatOf("c")]);
    expect(ids(await openLibrary(null))).toContain("c");
  });
});

describe("the journal", () => {
  it("has what was not kept yet when the page was left, and goes into the library", async () => {
    const storage = storageOf();
    const library = await openLibrary(storage);
    const running = chatOf("c", { state: "running", text: "Half", lastEvent: 4 });
    await library.keep([running]);
    const answer = { ...lastOf(running), text: "Half of", lastEvent: 6 };
    library.journal.write([{ ...running, messages: [answer] }]);
    const again = await openLibrary(storage);
    expect(lastOf(again.conversations[0])).toMatchObject({ text: "Half of", lastEvent: 6 });
    expect(again.conversations[0]?.messages).toHaveLength(2);
    expect(storage.length).toBe(0);
  });

  it("is each tab's own", () => {
    const storage = storageOf();
    const [one, other] = [createJournal(storage), createJournal(storage)];
    one.write([chatOf("c")]);
    other.write([chatOf("c")]);
    one.clear();
    expect(readJournal(storage).conversations).toHaveLength(1);
  });

  it("has the most that any tab knew, whichever has left first", async () => {
    const running = chatOf("c", { state: "running", text: "Half", lastEvent: 4 });
    const finished = chatOf("c", { text: "Half and half", lastEvent: 9 });
    for (const order of [[running, finished], [finished, running]]) {
      globalThis.indexedDB = new IDBFactory();
      const storage = storageOf();
      order.forEach((chat) => createJournal(storage).write([chat]));
      const { conversations } = await openLibrary(storage);
      expect(lastOf(conversations[0])).toMatchObject({ state: "finished", lastEvent: 9 });
      expect(storage.length).toBe(0);
    }
  });

  it("has the conversations of an earlier version of the page, which are taken over once", async () => {
    const storage = storageOf();
    storage.setItem("other", "{}");
    storage.setItem("chatproxy.chat.x", "{broken");
    const list = [
      { role: "user", id: "u1", text: "One" },
      { role: "assistant", id: "a1", text: "1", state: "finished", startedAt: 5, lastEvent: 3 },
      { role: "user", id: "u2", text: "Two" },
      { role: "assistant", id: "a2", text: "2", state: "running", startedAt: 9, lastEvent: 7 },
    ];
    storage.setItem(
      "chatproxy.chat.c",
      JSON.stringify({ id: "c", title: "One", updatedAt: 10, messages: list }),
    );
    const { conversations } = await openLibrary(storage);
    expect(conversations[0]?.messages).toMatchObject([
      { id: "u1", parentId: null, at: 5 },
      { id: "a1", parentId: "u1" },
      { id: "u2", parentId: "a1", at: 9 },
      { id: "a2", parentId: "u2", state: "running", status: "answering" },
    ]);
    expect(storage.getItem("chatproxy.chat.c")).toBeNull();
    expect(storage.getItem("chatproxy.chat.x")).toBe("{broken");
  });

  it("stays, and is shown, if it cannot be taken in", async () => {
    const storage = storageOf();
    const library = await openLibrary(storage);
    await library.keep([chatOf("c", { state: "running", text: "Ha", lastEvent: 2 })]);
    createJournal(storage).write([chatOf("c", { state: "running", text: "Half", lastEvent: 4 })]);
    const put = vi.spyOn(IDBObjectStore.prototype, "put").mockImplementation(() => {
      throw new DOMException("full", "QuotaExceededError");
    });
    const again = await openLibrary(storage);
    put.mockRestore();
    expect(again.lasting).toBe(true);
    expect(lastOf(allOf(again)[0])).toMatchObject({ text: "Half", lastEvent: 4 });
    expect(storage.length).toBe(1);
  });

  it("has what it had of a conversation that has become too large for it", async () => {
    const storage = storageOf(1500);
    createJournal(storage).write([chatOf("c"), chatOf("d")]);
    vi.stubGlobal("indexedDB", undefined);
    const { journal } = await openLibrary(storage);
    journal.write([chatOf("c", { text: "word ".repeat(500) }), chatOf("d", { text: "More" })]);
    const { conversations } = readJournal(storage);
    expect(conversations.map(({ id }) => id).toSorted()).toEqual(["c", "d"]);
    expect(lastOf(conversations.find(({ id }) => id === "c")).text).toBe("Hi");
    expect(lastOf(conversations.find(({ id }) => id === "d")).text).toBe("More");
    expect(storage.length).toBe(2);
  });

  it("takes nothing away that another tab has written since", async () => {
    const storage = storageOf();
    const one = createJournal(storage);
    one.write([chatOf("c", { state: "running", text: "Half", lastEvent: 4 })]);
    vi.stubGlobal("indexedDB", undefined);
    const other = await openLibrary(storage);
    one.write([chatOf("c", { text: "Half and half", lastEvent: 9 })]);
    other.journal.write(allOf(other));
    expect(lastOf(readJournal(storage).conversations[0])).toMatchObject({ lastEvent: 9 });
  });

  it("survives a storage that takes nothing, and one that is not there", () => {
    for (const storage of [storageOf(0), null]) {
      createJournal(storage).write([chatOf("c")]);
      expect(readJournal(storage).conversations).toEqual([]);
    }
  });
});

describe("a browser without IndexedDB", () => {
  it("says so, and lets all that is there outlive a reload by the journal", async () => {
    const storage = storageOf();
    vi.stubGlobal("indexedDB", undefined);
    const library = await openLibrary(storage);
    expect(library.lasting).toBe(false);
    await expect(library.keep([chatOf("c")])).rejects.toThrow();
    library.journal.write([chatOf("c")]);
    const again = await openLibrary(storage);
    expect(ids(again)).toEqual(["c"]);
    again.journal.write(allOf(again));
    expect(storage.length).toBe(1);
  });
});
