/**
 * Reading an answer on: after a reload, beside another reader, when the connection broke, or when
 * somebody looks again. Reading costs nothing, so it is tried again.
 */

import type { AnswerEnd, AnswerStatus } from "./answer.js";
import { createAttention, type Attention, type View } from "./attention.js";
import { drop, eventStream, read } from "./connection.js";
import { CONNECTION_LOST, errorOf, GONE } from "./errors.js";
import { listen, type Listening, type ListenOptions } from "./event-stream.js";
import type { ConnectionOptions } from "./locks.js";
import { addressOf, fetchOf, isTemporary } from "./server.js";
import { sleep, within } from "./sleep.js";

/** Milliseconds before each try after a lost connection; the last one goes on for ever. */
const PAUSES_MS = [300, 1000, 2000, 3000];
/** Milliseconds that one such try may wait for the server's reply. */
export const TRY_MS = 20_000;
/** Milliseconds that a connection has to last for the tries to be counted anew after it. */
export const HELD_MS = 3000;

/** Whether and how to read on after the connection was lost. */
export interface Resume {
  /** For how long to try. */
  seconds: number;
  /**
   * Milliseconds without a sign of life after which a connection counts as lost; never if left out.
   * The server gives one every 15 s, if not told otherwise. Only for servers that let an answer go on
   * without a reader: others stop it.
   */
  silenceMs?: number | undefined;
  /**
   * Seconds for which the server lets an answer go on without a reader (`CHATPROXY_ON_DISCONNECT`;
   * 0: not at all). If given, an answer that nobody looks at gives its connection back when it may;
   * see `createView`.
   */
  reconnectSeconds?: number | undefined;
}

/** Seconds for which an answer that has ended can still be read, if the server is not told otherwise. */
const RETAIN_SECONDS = 60;
/** Seconds of silence after which the server gives a sign of life, if it is not told otherwise. */
const HEARTBEAT_SECONDS = 15;
/** Seconds to try to learn how an answer ended that the server stops without a reader. */
const STOPPED_SECONDS = 20;
/** Signs of life that have to be missing for a connection to count as lost. */
const MISSED_HEARTBEATS = 3;

/**
 * How to read on, for a server that lets an answer go on for so many seconds without a reader
 * (`CHATPROXY_ON_DISCONNECT`; 0: not at all), keeps it for `retainSeconds` after its end
 * (`CHATPROXY_RETAIN`) and gives a sign of life every `heartbeatSeconds` (`CHATPROXY_HEARTBEAT`).
 */
export function resumeFor(
  reconnectSeconds: number,
  { retainSeconds = RETAIN_SECONDS, heartbeatSeconds = HEARTBEAT_SECONDS } = {},
): Resume {
  return reconnectSeconds > 0
    ? {
        reconnectSeconds,
        seconds: reconnectSeconds + retainSeconds,
        silenceMs: MISSED_HEARTBEATS * heartbeatSeconds * 1000,
      }
    : { reconnectSeconds, seconds: STOPPED_SECONDS };
}

export interface ReadingOptions extends ConnectionOptions, ListenOptions {
  /** From `createSessionId`. */
  sessionId: string;
  /**
   * Ends the reading; after that no listener is called any more. A server that stops answers without
   * a reader stops this one, but gives no receipt: see `stopChat`.
   */
  signal?: AbortSignal | undefined;
  /** Milliseconds without an event, in mid-answer, after which it counts as stalled. */
  stallMs?: number | undefined;
  /** If left out, a lost connection is the end. */
  resume?: Resume | undefined;
  /** What the answer is shown in; looked at while the page is visible if left out. */
  view?: View | undefined;
}

/** The header that asks for the account of an answer at its end, if somebody listens for it. */
export function wantsAccount({ onAccount }: ReadingOptions): Record<string, string> {
  return onAccount ? { "X-Account": "1" } : {};
}

export interface ResumeOptions extends ReadingOptions {
  /** The number of the last event that is not wanted again; all of it is wanted if left out. */
  after?: number | undefined;
  /** What the answer was doing there. */
  status?: AnswerStatus | undefined;
}

/** One answer that is read: all that its connections share. */
export interface Reader {
  answer: Listening;
  attention: Attention;
  options: ReadingOptions;
}

/** What one connection came to. Without an end, another try makes sense. */
interface Reply {
  end: AnswerEnd | null;
  /** Whether the tries are to be counted anew. */
  held?: boolean;
  /** Whether the connection was given back because nobody looks. */
  left?: boolean;
}

