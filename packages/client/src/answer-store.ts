/**
 * One answer as something to watch: what `useAnswer` shows. No React.
 *
 * - One answer at a time: while one runs, another question is not asked.
 * - At a Stop the text freezes at once; the reading goes on, unheard, until the Stop is answered.
 * - Whoever watches may go and come back at once, as React's StrictMode does: only who stays away has
 *   left.
 */

import type { Account } from "./account.js";
import type { AnswerEnd, AnswerOutcome, AnswerStatus } from "./answer.js";
import { createView } from "./attention.js";
import { failure, type AnswerError } from "./errors.js";
import { createListeners } from "./listeners.js";
import type { ConnectionOptions } from "./locks.js";
import { resumeFor, resumeStream, type ReadingOptions } from "./resume.js";
import { createSessionId } from "./session-id.js";
import { stopChat, type StopState } from "./stop.js";
import { streamChat } from "./stream-chat.js";

export interface AnswerState {
  /** The id of the answer; null before the first question. */
  sessionId: string | null;
  /**
   * `idle` before the first question; then `running`, until it is one of the others. `frozen`: Stop was
   * pressed here. The text stays as it is, and `stopState` says what is known; once the server has
   * confirmed the Stop, it is `stopped`.
   */
  state: "idle" | "running" | "frozen" | Exclude<AnswerOutcome, "aborted">;
  /** What it is doing while it runs. */
  status: AnswerStatus;
  text: string;
  reasoning: string;
  /** What it came to, at its end; after a Stop of one's own see the receipt in `stopState`. */
  account?: Account | undefined;
  /** Why it failed or was cut off. */
  error?: AnswerError | undefined;
  /** How it ended; none after a Stop of one's own. */
  end?: AnswerEnd | undefined;
  /** What is known about the Stop, if it was pressed here. */
  stopState?: StopState | undefined;
}

export interface AnswerOptions extends ConnectionOptions {
  /** Seconds for which the server lets an answer go on without a reader; 0 if left out. */
  reconnectSeconds?: number | undefined;
  /** A name under which a running answer is found again after a reload of the tab. */
  resumeKey?: string | undefined;
  /** Whether to stop the answer when nobody watches it any more. */
  stopOnUnmount?: boolean | undefined;
}

export type AnswerStore = ReturnType<typeof createAnswerStore>;

export const IDLE: AnswerState = {
  sessionId: null,
  state: "idle",
  status: "waiting",
  text: "",
  reasoning: "",
};

export function createAnswerStore(options: AnswerOptions) {
  const listeners = createListeners();
  const view = createView();
  let now = IDLE;
  let closing: AbortController | null = null;
  let leaving: ReturnType<typeof setTimeout> | undefined;

  const kept = () => keptId(options.resumeKey);

  function change(more: Partial<AnswerState>) {
    now = { ...now, ...more };
    listeners.tell();
  }

  /** Reads an answer to its end, whichever way it is to be had. */
  async function follow(sessionId: string, read: (how: ReadingOptions) => Promise<AnswerEnd>) {
    const mine = (closing = new AbortController());
    kept().set(sessionId);
    now = { ...IDLE, sessionId, state: "running" };
    change({});
    const ifLive = (more: () => Partial<AnswerState>) => {
      if (closing === mine && now.state === "running") {
        change(more());
      }
    };
    const end = await read({
      ...options,
      sessionId,
      view,
      signal: mine.signal,
      resume: resumeFor(options.reconnectSeconds ?? 0),
      onText: (text) => ifLive(() => ({ text: now.text + text })),
      onReasoning: (text) => ifLive(() => ({ reasoning: now.reasoning + text })),
      onStatus: (status) => ifLive(() => ({ status })),
      onAccount: (account) => ifLive(() => ({ account })),
    }).catch((error) => failure({ code: "not_asked", message: String(error) }));
    const { outcome } = end;
    if (outcome !== "aborted") {
      kept().forget(sessionId);
      ifLive(() => ({ state: outcome, end, error: end.error }));
    }
  }

  /** Reads no more; the answer may go on. */
  function leave() {
    closing?.abort();
    closing = null;
  }

  function ask(payload: Record<string, unknown>): string {
    if (now.sessionId !== null && now.state === "running") {
      return now.sessionId;
    }
    const sessionId = createSessionId();
    void follow(sessionId, (how) => streamChat({ ...how, payload }));
    return sessionId;
  }

  function stop() {
    const { sessionId, state } = now;
    if (sessionId === null || state !== "running") {
      return;
    }
    change({ state: "frozen", stopState: { state: "unconfirmed" } });
    kept().forget(sessionId);
    const onState = (known: StopState) => {
      if (now.sessionId === sessionId) {
        change({ stopState: known, state: known.state === "stopped" ? "stopped" : "frozen" });
      }
    };
    void stopChat(sessionId, { ...options, closing: closing ?? undefined, onState });
  }

  return {
    ask,
    stop,
    view,
    state: () => now,
    subscribe: listeners.add,
    /** An answer that gets a name while it runs is found again under that. */
    configure(next: AnswerOptions) {
      const named = next.resumeKey !== options.resumeKey;
      options = next;
      if (named && now.sessionId !== null && now.state === "running") {
        kept().set(now.sessionId);
      }
    },
    /** Somebody watches from now on. @returns what says that they have gone */
    watch() {
      clearTimeout(leaving);
      const left = now.state === "running" && closing === null;
      const sessionId = now.state === "idle" ? kept().get() : now.sessionId;
      if (sessionId !== null && (left || now.state === "idle")) {
        void follow(sessionId, resumeStream);
      }
      return () => {
        leaving = setTimeout(() => (options.stopOnUnmount ? stop() : leave()));
      };
    },
  };
}

/** The id of a running answer, kept for as long as the tab; nowhere if the browser forbids it. */
function keptId(name: string | undefined) {
  const key = `chatproxy.answer.${name}`;
  const storage = name === undefined ? null : tabStorage();
  return {
    get: () => storage?.getItem(key) ?? null,
    set(id: string) {
      try {
        storage?.setItem(key, id);
      } catch {
        // A full storage: the answer can't be found again after a reload.
      }
    },
    forget(id: string) {
      if (storage?.getItem(key) === id) {
        storage.removeItem(key);
      }
    },
  };
}

function tabStorage(): Storage | null {
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    return null;
  }
}
