/** One connection that an answer is read from: what comes, silence, and letting go of it. */

import type { AnswerEnd } from "./answer.js";
import type { Attention } from "./attention.js";
import type { Listening } from "./event-stream.js";
import type { Connection } from "./locks.js";

/** Milliseconds for which the end of the connection is awaited after a complete answer. */
const LINGER_MS = 1000;

type Reader = ReadableStreamDefaultReader<Uint8Array>;

export interface ReadOptions {
  signal?: AbortSignal | undefined;
  /** Milliseconds without a sign of life after which the connection counts as lost. */
  silenceMs?: number | undefined;
  attention: Attention;
  /** What it is read on; freed in the end. */
  connection: Connection;
}

export interface Reading {
  /** null: it broke in mid-answer, or was given back. */
  end: AnswerEnd | null;
  /** Whether it was given back because nobody looks. */
  left: boolean;
}

/** The body of a reply that is an event stream; null, and the reply is let go of, if it is none. */
export async function eventStream(response: Response): Promise<ReadableStream<Uint8Array> | null> {
  const type = response.headers.get("Content-Type") ?? "";
  if (response.body && type.startsWith("text/event-stream")) {
    return response.body;
  }
  await drop(response);
  return null;
}

/** Let go of a reply without reading it. */
export async function drop(response: Response): Promise<void> {
  await response.body?.cancel().catch(() => undefined);
}

/** Read one connection. */
export async function read(
  body: ReadableStream<Uint8Array>,
  answer: Listening,
  { signal, silenceMs, attention, connection }: ReadOptions,
): Promise<Reading> {
  const reader = body.getReader();
  const cancel = () => reader.cancel().catch(() => undefined);
  const decoder = new TextDecoder();
  const silence = watchSilence(silenceMs, cancel);
  const stay = attention.stay(cancel, connection.brief);
  const over = (end: AnswerEnd | null, left = false) => ({ end, left });
  try {
    answer.connected();
    while (!answer.end()) {
      silence.broken();
      const piece = await reader.read().catch(() => null);
      if (signal?.aborted) {
        return over(answer.aborted());
      }
      if (piece === null || piece.done) {
        const end = answer.stopped();
        return over(end, end === null && stay.left());
      }
      answer.feed(decoder.decode(piece.value, { stream: true }));
      stay.came();
      if (signal?.aborted) {
        return over(answer.aborted());
      }
    }
    return over(answer.end());
  } finally {
    silence.close();
    stay.close();
    answer.status.close();
    void release(reader, answer.complete()).then(connection.free);
  }
}

/** A connection can be dead without anybody having said so. Ends it if nothing comes for long. */
function watchSilence(ms: number | undefined, end: () => void) {
  let timer: ReturnType<typeof setTimeout> | undefined;
  return {
    broken() {
      clearTimeout(timer);
      timer = ms === undefined ? timer : setTimeout(end, ms);
    },
    close: () => clearTimeout(timer),
  };
}

/** The same bytes; they end if nothing comes for so many milliseconds to whoever waits for them. */
export function untilSilence(
  body: ReadableStream<Uint8Array>,
  ms: number,
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  const cancel = () => reader.cancel().catch(() => undefined);
  const silence = watchSilence(ms, cancel);
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        silence.broken();
        const { done, value } = await reader.read().finally(silence.close);
        if (done) {
          controller.close();
        } else {
          controller.enqueue(value);
        }
      },
      cancel,
    },
    { highWaterMark: 0 },
  );
}

/**
 * Let go of the connection. After a complete answer its end follows at once, and reading it lets
 * the browser use the connection again.
 */
async function release(reader: Reader, complete: boolean): Promise<void> {
  const cancel = () => reader.cancel().catch(() => undefined);
  if (!complete) {
    await cancel();
    return;
  }
  const timer = setTimeout(cancel, LINGER_MS);
  const { done } = await reader.read().catch(() => ({ done: false }));
  clearTimeout(timer);
  if (!done) {
    await cancel();
  }
}
