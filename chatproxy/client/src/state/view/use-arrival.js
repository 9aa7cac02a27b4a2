import { use, useEffect, useRef } from "react";

import { ThreadContext } from "./use-thread.js";

/**
 * Brings a message into sight when it is what somebody has looked for, or another version of what
 * was in its place.
 * @param {string} messageId
 */
export function useArrival(messageId) {
  const element = useRef(/** @type {HTMLElement | null} */ (null));
  const { target } = use(ThreadContext);
  const arrived = target?.messageId === messageId ? target : null;

  useEffect(() => {
    if (arrived === null) {
      return undefined;
    }
    // After the thread has gone to its end, as it does when its last message is another one.
    const frame = requestAnimationFrame(() => element.current?.scrollIntoView({ block: "nearest" }));
    return () => cancelAnimationFrame(frame);
  }, [arrived]);

  return element;
}
