/**
 * Texts that the user keeps to use again, in the browser's storage. Pure, but for that.
 *
 * @typedef {object} SavedPrompt
 * @property {string} id
 * @property {string} title
 * @property {string} text
 */

import { createSessionId } from "./llm-api.jsx";

const KEY = "chatproxy.prompts";
const TITLE_LENGTH = 60;

/**
 * @param {Storage | null} storage
 * @returns {SavedPrompt[]} in the order in which they were made
 */
export function loadPrompts(storage) {
  try {
    const kept = JSON.parse(storage?.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter(isPrompt) : [];
  } catch {
    return [];
  }
}

/**
 * @param {Storage | null} storage
 * @param {SavedPrompt[]} prompts
 * @returns {boolean} whether they are kept
 */
export function keepPrompts(storage, prompts) {
  try {
    storage?.setItem(KEY, JSON.stringify(prompts));
    return storage !== null;
  } catch {
    return false;
  }
}

/**
 * @param {SavedPrompt[]} prompts
 * @param {string | null} id that of the prompt to change; null: a new one
 * @param {{title: string, text: string}} written an empty title is the text's first line
 * @returns {SavedPrompt[]}
 */
export function withPrompt(prompts, id, { title, text }) {
  const line = text.trim().split("\n", 1)[0] ?? "";
  const prompt = { id: id ?? createSessionId(), title: title.trim() || line.slice(0, TITLE_LENGTH), text };
  return prompts.some((one) => one.id === id)
    ? prompts.map((one) => (one.id === id ? prompt : one))
    : [...prompts, prompt];
}

/** @param {any} prompt */
function isPrompt(prompt) {
  return ["id", "title", "text"].every((name) => typeof prompt?.[name] === "string");
}
