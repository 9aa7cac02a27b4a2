import { describe, expect, it, vi } from "vitest";

import { keysWith } from "../src/lib/browser-storage.js";
import { findOwner, keepOwner, keptOwner, ownerNow, storageOf, takeDraft } from "../src/sync/owner.js";
import { storageOf as emptyStorage } from "./storage.js";

const [ANN, BOB] = ["a".repeat(32), "b".repeat(32)];
const DRAFT = "chatproxy.draft.";

describe("an owner's part of a storage", () => {
  it("is seen by nobody else, but for what is the browser's", () => {
    const storage = emptyStorage();
    const [ann, bob] = [storageOf(storage, ANN), storageOf(storage, BOB)];
    ann?.setItem(DRAFT, "Ann's");
    ann?.setItem("chatproxy.theme", "dark");
    expect(keysWith(ann, DRAFT)).toEqual([DRAFT]);
    expect(ann?.getItem(DRAFT)).toBe("Ann's");
    for (const other of [bob, storage]) {
      expect(keysWith(other, DRAFT)).toEqual([]);
      expect(other?.getItem(DRAFT)).toBe(null);
      expect(other?.getItem("chatproxy.theme")).toBe("dark");
    }
    ann?.removeItem(DRAFT);
    expect(keysWith(ann, "")).toEqual(["chatproxy.theme"]);
    expect(storageOf(storage, "")).toBe(storage);
  });

  it("gets what was begun before the login, unless it has something", () => {
    const storage = emptyStorage();
    storage.setItem(DRAFT, "Begun");
    takeDraft(storage, "");
    expect(storage.getItem(DRAFT)).toBe("Begun");
    takeDraft(storage, ANN);
    expect([storage.getItem(DRAFT), storageOf(storage, ANN)?.getItem(DRAFT)]).toEqual([null, "Begun"]);
    storage.setItem(DRAFT, "Other");
    takeDraft(storage, ANN);
    expect(storageOf(storage, ANN)?.getItem(DRAFT)).toBe("Begun");
  });
});

describe("whose conversations are shown", () => {
  it("is what the server says, and what the tab remembers if the server is not there", async () => {
    expect(await findOwner(null, "token", ANN)).toBe("");
    expect(await findOwner({ owner: ANN }, "", "")).toBe(ANN);
    expect(await findOwner({ owner: null }, "", ANN)).toBe("");
    expect(await findOwner({ owner: "../x" }, "", "")).toBe("");
    expect(await findOwner(undefined, "token", ANN)).toBe(ANN);
    vi.stubGlobal("fetch", async () => Response.json({ conversations: { owner: BOB } }));
    expect(await findOwner({ owner: null }, "token", ANN)).toBe(BOB);
    expect(await ownerNow("", ANN)).toBe(BOB); // by a cookie that has changed
    vi.stubGlobal("fetch", () => Promise.reject(new TypeError("away")));
    expect(await findOwner({ owner: null }, "token", ANN)).toBe(ANN);
    vi.unstubAllGlobals();
  });

  it("is remembered for as long as the tab", () => {
    const tab = emptyStorage();
    keepOwner(tab, ANN);
    expect(keptOwner(tab)).toBe(ANN);
    keepOwner(tab, "");
    expect([keptOwner(tab), tab.length]).toEqual(["", 0]);
  });
});
