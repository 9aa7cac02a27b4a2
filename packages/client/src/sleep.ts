/**
 * Gives up what takes longer than so many milliseconds: its signal is aborted then, as it is by the
 * other signal.
 */
export async function within<T>(
  ms: number,
  signal: AbortSignal | null | undefined,
  act: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(new TypeError("network error: no reply")), ms);
  try {
    return await act(signal ? AbortSignal.any([signal, giveUp.signal]) : giveUp.signal);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Wait, but no longer than until another try makes sense: the network is back, the page is shown
 * again, or it is about to go. The signal ends it too.
 * @param ms - milliseconds
 */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  const over = new AbortController();
  const { document } = globalThis;
  await new Promise<void>((resolve) => {
    const wake = () => resolve();
    const timer = setTimeout(wake, ms);
    over.signal.addEventListener("abort", () => clearTimeout(timer));
    signal?.addEventListener("abort", wake, { signal: over.signal });
    globalThis.addEventListener?.("online", wake, { signal: over.signal });
    globalThis.addEventListener?.("pagehide", wake, { signal: over.signal });
    document?.addEventListener(
      "visibilitychange",
      () => document.visibilityState === "visible" && wake(),
      { signal: over.signal },
    );
    if (signal?.aborted) {
      wake();
    }
  });
  over.abort();
}

/** Calls `act` when the signal is aborted, or at once if that was before. */
export function whenAborted(signal: AbortSignal | undefined, act: () => unknown): void {
  if (signal?.aborted) {
    act();
  } else {
    signal?.addEventListener("abort", act);
  }
}
