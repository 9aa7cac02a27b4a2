import { useCallback, useState } from "react";

const KEY = "chatproxy.choice";

/** @typedef {{model: string, thinking: boolean}} Choice */

/**
 * The choice of model and thinking mode, kept in the browser.
 * @param {Storage | null} storage
 * @param {import("../lib/page-settings.js").PageSettings} settings
 * @returns {[Choice, (change: Partial<Choice>) => void]}
 */
export function useChoice(storage, { model, models, runs }) {
  const [choice, setChoice] = useState(() => {
    const kept = read(storage);
    return {
      model: [...models, ...runs].includes(kept.model) ? kept.model : model,
      thinking: typeof kept.thinking === "boolean" ? kept.thinking : true,
    };
  });
  const choose = useCallback(
    (/** @type {Partial<Choice>} */ change) => {
      const next = { ...choice, ...change };
      setChoice(next);
      keep(storage, next);
    },
    [choice, storage],
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
