/**
 * The language that the page speaks. What is drawn subscribes to it with `useLanguage`; what is said
 * once, as an announcement is, takes `currentLanguage()`.
 */

import { useSyncExternalStore } from "react";

import { en } from "./en.js";
import { createLanguage } from "./language.js";

const KEY = "chatproxy.language";
const ENGLISH = createLanguage("en", en);

/** By tag, each with its own name for itself. All but English are loaded when they are spoken. */
export const LANGUAGES = new Map([
  ["en", { name: "English", load: async () => en }],
  ["zh-CN", { name: "简体中文", load: async () => (await import("./zh-CN.js")).zhCN }],
]);

let current = ENGLISH;
/** The tag that was chosen; empty: as the browser prefers. */
let chosen = "";
/** @type {Set<() => void>} */
const listeners = new Set();

export function currentLanguage() {
  return current;
}

/** The language, for a component, which is drawn again when it changes. */
export function useLanguage() {
  return useSyncExternalStore(subscribe, currentLanguage, currentLanguage);
}

/** What was chosen: the tag of a language, or empty for what the browser prefers. */
export function useChosenLanguage() {
  return useSyncExternalStore(subscribe, chosenTag, chosenTag);
}

function chosenTag() {
  return chosen;
}

/** @param {() => void} listener */
function subscribe(listener) {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/**
 * Speak as was chosen before, or else as the browser prefers.
 * @param {Storage | null} storage
 * @returns {Promise<void>} as soon as the language is there
 */
export function startLanguage(storage) {
  return speak(storage?.getItem(KEY) ?? "");
}

/**
 * @param {Storage | null} storage where the choice is kept
 * @param {string} tag empty: as the browser prefers
 */
export async function chooseLanguage(storage, tag) {
  await speak(tag);
  try {
    storage?.setItem(KEY, chosen);
  } catch {
    // A full storage: the choice holds for as long as the page does.
  }
}

/**
 * A language that can't be loaded leaves the page with the one that it has.
 * @param {string} tag
 */
async function speak(tag) {
  const before = chosen;
  chosen = LANGUAGES.has(tag) ? tag : "";
  const mine = chosen;
  const next = chosen || preferredLanguage(navigator.languages);
  try {
    const sentences = await LANGUAGES.get(next)?.load();
    if (sentences && chosen === mine) {
      current = createLanguage(next, sentences);
    }
  } catch {
    chosen = before;
  }
  document.documentElement.lang = current.tag;
  listeners.forEach((listener) => listener());
}

/**
 * The first of the browser's languages that the page has; all of Chinese is read by whom one of it is
 * better than English.
 * @param {readonly string[]} preferred
 * @returns {string} a tag of `LANGUAGES`
 */
export function preferredLanguage(preferred) {
  const tags = [...LANGUAGES.keys()];
  const main = (/** @type {string} */ tag) => tag.toLowerCase().split("-", 1)[0];
  const found = preferred.map((wanted) => tags.find((tag) => main(tag) === main(wanted)));
  return found.find((tag) => tag !== undefined) ?? "en";
}
