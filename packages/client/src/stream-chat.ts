/**
 * Asking for an answer. A question is never sent twice by itself: that would be a second bill.
 */

import type { AnswerEnd } from "./answer.js";
import { eventStream, read } from "./connection.js";
import {
  CONNECTION_LOST,
  errorOf,
  failure,
  NOT_A_STREAM,
  UNREACHABLE,
  type AnswerError,
} from "./errors.js";
import { listen, type Listening } from "./event-stream.js";
import { takeConnection } from "./locks.js";
import { createReader, readOn, wantsAccount, type Reader, type ReadingOptions } from "./resume.js";
import { addressOf, fetchOf } from "./server.js";

/** A question that fails within so many milliseconds has hardly got anywhere. */
const PROMPT_MS = 1000;
/** Seconds for which to look, all the same, whether the server has it. */
const UNSENT_SECONDS = 4;

export interface StreamOptions extends ReadingOptions {
  /** In the form of DeepSeek's chat completions. */
  payload: Record<string, unknown>;
  /** Whether `onRunEvent` is told of each call of a run, too. */
  calls?: boolean | undefined;
}

/**
 * Ask for an answer and read it to its end. Never throws for what a server or a network does: it
 * resolves to how the answer ended. An answer without `[DONE]` is never passed off as complete.
 */
export async function streamChat(options: StreamOptions): Promise<AnswerEnd> {
  const reader = createReader(options, listen(options));
  try {
    return await askAndRead(reader, options);
  } finally {
    reader.attention.close();
  }
}

async function askAndRead(reader: Reader, options: StreamOptions): Promise<AnswerEnd> {
  const { answer, attention } = reader;
  const { signal, resume, payload } = options;
  const question = JSON.stringify(payload);
  const connection = await takeConnection(options, signal, () => answer.status.queued());
  if (connection === null) {
    return answer.aborted();
  }
  const asked = performance.now();
  const response = await send(question, options, answer).catch((error) => {
    connection.free();
    throw error;
  });
  const body = response?.ok ? await eventStream(response) : null;
  if (body === null) {
    connection.free();
    return unanswered(reader, response, performance.now() - asked);
  }
  const { silenceMs } = resume ?? {};
  const { end, left } = await read(body, answer, { signal, silenceMs, attention, connection });
  if (end === null && resume && answer.numbered()) {
    const first = left ? "when looked at" : "after a pause";
    return readOn(reader, { seconds: resume.seconds, first });
  }
  return end ?? answer.cutOff(CONNECTION_LOST);
}

/** @returns null if there is no reply */
async function send(
  body: string,
  options: StreamOptions,
  { status }: Listening,
): Promise<Response | null> {
  const { sessionId, signal } = options;
  status.sent();
  try {
    return await fetchOf(options)(addressOf(options, "/stream"), {
      method: "POST",
      headers: {
        ...options.headers,
        Accept: "text/event-stream",
        "Content-Type": "application/json",
        "X-Session-Id": sessionId,
        ...(options.calls && { "X-Calls": "1" }),
        ...wantsAccount(options),
      },
      body,
      cache: "no-store",
      ...(signal && { signal }),
    });
  } catch {
    return null;
  }
}

/** @param waited - milliseconds */
async function unanswered(
  reader: Reader,
  response: Response | null,
  waited: number,
): Promise<AnswerEnd> {
  const { signal } = reader.options;
  if (signal?.aborted) {
    return reader.answer.aborted();
  }
  if (response === null) {
    return lookForIt(reader, waited < PROMPT_MS ? UNSENT_SECONDS : Infinity, UNREACHABLE);
  }
  if (response.ok) {
    return failure(NOT_A_STREAM);
  }
  const error = await errorOf(response);
  if (signal?.aborted) {
    return reader.answer.aborted();
  }
  if (error.code === "session_cancelled") {
    return { outcome: "stopped", reason: "user", events: 0 };
  }
  // A browser sends a request again by itself if its connection turns out to be dead. The id is new, so
  // what runs under it is this answer.
  return error.code === "session_active" ? lookForIt(reader, Infinity, error) : failure(error);
}

/**
 * The connection of the question broke before there was a reply: the answer may run all the same.
 * @param most - seconds for which to look, if `resume` has no fewer
 * @param otherwise - why it failed, if it is not there
 */
async function lookForIt(
  reader: Reader,
  most: number,
  otherwise: AnswerError,
): Promise<AnswerEnd> {
  const { answer } = reader;
  const { resume } = reader.options;
  if (!resume) {
    return failure(otherwise);
  }
  const seconds = Math.min(resume.seconds, most);
  const end = await readOn(reader, { seconds, first: "after a pause" });
  const unbegun = end.error?.code === "not_found" || end.error?.code === "connection_lost";
  return unbegun && !answer.heard() ? failure(otherwise) : end;
}
