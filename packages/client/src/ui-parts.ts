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
import { createPatience, type Resume } from "./resume.js";
import { sleep } from "./sleep.js";

const ENDS = new Set(["finish", "abort", "error"]);

export type Parts = ReadableStream<UIMessageChunk>;

export interface PartsSource {
  attention: Attention;
  resume: Resume;
  /** Ends the reading. */
  signal: AbortSignal;
  /** Takes one of the long connections; null after the signal. */
  take(): Promise<Connection | null>;
  /** The parts from the start, on a new connection; null if the answer is not to be had any more. */
  again(): Promise<Parts | null>;
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
  let next: Opened | null = { parts, connection };
  while (next !== null) {
    const before = had.count;
    const left: boolean = yield* readConnection(next, had, attention);
    if (had.ended || signal.aborted) {
      return;
    }
    if (left || had.count > before) {
      patience.renew();
    }
    await (left ? attention.due(signal) : sleep(patience.pause(), signal));
    next = await openAgain(source, patience);
  }
}

interface Opened {
  parts: Parts;
  connection: Connection;
}

/** @returns whether the connection was given back because nobody looks */
async function* readConnection(
  { parts, connection }: Opened,
  had: { count: number; ended: boolean },
  attention: Attention,
): AsyncGenerator<UIMessageChunk, boolean> {
  const reader = parts.getReader();
  const stay = attention.stay(() => void reader.cancel().catch(() => undefined));
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

/** @returns null after the signal */
async function openAgain(
  source: PartsSource,
  patience: ReturnType<typeof createPatience>,
): Promise<Opened | null> {
  while (!source.signal.aborted) {
    const connection = await source.take();
    if (connection === null) {
      return null;
    }
    const parts = await source.again().catch((error) => {
      connection.free();
      if (!isOfNetwork(error) || patience.over()) {
        throw error;
      }
    });
    if (parts) {
      return { parts, connection };
    }
    if (parts === null) {
      connection.free();
      throw new TypeError("network error: the answer could not be read to its end");
    }
    await sleep(patience.pause(), source.signal);
  }
  return null;
}

/** Whether another try makes sense: the network failed, or the server can't answer for the moment. */
function isOfNetwork(error: unknown): boolean {
  const { statusCode = 0 } = error as { statusCode?: number };
  return error instanceof TypeError || (error as Error).name === "AbortError" || statusCode >= 500;
}
