/**
 * Whether an answer is looked at, and what that means for its connection.
 *
 * A browser gives one host six connections over HTTP/1.1, all tabs together. So an answer that
 * nobody looks at gives its connection back, if the server lets answers go on without a reader. It is
 * read again when somebody looks; and until then, in short *visits*, by one of the tabs that show it,
 * its *keeper*: without a reader the answer would be stopped after the reconnect seconds, or end and
 * be forgotten.
 *
 * If the server stops an answer as soon as nobody reads it (the reconnect seconds are 0), its keeper
 * never lets go of its connection, and other tabs need not visit. So it is with fewer reconnect seconds
 * than a browser needs for visits: the timers of a page out of sight go off once a second.
 */

import { createListeners } from "./listeners.js";
import { keep, takeConnection, type Connection, type ConnectionOptions } from "./locks.js";

/** Milliseconds without an event after which a visit has caught up. */
const QUIET_MS = 300;
/** Milliseconds that a visit takes at most. */
const VISIT_MS = 2000;
/** Milliseconds between two visits: a third of the reconnect seconds, but no more. */
const MOST_MS = 10_000;
/** The fewest reconnect seconds with which an answer can be kept by visits. */
const LEAST_SECONDS = 3;

/** What an answer is shown in. */
export interface View {
  readonly shown: boolean;
  show(): void;
  hide(): void;
  /** @returns what ends it */
  onChange(listener: () => void): () => void;
}

/** The part of a page that shows an answer, which `show()` and `hide()` say of. */
export function createView(shown = true): View {
  const listeners = createListeners();
  const change = (to: boolean) => {
    if (shown !== to) {
      shown = to;
      listeners.tell();
    }
  };
  return {
    get shown() {
      return shown;
    },
    show: () => change(true),
    hide: () => change(false),
    onChange: listeners.add,
  };
}

export interface AttentionOptions {
  sessionId: string;
  view?: View | undefined;
  /** Seconds for which the server lets the answer go on without a reader; never left if undefined. */
  reconnectSeconds?: number | undefined;
}

export type Attention = ReturnType<typeof createAttention>;

export function createAttention({ sessionId, view, reconnectSeconds }: AttentionOptions) {
  const over = new AbortController();
  const changes = new EventTarget();
  const changed = () => void changes.dispatchEvent(new Event("change"));
  let keeper = false;
  let readAt = -Infinity;

  const { document } = globalThis;
  document?.addEventListener("visibilitychange", changed, { signal: over.signal });
  const forgetView = view?.onChange(changed);
  if (reconnectSeconds !== undefined) {
    void keep(sessionId, over.signal, () => {
      keeper = true;
      changed();
    });
  }

  const looked = () => (view?.shown ?? true) && document?.visibilityState !== "hidden";
  /** Whether the answer need not be read now. */
  const mayLeave = () =>
    reconnectSeconds !== undefined && !looked() && !(keeper && reconnectSeconds < LEAST_SECONDS);
  const visitMs = Math.min(MOST_MS, (reconnectSeconds ?? 0) * (1000 / 3));

  return {
    /** Waits until it is to be read again. */
    async due(signal: AbortSignal | undefined): Promise<void> {
      while (mayLeave() && !signal?.aborted) {
        const pause = keeper ? readAt + visitMs - performance.now() : undefined;
        if (pause !== undefined && pause <= 0) {
          return;
        }
        await change(changes, pause, signal);
      }
    },

    /**
     * Takes a connection to read on. A visit waits neither for long readings nor visibly.
     * @returns null after the signal, and if somebody has begun or ceased to look: see `due` then
     */
    async take(
      options: ConnectionOptions,
      signal: AbortSignal | undefined,
      onWait: () => void,
    ): Promise<Connection | null> {
      const visit = mayLeave();
      const turned = new AbortController();
      const turn = () => mayLeave() !== visit && turned.abort();
      const either = signal ? AbortSignal.any([signal, turned.signal]) : turned.signal;
      changes.addEventListener("change", turn);
      const connection = await takeConnection(options, either, () => visit || onWait(), visit);
      changes.removeEventListener("change", turn);
      return connection;
    },

    /**
     * While a connection is read: calls `leave` when that is enough.
     * @param brief - whether the connection is the one for visits
     */
    stay(leave: () => void, brief: boolean) {
      let left = false;
      let quiet: ReturnType<typeof setTimeout> | undefined;
      let whole: ReturnType<typeof setTimeout> | undefined;
      const go = () => {
        left = true;
        leave();
      };
      const came = () => {
        clearTimeout(quiet);
        if (mayLeave()) {
          quiet = setTimeout(go, QUIET_MS);
          whole ??= setTimeout(go, VISIT_MS);
        } else if (brief) {
          go();
        } else {
          clearTimeout(whole);
          whole = undefined;
        }
      };
      changes.addEventListener("change", came);
      came();
      return {
        came,
        left: () => left,
        close() {
          clearTimeout(quiet);
          clearTimeout(whole);
          changes.removeEventListener("change", came);
          readAt = performance.now();
        },
      };
    },

    close() {
      over.abort();
      forgetView?.();
    },
  };
}

/** Waits for a change, or for so many milliseconds, or for the signal. */
async function change(
  changes: EventTarget,
  ms: number | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const over = new AbortController();
  await new Promise<void>((resolve) => {
    const wake = () => resolve();
    const timer = ms === undefined ? undefined : setTimeout(wake, ms);
    over.signal.addEventListener("abort", () => clearTimeout(timer));
    changes.addEventListener("change", wake, { signal: over.signal });
    signal?.addEventListener("abort", wake, { signal: over.signal });
  });
  over.abort();
}
