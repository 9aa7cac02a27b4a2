/**
 * Calls `flush` at most once per frame, however often it is asked to. If the page cannot keep
 * up, frames are left out until it can. In a hidden tab, which has no frames, a timer does it.
 */

const HIDDEN_MS = 250;
const SLOW_FRAME_MS = 34;
const LONGEST_PAUSE_MS = 250;

/** @param {() => void} flush */
export function createFlusher(flush) {
  let frame = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let pause = 0;
  let pausedUntil = 0;

  function run() {
    cancel();
    const begun = performance.now();
    if (begun < pausedUntil) {
      ask();
      return;
    }
    flush();
    requestAnimationFrame(() => {
      const took = performance.now() - begun;
      pause = took > SLOW_FRAME_MS ? Math.min(LONGEST_PAUSE_MS, 2 * took) : 0;
      pausedUntil = performance.now() + pause;
    });
  }

  function ask() {
    if (timer === undefined) {
      frame = requestAnimationFrame(run);
      timer = setTimeout(run, HIDDEN_MS);
    }
  }

  function cancel() {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    timer = undefined;
  }

  return { ask, cancel };
}
