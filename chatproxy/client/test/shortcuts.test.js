import { describe, expect, it, vi } from "vitest";

import { keepPrompts, loadPrompts, withPrompt } from "../src/lib/saved-prompts.js";
import { shortcutOf } from "../src/lib/shortcuts.js";
import { chooseTheme, keptTheme } from "../src/lib/theme.js";
import { storageOf } from "./storage.js";

/** @param {Partial<KeyboardEvent> & {key: string}} pressed */
function keys(pressed) {
  return { ctrlKey: false, metaKey: false, altKey: false, shiftKey: false, ...pressed };
}

const ELSEWHERE = { typing: false, bare: true };
const TYPING = { typing: true, bare: true };

describe("a shortcut", () => {
  it.each([
    [{ key: "/", ctrlKey: true }, "help"],
    [{ key: "/", ctrlKey: true, shiftKey: true }, "help"],
    [{ key: "/", metaKey: true }, "help"],
    [{ key: ",", ctrlKey: true }, "settings"],
    [{ key: "O", ctrlKey: true, shiftKey: true }, "newChat"],
    [{ key: "o", ctrlKey: true }, null],
    [{ key: "k", ctrlKey: true }, "search"],
    [{ key: "k" }, null],
    [{ key: "/", ctrlKey: true, altKey: true }, null],
    [{ key: "/" }, null],
  ])("%j is %j, whether text is typed or not", (pressed, shortcut) => {
    expect(shortcutOf(keys(pressed), ELSEWHERE)).toBe(shortcut);
    expect(shortcutOf(keys(pressed), TYPING)).toBe(shortcut);
  });

  it("is a question mark alone only while no text is typed, and if that is wanted", () => {
    for (const key of ["?", "？"]) {
      const pressed = keys({ key, shiftKey: true });
      expect(shortcutOf(pressed, ELSEWHERE)).toBe("help");
      expect(shortcutOf(pressed, TYPING)).toBeNull();
      expect(shortcutOf(pressed, { typing: false, bare: false })).toBeNull();
    }
  });
});

describe("saved prompts", () => {
  it("are kept, changed in their place, and named by their first line if by nothing else", () => {
    const storage = storageOf();
    const two = withPrompt(
      withPrompt([], null, { title: "", text: "Translate:\n…" }),
      null,
      { title: " Second ", text: "2" },
    );
    expect(keepPrompts(storage, two)).toBe(true);
    expect(loadPrompts(storage)).toEqual(two);
    expect(two.map(({ title }) => title)).toEqual(["Translate:", "Second"]);
    const changed = withPrompt(two, two[0]?.id ?? "", { title: "First", text: "1" });
    expect(changed.map(({ title, text }) => [title, text])).toEqual([
      ["First", "1"],
      ["Second", "2"],
    ]);
  });

  it("are said not to be kept if the storage is full or closed", () => {
    const prompts = withPrompt([], null, { title: "", text: "x".repeat(100) });
    expect(keepPrompts(storageOf(10), prompts)).toBe(false);
    expect(keepPrompts(null, prompts)).toBe(false);
  });

  it.each(["", "{", "{}", '[{"id": 1}]', "null"])("are none in %j", (kept) => {
    const storage = storageOf();
    storage.setItem("chatproxy.prompts", kept);
    expect(loadPrompts(storage)).toEqual([]);
  });
});

describe("the theme", () => {
  it("is kept, told, and the system's if it is none", () => {
    const storage = storageOf();
    /** @type {string[]} */
    const told = [];
    vi.stubGlobal("dispatchEvent", (/** @type {CustomEvent} */ { detail }) => told.push(detail));
    expect(keptTheme(storage)).toBe("system");
    expect(chooseTheme(storage, "dark")).toBe("dark");
    expect(keptTheme(storage)).toBe("dark");
    expect(chooseTheme(storage, "pink")).toBe("system");
    expect(told).toEqual(["dark", "system"]);
    expect(keptTheme(null)).toBe("system");
  });
});
