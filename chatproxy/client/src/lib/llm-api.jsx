/**
 * The client of a chatproxy server: ask for an answer, read it as it comes, and stop it.
 *
 * There is no React in this file, and its one dependency is `eventsource-parser`, so that any other
 * front end can take it alone. Its rules:
 *
 * - The id of an answer is made before the answer is asked for, and is the same everywhere: in the
 *   request's header, in the address of the Stop, and in the server's log.
 * - Nothing is ever sent twice by itself: a repeated question is a second bill. Only a Stop, which
 *   costs nothing, is tried again.
 * - `streamChat` and `stopChat` never throw for what a server or a network does. They say how it
 *   ended.
 * - An answer without `[DONE]` is never passed off as a complete one.
 */

import { createParser } from "eventsource-parser";

const BASE_URL = "/api/chat";
/** Milliseconds without an event, in mid-answer, after which it counts as stalled. */
const STALL_MS = 10_000;
/** Milliseconds for which the end of the connection is awaited after a complete answer. */
const LINGER_MS = 1000;
/** Milliseconds between the tries of a Stop. */
const STOP_PAUSES_MS = [200, 600, 1500];
/** Milliseconds that one try of a Stop may take; the server answers within about 2 seconds. */
const STOP_TRY_MS = 5000;

/**
 * What an answer is doing. `waiting`: sent, and nothing has come. `queued`: DeepSeek keeps the
 * connection alive, but has not begun. `stalled`: it had begun, and has been silent for a while.
 * @typedef {"waiting" | "queued" | "thinking" | "answering" | "stalled"} AnswerStatus
 *
 * Why there is no answer, or only a part. `code` is the server's word, or `unreachable`,
 * `connection_lost`, `not_a_stream`, `http_<status>`.
 * @typedef {object} AnswerError
 * @property {string} message
 * @property {string} code
 * @property {number} [status] the HTTP status, where the server refused
 * @property {number} [retryAfter] seconds, where the server said when another try makes sense
 *
 * How an answer ended.
 * - `finished`: complete.
 * - `stopped`: the server says that it was stopped; `reason` is `user`, `disconnect`, `shutdown`,
 *   `deadline` or `idle`.
 * - `failed`: `error` says why.
 * - `cut_off`: the stream ended in mid-answer.
 * - `aborted`: by the `signal` that was passed in.
 * @typedef {object} AnswerEnd
 * @property {"finished" | "stopped" | "failed" | "cut_off" | "aborted"} outcome
 * @property {string} [reason]
 * @property {string} [finishReason] DeepSeek's: `stop`, `length`, `content_filter`, …
 * @property {Record<string, unknown>} [usage] DeepSeek's count of tokens
 * @property {AnswerError} [error]
 * @property {number} events how many of DeepSeek's events came
 *
 * @typedef {object} ServerOptions
 * @property {string} [baseUrl] where the server's routes begin; `/api/chat` if left out
 * @property {Record<string, string>} [headers] more headers, such as a bearer token
 * @property {typeof globalThis.fetch} [fetch] another `fetch`
 *
 * @typedef {object} StreamListeners
 * @property {(text: string) => void} [onText] the next piece of the answer
 * @property {(text: string) => void} [onReasoning] the next piece of the thinking
 * @property {(status: AnswerStatus) => void} [onStatus] whenever the status changes
 * @property {(chunk: any) => void} [onEvent] each chunk as DeepSeek sent it, parsed
 *
 * @typedef {object} StreamRequest
 * @property {string} sessionId from `createSessionId`
 * @property {Record<string, unknown>} payload in the form of DeepSeek's chat completions
 * @property {AbortSignal} [signal] ends the reading; after that no listener is called any more.
 *   The server notices and stops the answer, but gives no receipt: see `stopChat`.
 * @property {number} [stallMs]
 *
 * @typedef {ServerOptions & StreamListeners & StreamRequest} StreamOptions
 *
 * The server's word that the connection to DeepSeek is closed.
 * @typedef {object} Receipt
 * @property {string} sessionId
 * @property {"connecting" | "waiting" | "streaming"} phase where the answer was
 * @property {boolean} upstreamClosed false where the close could not be confirmed in time
 * @property {number} stopMs milliseconds from the arrival of the Stop to that close
 * @property {number} events how many of DeepSeek's events had come
 *
 * @typedef {{receipt: Receipt} | {notFound: true} | {failed: true, status?: number}} StopResult
 *
 * @typedef {object} StopTries
 * @property {number[]} [pauses] milliseconds before each further try
 */

/**
 * An id for one answer: `session_<milliseconds>_<random>`, with 128 bits from the browser's
 * cryptographic source. (`crypto.randomUUID` is missing where a page comes over plain HTTP.)
 * @returns {string}
 */
export function createSessionId() {
  const random = crypto.getRandomValues(new Uint32Array(4));
  const digits = Array.from(random, (word) => word.toString(36).padStart(7, "0"));
  return `session_${Date.now()}_${digits.join("")}`;
}

