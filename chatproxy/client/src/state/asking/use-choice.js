import { useCallback, useMemo, useState } from "react";

import { currentModel } from "../chats/model.js";

const KEY = "chatproxy.choice";

/** @typedef {{model: string, thinking: boolean}} Choice */

/**
 * The model of the chat in view, and the thinking mode. What is chosen for a chat is what further chats
 * begin with; that is kept in the browser.
 * @param {Pick<ReturnType<typeof import("./use-chat.js").useChat>, "state" | "dispatch">} chat
 * @param {Storage | null} storage
 * @param {import("../../lib/page-settings.js").PageSettings} settings
 * @returns {[Choice, (change: Partial<Choice>) => void]}
 */
export function useChoice({ state, dispatch }, storage, settings) {
  const offered = useMemo(() => [...settings.models, ...settings.runs], [settings]);
  const [usual, setUsual] = useState(() => {
    const kept = read(storage);
    return {
      model: offered.includes(kept.model) ? kept.model : settings.model,
      thinking: typeof kept.thinking === "boolean" ? kept.thinking : true,
    };
  });
  const model = currentModel(state, usual.model, offered);
  const choice = useMemo(() => ({ ...usual, model }), [usual, model]);
  const choose = useCallback(
    (/** @type {Partial<Choice>} */ change) => {
      const next = { ...usual, ...change };
      setUsual(next);
      keep(storage, next);
      if (change.model !== undefined) {
        dispatch({ type: "modelChosen", model: change.model, now: Date.now() });
      }
    },
    [usual, storage, dispatch],
  );
  return [choice, choose];
}

/**
 * @param {Storage | null} storage
 * @returns {any}
 */
function read(storage) {
  try {
    return JSON.parse(storage?.getItem(KEY) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

/**
 * @param {Storage | null} storage
 * @param {Choice} choice
 */
function keep(storage, choice) {
  try {
    storage?.setItem(KEY, JSON.stringify(choice));
  } catch {
    // A full storage: the choice holds for as long as the page does.
  }
}
