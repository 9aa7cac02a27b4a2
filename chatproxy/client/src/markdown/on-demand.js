/**
 * A part of the page that is loaded when it is first needed, and kept: a library that most answers
 * don't need. Until it is there, and if it can't be had, the page does without it.
 */

import { useSyncExternalStore } from "react";

/**
 * @template T
 * @typedef {object} OnDemand
 * @property {(listener: () => void) => () => void} subscribe loads it too
 * @property {() => T | null} get null until it is there
 */

/**
 * @template T
 * @param {() => Promise<T>} load
 * @returns {OnDemand<T>}
 */
export function onDemand(load) {
  /** @type {T | null} */
  let part = null;
  let loading = false;
  /** @type {Set<() => void>} */
  const listeners = new Set();

  async function begin() {
    loading = true;
    try {
      part = await load();
    } catch {
      // Whoever needs it next tries again.
      loading = false;
      return;
    }
    listeners.forEach((listener) => listener());
  }

  return {
    subscribe(listener) {
      listeners.add(listener);
      if (!loading) {
        void begin();
      }
      return () => listeners.delete(listener);
    },
    get: () => part,
  };
}

/**
 * @template T
 * @param {OnDemand<T>} part
 * @returns {T | null} null until it is there
 */
export function useOnDemand(part) {
  return useSyncExternalStore(part.subscribe, part.get, part.get);
}
