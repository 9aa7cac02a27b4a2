/**
 * Reading an answer in the AI SDK's protocol: its parts, over one connection after the other.
 *
 * - The server says the same parts of an answer to every client, from the start. So what was had
 *   before is passed over, and the rest is as if there had been one connection.
 * - An answer without `finish`, `abort` or `error` is never passed off as a complete one: `useChat` would
 *   take a mere end for that. It ends with an error that `useChat` takes for a lost network.
 */

import type { UIMessageChunk } from "ai";

import type { Attention } from "./attention.js";
import type { Connection } from "./locks.js";
import { createPatience, HELD_MS, type Resume } from "./resume.js";
import { isTemporary } from "./server.js";
import { sleep } from "./sleep.js";

const ENDS = new Set(["finish", "abort", "error"]);

export type Parts = ReadableStream<UIMessageChunk>;

export interface PartsSource {
  attention: Attention;
  resume: Resume;
  /** Ends the reading. */
  signal: AbortSignal;
  /** Takes a connection; null after the signal, and if somebody has begun or ceased to look. */
  take(): Promise<Connection | null>;
  /** The parts from the start, on a new connection; null if the answer is not to be had any more. */
  again(): Promise<Parts | null>;
}

/** What came of opening a connection. Without a connection, another try makes sense. */
interface Opening {
  opened?: Opened;
  /** Why there is none. */
  error?: unknown;
  /** Whether the tries are to be counted anew. */
  held?: boolean;
  /** Whether it is to be opened when it is due, and not because there was a break. */
  left?: boolean;
}

interface Opened {
  parts: Parts;
  connection: Connection;
}

/** The parts that come on one connection, and on those that follow it. */
export async function* readParts(
  source: PartsSource,
  parts: Parts,
  connection: Connection,
): AsyncGenerator<UIMessageChunk, void> {
  const { attention, resume, signal } = source;
  const had = { count: 0, ended: false };
  const patience = createPatience(resume.seconds);
  let opening: Opening = { opened: { parts, connection } };
  while (!signal.aborted) {
    const { opened, error = cut() } = opening;
    let { held, left } = opening;
    if (opened) {
      const before = had.count;
      const begun = performance.now();
      left = yield* readConnection(opened, had, attention);
      if (had.ended || signal.aborted) {
        return;
      }
      held = had.count > before || performance.now() - begun > HELD_MS;
    }
    if (held) {
      patience.renew();
    }
    if (left) {
      await attention.due(signal);
      patience.renew();
    } else if (patience.over()) {
      throw error;
    } else {
      await sleep(patience.pause(), signal);
    }
    opening = await openAgain(source);
  }
}

/** @returns whether the connection was given back because nobody looks */
async function* readConnection(
  { parts, connection }: Opened,
  had: { count: number; ended: boolean },
  attention: Attention,
): AsyncGenerator<UIMessageChunk, boolean> {
  const reader = parts.getReader();
  const leave = () => void reader.cancel().catch(() => undefined);
  const stay = attention.stay(leave, connection.brief);
  let count = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return stay.left();
      }
      stay.came();
      count += 1;
      if (count > had.count) {
        had.count = count;
        had.ended ||= ENDS.has(value.type);
        yield value;
      }
    }
  } catch (error) {
    if (!isOfNetwork(error)) {
      throw error;
    }
    return false;
  } finally {
    stay.close();
    await reader.cancel().catch(() => undefined);
    connection.free();
  }
}

async function openAgain({ take, again }: PartsSource): Promise<Opening> {
  const connection = await take();
  if (connection === null) {
    return { left: true };
  }
  const { free, waited } = connection;
  try {
    const parts = await again();
    if (parts) {
      return { opened: { parts, connection } };
    }
  } catch (error) {
    free();
    if (isOfNetwork(error)) {
      return { error, held: waited };
    }
    throw error;
  }
  free();
  throw cut();
}

function cut(): TypeError {
  return new TypeError("network error: the answer could not be read to its end");
}

/** Whether another try makes sense: the network failed, or the server can't answer for the moment. */
function isOfNetwork(error: unknown): boolean {
  const { name, statusCode = 0 } = error as { name?: string; statusCode?: number };
  return error instanceof TypeError || name === "AbortError" || isTemporary(statusCode);
}