/**
 * Read an answer that runs, or has ended a short while ago. What came after event `after` comes
 * again, then the rest. The listeners, and how it ends, are those of `streamChat`; it is `cut_off`
 * if there is nothing to read on.
 */
export async function resumeStream(options: ResumeOptions): Promise<AnswerEnd> {
  const reader = createReader(options, listen(options, options.status ?? "waiting"));
  try {
    return await readOn(reader, { seconds: options.resume?.seconds ?? 0, first: "when looked at" });
  } finally {
    reader.attention.close();
  }
}

export function createReader(options: ReadingOptions, answer: Listening): Reader {
  const { sessionId, view, resume } = options;
  const { reconnectSeconds } = resume ?? {};
  return { answer, options, attention: createAttention({ sessionId, view, reconnectSeconds }) };
}

/**
 * Read on with new connections, until the answer has ended or there is no hope for it.
 * @param how.seconds - for how long to try after each break
 * @param how.first - whether to wait for somebody to look, or because there was a break
 */
export async function readOn(
  reader: Reader,
  how: { seconds: number; first: "when looked at" | "after a pause" },
): Promise<AnswerEnd> {
  const { answer, attention } = reader;
  const { signal } = reader.options;
  const patience = createPatience(how.seconds);
  for (let next = how.first; ; ) {
    if (next === "when looked at") {
      await attention.due(signal);
      patience.renew();
    } else {
      answer.status.disconnected();
      await sleep(patience.pause(), signal);
    }
    const reply = await readAgain(reader);
    if (signal?.aborted) {
      return answer.aborted();
    }
    if (reply.end) {
      return reply.end;
    }
    if (reply.held) {
      patience.renew();
    }
    next = reply.left ? "when looked at" : "after a pause";
    if ((!reply.left && patience.over()) || !answer.numbered()) {
      return answer.cutOff(CONNECTION_LOST);
    }
  }
}

/** When to try again, and for how long. */
export function createPatience(seconds: number) {
  let tries = 0;
  let until = performance.now() + seconds * 1000;
  return {
    /** Milliseconds before the next try. */
    pause: () => PAUSES_MS[tries++] ?? PAUSES_MS.at(-1)!,
    renew() {
      tries = 0;
      until = performance.now() + seconds * 1000;
    },
    over: () => performance.now() >= until,
  };
}

async function readAgain({ answer, attention, options }: Reader): Promise<Reply> {
  const { signal, resume } = options;
  const connection = await attention.take(options, signal, () => answer.status.queued());
  if (connection === null) {
    return { end: null, left: true };
  }
  const response = await askAgain(options, answer.last());
  const body = response?.status === 200 ? await eventStream(response) : null;
  if (body === null) {
    connection.free();
    const end = response && response.status !== 200 ? await refused(response, answer) : null;
    return { end, held: connection.waited };
  }
  const last = answer.last();
  const begun = performance.now();
  const { silenceMs } = resume ?? {};
  const { end, left } = await read(body, answer, { signal, silenceMs, attention, connection });
  return { end, left, held: answer.last() > last || performance.now() - begun > HELD_MS };
}

/** @returns null if there is no reply */
async function askAgain(options: ReadingOptions, after: number): Promise<Response | null> {
  const { sessionId, signal } = options;
  // If the browser knows of no network, its word is enough.
  if (signal?.aborted || globalThis.navigator?.onLine === false) {
    return null;
  }
  const headers = {
    ...options.headers,
    Accept: "text/event-stream",
    ...(after > 0 && { "Last-Event-ID": String(after) }),
    ...wantsAccount(options),
  };
  try {
    const address = addressOf(options, `/stream/${encodeURIComponent(sessionId)}`);
    return await within(TRY_MS, signal, (signal) =>
      fetchOf(options)(address, { headers, cache: "no-store", signal }),
    );
  } catch {
    return null;
  }
}

/** @returns null if another try makes sense */
async function refused(response: Response, answer: Listening): Promise<AnswerEnd | null> {
  const { ok, status } = response;
  const gone = GONE[status];
  if (gone) {
    await drop(response);
    return answer.cutOff(ok ? gone : { ...gone, status });
  }
  if (isTemporary(status)) {
    await drop(response);
    return null;
  }
  return answer.cutOff(await errorOf(response));
}
