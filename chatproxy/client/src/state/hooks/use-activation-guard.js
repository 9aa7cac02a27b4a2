import { useCallback, useLayoutEffect, useRef } from "react";

const GUARD_MS = 350;

/**
 * Tells the clicks that are meant from those that only met a button which has just changed.
 *
 * The second half of a double click on Send would stop what was just sent; one on Stop would send
 * what stands in the box. A quick Stop by a click of its own is meant, however quick; so are keys.
 * @param {boolean} running
 * @returns {(event: {detail: number, timeStamp: number}) => boolean}
 */
export function useActivationGuard(running) {
  const change = useRef({ running, at: -Infinity });

  useLayoutEffect(() => {
    if (change.current.running !== running) {
      change.current = { running, at: performance.now() };
    }
  }, [running]);

  return useCallback((event) => {
    const justChanged = event.timeStamp - change.current.at < GUARD_MS;
    const harmlessFrom = change.current.running ? 2 : 1;
    return !justChanged || event.detail < harmlessFrom;
  }, []);
}
