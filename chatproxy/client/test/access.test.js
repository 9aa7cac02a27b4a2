import { describe, expect, it } from "vitest";

import {
  entered,
  headersFor,
  keepAccess,
  loadAccess,
  NO_ACCESS,
  refused,
} from "../src/state/asking/access.js";

const TOKEN = "ann-0123456789abcdef";

/** @param {Map<string, string>} items */
function storageOf(items) {
  return /** @type {Storage} */ ({
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => void items.set(key, value),
    removeItem: (key) => void items.delete(key),
  });
}

describe("access", () => {
  it("takes what was typed or pasted, without the space around it", () => {
    expect(entered(` ${TOKEN}\n`)).toEqual({ token: TOKEN, refused: false });
  });

  it("asks again, without a word, if nothing was typed", () => {
    expect(entered("  ")).toEqual(NO_ACCESS);
  });

  it.each(["two words", "tökén", "a\nb", "👋"])("refuses %j, which no header can carry", (text) => {
    expect(entered(text)).toEqual({ token: "", refused: true });
  });

  it("is over when the server refuses its token", () => {
    expect(refused(entered(TOKEN), TOKEN)).toEqual({ token: "", refused: true });
  });

  it("is no word about a token if there was none", () => {
    expect(refused(NO_ACCESS, "")).toEqual(NO_ACCESS);
  });

  it("stays when the refusal of an earlier token comes late", () => {
    expect(refused(entered(TOKEN), "an-earlier-token")).toEqual(entered(TOKEN));
  });

  it("goes with a request as a bearer token, or not at all", () => {
    expect(headersFor(TOKEN)).toEqual({ Authorization: `Bearer ${TOKEN}` });
    expect(headersFor("")).toEqual({});
  });

  it("is kept, found again, and forgotten", () => {
    const items = new Map();
    const storage = storageOf(items);
    keepAccess(storage, entered(TOKEN));
    expect(loadAccess(storage)).toEqual(entered(TOKEN));
    keepAccess(storage, NO_ACCESS);
    expect([...items]).toEqual([]);
    expect(loadAccess(storage)).toEqual(NO_ACCESS);
  });

  it("needs no storage, and no room in it", () => {
    expect(loadAccess(null)).toEqual(NO_ACCESS);
    keepAccess(null, entered(TOKEN));
    const full = storageOf(new Map());
    full.setItem = () => {
      throw new DOMException("full", "QuotaExceededError");
    };
    keepAccess(full, entered(TOKEN));
    expect(loadAccess(full)).toEqual(NO_ACCESS);
  });
});
