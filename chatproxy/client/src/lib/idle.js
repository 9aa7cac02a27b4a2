/**
 * Calls `run` when the browser has nothing better to do, and in any case soon.
 * @param {() => void} run
 * @returns {() => void} takes it back
 */
export function whenIdle(run) {
  if ("requestIdleCallback" in globalThis) {
    const asked = requestIdleCallback(run, { timeout: 200 });
    return () => cancelIdleCallback(asked);
  }
  const timer = setTimeout(run, 1); // Safari
  return () => clearTimeout(timer);
}
