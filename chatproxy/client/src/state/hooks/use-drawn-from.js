import { useEffect, useState } from "react";
import { flushSync } from "react-dom";

import { whenIdle } from "../../lib/idle.js";

/** Messages that are drawn at once: they fill any screen. */
const AT_ONCE = 8;
/** Messages that are drawn together after that, in the time of a frame. */
const MORE = 2;

/**
 * From which message on a conversation is drawn in full. One that is opened is drawn at its end, and
 * the rest, from there to the beginning, whenever there is time. A printer gets all of it.
 * @param {number} count of its messages
 */
export function useDrawnFrom(count) {
  const [from, setFrom] = useState(Math.max(0, count - AT_ONCE));

  useEffect(
    () => (from > 0 ? whenIdle(() => setFrom(Math.max(0, from - MORE))) : undefined),
    [from],
  );

  useEffect(() => {
    const drawAll = () => flushSync(() => setFrom(0));
    addEventListener("beforeprint", drawAll);
    return () => removeEventListener("beforeprint", drawAll);
  }, []);

  // It may have become shorter, by an edit.
  return Math.min(from, Math.max(0, count - AT_ONCE));
}
