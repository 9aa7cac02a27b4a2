/** Why there is no answer, or only a part of one. */

import type { AnswerEnd } from "./answer.js";
import { asText } from "./json.js";

/**
 * `code` is the server's word, or `unreachable`, `connection_lost`, `not_a_stream`,
 * `http_<status>`, or `not_asked` (`useAnswer`: the question is no JSON). If an answer could not be read on, it is `not_found`: the server does not know it
 * (any more); `events_gone`: it does not hold what comes next; `nothing_left`: it has ended, and all
 * of it was read before; `answer_lost`: what made the answer is gone.
 */
export interface AnswerError {
  message: string;
  code: string;
  /** The HTTP status, if the server refused. */
  status?: number;
  /** Seconds, if the server said when another try makes sense. */
  retryAfter?: number;
}

export const UNREACHABLE: AnswerError = {
  code: "unreachable",
  message: "The server cannot be reached.",
};

export const CONNECTION_LOST: AnswerError = {
  code: "connection_lost",
  message: "The connection ended before the answer was complete.",
};

export const NOT_A_STREAM: AnswerError = {
  code: "not_a_stream",
  message: "The server did not send an event stream.",
};

export const EVENTS_GONE: AnswerError = {
  code: "events_gone",
  message: "The server no longer holds what comes next in this answer.",
};

/** What it means that there is nothing to read on, by status. */
export const GONE: Readonly<Record<number, AnswerError>> = {
  204: { code: "nothing_left", message: "The answer has ended, and nothing of it is left to read." },
  404: { code: "not_found", message: "The server does not know this answer, or no longer." },
  410: EVENTS_GONE,
};

export function failure(error: AnswerError, events = 0): AnswerEnd {
  return { outcome: "failed", error, events };
}

/** What a refusal says. Reads its body. */
export async function errorOf(response: Response): Promise<AnswerError> {
  const { status } = response;
  const body = await response.json().catch(() => null);
  const retryAfter = Number(response.headers.get("Retry-After") ?? NaN);
  return {
    code: asText(body?.code) || `http_${status}`,
    message: asText(body?.error) || `The server answered with status ${status}.`,
    status,
    ...(Number.isFinite(retryAfter) && { retryAfter }),
  };
}
