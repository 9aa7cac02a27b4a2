/** `@chatproxy/client/react`: an answer in a component. */

import { useEffect, useInsertionEffect, useState, useSyncExternalStore } from "react";

import { createAnswerStore, IDLE, type AnswerOptions, type AnswerState } from "./answer-store.js";

export type { AnswerState } from "./answer-store.js";

export interface UseAnswerOptions extends AnswerOptions {
  /** Whether the answer is in sight; true if left out. If not, it may give its connection back. */
  shown?: boolean | undefined;
}

export interface UseAnswer extends AnswerState {
  /**
   * Ask for an answer, in the form of DeepSeek's chat completions. While one runs, nothing is asked.
   * @returns the id of the answer that runs
   */
  ask: (payload: Record<string, unknown>) => string;
  /** Press Stop. The text stays as it is; `stopState` tells what is known about the Stop. */
  stop: () => void;
}

/**
 * One answer at a time. Unmounted, the component reads no more; the answer is stopped only with
 * `stopOnUnmount`. With a `resumeKey` it is read again when the component is back, also after a reload;
 * with another `resumeKey` it is left, as if unmounted, for the answer of that name.
 * Under StrictMode, too, a question that an effect asks is asked once.
 */
export function useAnswer(options: UseAnswerOptions = {}): UseAnswer {
  const { shown = true, resumeKey } = options;
  const [{ name, store }, setCurrent] = useState(() => createNamed(options));
  if (name !== resumeKey) {
    // What has had no name so far goes on.
    const goesOn = name === undefined && store.state().state !== "idle";
    setCurrent(goesOn ? { name: resumeKey, store } : createNamed(options));
  }
  // Before the effects of the children, which may ask already.
  useInsertionEffect(() => store.configure(options));
  useEffect(() => (shown ? store.view.show() : store.view.hide()), [store, shown]);
  useEffect(() => store.watch(), [store]);
  const state = useSyncExternalStore(store.subscribe, store.state, () => IDLE);
  return { ...state, ask: store.ask, stop: store.stop };
}

function createNamed(options: AnswerOptions) {
  return { name: options.resumeKey, store: createAnswerStore(options) };
}