/**
 * Ask for an answer and read it to its end.
 * @param {StreamOptions} options
 * @returns {Promise<AnswerEnd>}
 */
export async function streamChat(options) {
  options.onStatus?.("waiting");
  const response = await ask(options);
  if (!(response instanceof Response)) {
    return response;
  }
  if (!response.ok) {
    return refusal(response, options.signal);
  }
  const type = response.headers.get("Content-Type") ?? "";
  if (!response.body || !type.startsWith("text/event-stream")) {
    await response.body?.cancel().catch(() => undefined);
    return failure({ code: "not_a_stream", message: "The server did not send an event stream." });
  }
  return read(response.body.getReader(), options);
}

/**
 * Stop an answer, wherever it is. Tried again after network errors and 5xx.
 *
 * Send this first and end the stream's own request afterwards: closing the stream stops the answer
 * too, but then there is nothing left that could give a receipt.
 * @param {string} sessionId
 * @param {ServerOptions & StopTries} [options]
 * @returns {Promise<StopResult>} `notFound`: there was nothing left to stop. That is no error.
 */
export async function stopChat(sessionId, options = {}) {
  const pauses = [...(options.pauses ?? STOP_PAUSES_MS)];
  for (;;) {
    const result = await tryStop(sessionId, options);
    if (result !== null) {
      return result;
    }
    const pause = pauses.shift();
    if (pause === undefined) {
      return { failed: true };
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/**
 * @param {StreamOptions} options
 * @returns {Promise<Response | AnswerEnd>}
 */
async function ask(options) {
  const { sessionId, payload, signal, baseUrl = BASE_URL, fetch = globalThis.fetch } = options;
  const body = JSON.stringify(payload);
  try {
    return await fetch(`${baseUrl}/stream`, {
      method: "POST",
      headers: {
        ...options.headers,
        Accept: "text/event-stream",
        "Content-Type": "application/json",
        "X-Session-Id": sessionId,
      },
      body,
      cache: "no-store",
      ...(signal && { signal }),
    });
  } catch {
    return signal?.aborted
      ? { outcome: "aborted", events: 0 }
      : failure({ code: "unreachable", message: "The server cannot be reached." });
  }
}

/**
 * @param {AnswerError} error
 * @returns {AnswerEnd}
 */
function failure(error, events = 0) {
  return { outcome: "failed", error, events };
}

/**
 * @param {Response} response
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<AnswerEnd>}
 */
async function refusal(response, signal) {
  const body = await response.json().catch(() => null);
  if (signal?.aborted) {
    return { outcome: "aborted", events: 0 };
  }
  const { status } = response;
  if (body?.code === "session_cancelled") {
    return { outcome: "stopped", reason: "user", events: 0 };
  }
  const retryAfter = Number(response.headers.get("Retry-After") ?? NaN);
  return failure({
    code: typeof body?.code === "string" ? body.code : `http_${status}`,
    message:
      typeof body?.error === "string" ? body.error : `The server answered with status ${status}.`,
    status,
    ...(Number.isFinite(retryAfter) && { retryAfter }),
  });
}

/**
 * @param {ReadableStreamDefaultReader<Uint8Array>} reader
 * @param {StreamOptions} options
 * @returns {Promise<AnswerEnd>}
 */
async function read(reader, options) {
  const { signal } = options;
  const decoder = new TextDecoder();
  const answer = listen(options);
  try {
    while (!answer.end()) {
      const piece = await reader.read().catch(() => null);
      if (signal?.aborted) {
        return answer.aborted();
      }
      if (piece === null || piece.done) {
        return answer.cutOff();
      }
      answer.feed(decoder.decode(piece.value, { stream: true }));
      if (signal?.aborted) {
        return answer.aborted();
      }
    }
    return /** @type {AnswerEnd} */ (answer.end());
  } finally {
    answer.close();
    release(reader, answer.complete());
  }
}

/**
 * Let go of the connection. After a complete answer its end follows at once, and reading it lets
 * the browser use the connection again.
 * @param {ReadableStreamDefaultReader<Uint8Array>} reader
 * @param {boolean} complete
 */
function release(reader, complete) {
  const cancel = () => void reader.cancel().catch(() => undefined);
  if (!complete) {
    cancel();
    return;
  }
  const timer = setTimeout(cancel, LINGER_MS);
  reader
    .read()
    .then(({ done }) => done || cancel(), cancel)
    .finally(() => clearTimeout(timer));
}

/**
 * What the events of one answer mean. `feed` takes the stream's text in whatever pieces.
 * @param {StreamOptions} options
 */
function listen(options) {
  const { signal } = options;
  const status = followStatus(options);
  /** @type {AnswerEnd | null} */
  let end = null;
  /** @type {Pick<AnswerEnd, "finishReason" | "usage">} */
  let details = {};
  /** @type {{reason: string} | null} */
  let stopped = null;
  let events = 0;
  let complete = false;

  const parser = createParser({
    onEvent({ event, data }) {
      if (end || signal?.aborted) {
        return;
      }
      if (data.trim() === "[DONE]") {
        complete = true;
        end = over(stopped ? "stopped" : "finished");
      } else if (event === "stopped") {
        stopped = { reason: asText(parse(data)?.reason) || "user" };
      } else if (event === "error") {
        fail(parse(data)?.error);
      } else {
        take(parse(data));
      }
    },
    onComment(comment) {
      if (!end && !signal?.aborted && comment.trim() === "keep-alive") {
        status.queued();
      }
    },
  });

  /**
   * @param {AnswerEnd["outcome"]} outcome
   * @returns {AnswerEnd}
   */
  function over(outcome) {
    return { outcome, ...stopped, ...details, events };
  }

  /** @param {any} error */
  function fail(error) {
    const message = asText(error?.message) || "The answer failed.";
    end = failure({ message, code: asText(error?.code) || "upstream_failed" }, events);
  }

  /** @param {any} chunk */
  function take(chunk) {
    if (chunk?.error && !chunk.choices) {
      fail(chunk.error);
      return;
    }
    events += 1;
    options.onEvent?.(chunk);
    const { text, reasoning, ...more } = contentOf(chunk);
    details = { ...details, ...more };
    status.event(text, reasoning);
    if (reasoning) {
      options.onReasoning?.(reasoning);
    }
    if (text) {
      options.onText?.(text);
    }
  }

  return {
    /** @param {string} text */
    feed: (text) => parser.feed(text),
    /** @returns {AnswerEnd | null} */
    end: () => end,
    complete: () => complete,
    close: () => status.close(),
    aborted: () => over("aborted"),
    /** @returns {AnswerEnd} */
    cutOff() {
      const message = "The connection ended before the answer was complete.";
      const error = { code: "connection_lost", message };
      return stopped ? over("stopped") : { ...over("cut_off"), error };
    },
  };
}

/**
 * Tells the status whenever it changes, and notices silence in mid-answer.
 * @param {Pick<StreamOptions, "onStatus" | "signal" | "stallMs">} options
 */
function followStatus({ onStatus, signal, stallMs = STALL_MS }) {
  /** @type {AnswerStatus} */
  let status = "waiting";
  /** @type {AnswerStatus} */
  let live = "waiting";
  let begun = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let silence;

  /** @param {AnswerStatus} next */
  function tell(next) {
    if (next !== status && !signal?.aborted) {
      status = next;
      onStatus?.(next);
    }
  }

  return {
    queued() {
      if (!begun) {
        live = "queued";
        tell(live);
      }
    },
    /**
     * @param {string} text
     * @param {string} reasoning
     */
    event(text, reasoning) {
      begun = true;
      clearTimeout(silence);
      silence = setTimeout(() => tell("stalled"), stallMs);
      if (text || reasoning) {
        live = text ? "answering" : "thinking";
      }
      tell(live);
    },
    close: () => clearTimeout(silence),
  };
}

/**
 * What one chunk of DeepSeek's brings.
 * @param {any} chunk
 * @returns {{text: string, reasoning: string} & Pick<AnswerEnd, "finishReason" | "usage">}
 */
function contentOf(chunk) {
  const { delta, finish_reason: finishReason } = chunk?.choices?.[0] ?? {};
  return {
    text: asText(delta?.content),
    reasoning: asText(delta?.reasoning_content),
    ...(finishReason && { finishReason: asText(finishReason) }),
    ...(chunk?.usage && { usage: chunk.usage }),
  };
}

/** @param {unknown} value */
function asText(value) {
  return typeof value === "string" ? value : "";
}

/**
 * @param {string} data
 * @returns {any} undefined where it is no JSON
 */
function parse(data) {
  try {
    return JSON.parse(data);
  } catch {
    return undefined;
  }
}

/**
 * @param {string} sessionId
 * @param {ServerOptions} options
 * @returns {Promise<StopResult | null>} null where another try makes sense
 */
async function tryStop(sessionId, options) {
  const { baseUrl = BASE_URL, headers = {}, fetch = globalThis.fetch } = options;
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(), STOP_TRY_MS);
  try {
    const response = await fetch(`${baseUrl}/cancel/${encodeURIComponent(sessionId)}`, {
      method: "POST",
      headers,
      keepalive: true,
      signal: giveUp.signal,
    });
    const body = await response.json().catch(() => null);
    return verdict(response, body);
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * @param {Response} response
 * @param {any} body
 * @returns {StopResult | null}
 */
function verdict({ ok, status }, body) {
  if (ok && body?.success) {
    return { receipt: body };
  }
  if (status === 404) {
    return { notFound: true };
  }
  return status >= 500 ? null : { failed: true, status };
}
