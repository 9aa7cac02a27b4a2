/**
 * The client of a chatproxy server: ask for an answer, read it as it comes, take it up again where
 * the connection broke, and stop it.
 *
 * There is no React in this file, and its one dependency is `eventsource-parser`, so that any other
 * front end can take it alone. Its rules:
 *
 * - The id of an answer is made before the answer is asked for, and is the same everywhere: in the
 *   request's header, in the address of the Stop, and in the server's log.
 * - A question is never sent twice by itself: that would be a second bill. Reading an answer again,
 *   and a Stop, cost nothing, and are tried again.
 * - Each event counts once. It counts when all of it has come; half of one is thrown away with its
 *   connection, and comes again as a whole with the next.
 * - `streamChat`, `resumeStream` and `stopChat` never throw for what a server or a network does.
 *   They say how it ended.
 * - An answer without `[DONE]` is never passed off as a complete one.
 */

import { createParser } from "eventsource-parser";

const BASE_URL = "/api/chat";
/** Milliseconds without an event, in mid-answer, after which it counts as stalled. */
const STALL_MS = 10_000;
/** Milliseconds for which the end of the connection is awaited after a complete answer. */
const LINGER_MS = 1000;
/** Milliseconds before each try to read on after a lost connection; the last one goes on for ever. */
const RESUME_PAUSES_MS = [300, 1000, 2000, 3000];
/** Milliseconds that one such try may wait for the server's reply. */
const RESUME_TRY_MS = 20_000;
/** Milliseconds that a connection has to last for the tries to be counted anew after it. */
const HELD_MS = 3000;
/** A question that fails within this time has hardly got anywhere. */
const PROMPT_MS = 1000;
/** Seconds for which to look, all the same, whether the server has it. */
const UNSENT_SECONDS = 4;
/** Milliseconds between the tries of a Stop. */
const STOP_PAUSES_MS = [200, 600, 1500];
/** Milliseconds that one try of a Stop may take; the server answers within about 2 seconds. */
const STOP_TRY_MS = 5000;

/** Statuses of refusals, beside 5xx, after which reading is tried again. */
const TEMPORARY = new Set([408, 425, 429]);
const UNREACHABLE = { code: "unreachable", message: "The server cannot be reached." };
const CONNECTION_LOST = {
  code: "connection_lost",
  message: "The connection ended before the answer was complete.",
};
const EVENTS_GONE = {
  code: "events_gone",
  message: "The server no longer holds what comes next in this answer.",
};
/** @type {Record<number, AnswerError>} */
const GONE = {
  204: { code: "nothing_left", message: "The answer has ended, and nothing of it is left to read." },
  404: { code: "not_found", message: "The server does not know this answer, or no longer." },
  410: EVENTS_GONE,
};

/**
 * What an answer is doing. `waiting`: sent, and nothing has come. `queued`: DeepSeek keeps the
 * connection alive, but has not begun. `stalled`: it had begun, and has been silent for a while.
 * `reconnecting`: the connection is lost, and a new one is tried.
 * @typedef {"waiting" | "queued" | "thinking" | "answering" | "stalled" | "reconnecting"} AnswerStatus
 *
 * Why there is no answer, or only a part. `code` is the server's word, or `unreachable`,
 * `connection_lost`, `not_a_stream`, `http_<status>`. Where an answer could not be read on it is
 * `not_found`: the server does not know it (any more); `events_gone`: it does not hold what comes
 * next; `nothing_left`: it has ended, and all of it was read before; `answer_lost`: what made the
 * answer is gone.
 * @typedef {object} AnswerError
 * @property {string} message
 * @property {string} code
 * @property {number} [status] the HTTP status, where the server refused
 * @property {number} [retryAfter] seconds, where the server said when another try makes sense
 *
 * How an answer ended.
 * - `finished`: complete.
 * - `stopped`: the server says that it was stopped; `reason` is `user`, `disconnect`, `shutdown`,
 *   `deadline`, `idle` or `lost` (another worker took the answer over); none if it gives none.
 * - `failed`: `error` says why.
 * - `cut_off`: it could not be read to its end; `error` says why.
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
 * @property {(chunk: any, number: number) => void} [onEvent] each chunk as DeepSeek sent it, parsed,
 *   and its number, which is what `resumeStream` wants to have. Called before `onText`.
 *
 * Whether and how to read on after the connection was lost.
 * @typedef {object} Resume
 * @property {number} seconds for how long to try
 * @property {number} [silenceMs] milliseconds without a sign of life after which a connection counts
 *   as lost; never if left out. The server gives one every 15 s, if not told otherwise. Only for
 *   servers that let an answer go on without a reader: others stop it.
 *
 * @typedef {object} StreamRequest
 * @property {string} sessionId from `createSessionId`
 * @property {Record<string, unknown>} payload in the form of DeepSeek's chat completions
 * @property {AbortSignal} [signal] ends the reading; after that no listener is called any more.
 *   The server notices and stops the answer, but gives no receipt: see `stopChat`.
 * @property {number} [stallMs]
 * @property {Resume} [resume] if left out, a lost connection is the end
 *
 * @typedef {ServerOptions & StreamListeners & StreamRequest} StreamOptions
 *
 * @typedef {object} Place
 * @property {number} [after] the number of the last event that is not wanted again; 0 for all of it
 * @property {AnswerStatus} [status] what the answer was doing there
 *
 * @typedef {Omit<StreamOptions, "payload"> & Place} ResumeOptions
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
  const { signal, resume } = options;
  options.onStatus?.("waiting");
  const answer = listen(options);
  const begun = Date.now();
  const response = await ask(options);
  if (signal?.aborted) {
    return answer.aborted();
  }
  if (response === null) {
    return lookForIt(answer, options, Date.now() - begun);
  }
  if (!response.ok) {
    return refusal(response, signal);
  }
  const body = await eventStream(response);
  if (body === null) {
    return failure({ code: "not_a_stream", message: "The server did not send an event stream." });
  }
  const end = await read(body.getReader(), answer, options);
  if (end === null && resume && answer.numbered()) {
    return readOn(answer, options, { seconds: resume.seconds });
  }
  return end ?? answer.cutOff(CONNECTION_LOST);
}

/**
 * Read an answer that runs, or has ended a short while ago: after a reload, or beside another
 * reader. What came after event `after` comes again, then the rest. The listeners, and how it ends,
 * are those of `streamChat`; it is `cut_off` where there is nothing to read on.
 * @param {ResumeOptions} options
 * @returns {Promise<AnswerEnd>}
 */
export function resumeStream(options) {
  const seconds = options.resume?.seconds ?? 0;
  return readOn(listen(options), options, { seconds, atOnce: true });
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
    await sleep(pause);
  }
}

/**
 * The ids of the owner's answers that run now, wherever they were asked for. None where the server
 * cannot tell, because it does not know owners, or cannot be reached.
 * @param {ServerOptions} [options]
 * @returns {Promise<string[]>}
 */
export async function listRunning(options = {}) {
  const { baseUrl = BASE_URL, headers = {}, fetch = globalThis.fetch } = options;
  try {
    const response = await fetch(`${baseUrl}/sessions`, { headers, cache: "no-store" });
    const { sessions = [] } = response.ok ? await response.json() : {};
    return sessions
      .filter((/** @type {any} */ { outcome }) => outcome === null)
      .map((/** @type {any} */ { sessionId }) => sessionId);
  } catch {
    return [];
  }
}

/**
 * @param {StreamOptions} options
 * @returns {Promise<Response | null>} null where there is no reply
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
    return null;
  }
}

/**
 * @param {ResumeOptions} options
 * @param {number} after
 * @returns {Promise<Response | null>} null where there is no reply
 */
async function askAgain(options, after) {
  const { sessionId, signal, baseUrl = BASE_URL, fetch = globalThis.fetch } = options;
  // Where the browser knows of no network, its word is enough.
  if (signal?.aborted || globalThis.navigator?.onLine === false) {
    return null;
  }
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(), RESUME_TRY_MS);
  try {
    return await fetch(`${baseUrl}/stream/${encodeURIComponent(sessionId)}`, {
      headers: {
        ...options.headers,
        Accept: "text/event-stream",
        ...(after > 0 && { "Last-Event-ID": String(after) }),
      },
      cache: "no-store",
      signal: signal ? AbortSignal.any([signal, giveUp.signal]) : giveUp.signal,
    });
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The connection of the question broke before there was a reply: the answer may run all the same.
 * @param {Listening} answer
 * @param {StreamOptions} options
 * @param {number} waited milliseconds
 * @returns {Promise<AnswerEnd>}
 */
async function lookForIt(answer, options, waited) {
  const unreachable = failure(UNREACHABLE);
  if (!options.resume) {
    return unreachable;
  }
  const most = waited < PROMPT_MS ? UNSENT_SECONDS : Infinity;
  const end = await readOn(answer, options, { seconds: Math.min(options.resume.seconds, most) });
  const unbegun = end.error?.code === "not_found" || end.error?.code === "connection_lost";
  return unbegun && !answer.heard() ? unreachable : end;
}

/**
 * Read on with new connections, until the answer has ended or there is no hope for it.
 * @param {Listening} answer
 * @param {ResumeOptions} options
 * @param {object} how
 * @param {number} how.seconds for how long to try after each break
 * @param {boolean} [how.atOnce] whether there was no break yet
 * @returns {Promise<AnswerEnd>}
 */
async function readOn(answer, options, { seconds, atOnce = false }) {
  const { signal } = options;
  const patience = createPatience(seconds, () => answer.disconnected(), signal);
  for (let first = atOnce; ; first = false) {
    if (!first) {
      await patience.pause();
    }
    const reply = await readAgain(answer, options);
    if (signal?.aborted) {
      return answer.aborted();
    }
    if (reply.end) {
      return reply.end;
    }
    if (reply.held) {
      patience.renew();
    }
    if (patience.over() || !answer.numbered()) {
      return answer.cutOff(CONNECTION_LOST);
    }
  }
}

/**
 * When to try again, and for how long.
 * @param {number} seconds
 * @param {() => void} onPause
 * @param {AbortSignal | undefined} signal ends every pause
 */
function createPatience(seconds, onPause, signal) {
  let tries = 0;
  let until = Date.now() + seconds * 1000;
  return {
    async pause() {
      onPause();
      const pause = RESUME_PAUSES_MS[tries] ?? RESUME_PAUSES_MS.at(-1);
      tries += 1;
      await sleep(pause, signal);
    },
    renew() {
      tries = 0;
      until = Date.now() + seconds * 1000;
    },
    over: () => Date.now() >= until,
  };
}

/**
 * @param {Listening} answer
 * @param {ResumeOptions} options
 * @returns {Promise<{end: AnswerEnd | null, held?: boolean}>} without an end where another try makes
 *   sense; `held` where this one brought something
 */
async function readAgain(answer, options) {
  const response = await askAgain(options, answer.last());
  if (response === null) {
    return { end: null };
  }
  const { ok, status } = response;
  const gone = GONE[status];
  if (gone) {
    await response.body?.cancel().catch(() => undefined);
    const error = ok ? gone : { ...gone, status };
    return { end: answer.cutOff(error) };
  }
  if (!ok) {
    const error = await errorOf(response);
    return { end: status >= 500 || TEMPORARY.has(status) ? null : answer.cutOff(error) };
  }
  const body = await eventStream(response);
  if (body === null) {
    return { end: null };
  }
  const last = answer.last();
  const begun = Date.now();
  const end = await read(body.getReader(), answer, options);
  return { end, held: answer.last() > last || Date.now() - begun > HELD_MS };
}

/**
 * The body of a reply that is an event stream; null, and the reply is let go of, where it is not.
 * @param {Response} response
 */
async function eventStream(response) {
  const type = response.headers.get("Content-Type") ?? "";
  if (response.body && type.startsWith("text/event-stream")) {
    return response.body;
  }
  await response.body?.cancel().catch(() => undefined);
  return null;
}

/**
 * Wait, but no longer than until the network is back or the signal comes.
 * @param {number} [ms]
 * @param {AbortSignal} [signal]
 */
async function sleep(ms, signal) {
  const over = new AbortController();
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    over.signal.addEventListener("abort", () => clearTimeout(timer));
    signal?.addEventListener("abort", resolve, { signal: over.signal });
    globalThis.addEventListener?.("online", resolve, { signal: over.signal });
    if (signal?.aborted) {
      resolve(undefined);
    }
  });
  over.abort();
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
  const error = await errorOf(response);
  if (signal?.aborted) {
    return { outcome: "aborted", events: 0 };
  }
  if (error.code === "session_cancelled") {
    return { outcome: "stopped", reason: "user", events: 0 };
  }
  return failure(error);
}

/**
 * @param {Response} response
 * @returns {Promise<AnswerError>}
 */
async function errorOf(response) {
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

/**
 * Read one connection.
 * @param {ReadableStreamDefaultReader<Uint8Array>} reader
 * @param {Listening} answer
 * @param {Pick<StreamOptions, "signal" | "resume">} options
 * @returns {Promise<AnswerEnd | null>} null where it broke in mid-answer
 */
async function read(reader, answer, { signal, resume }) {
  const decoder = new TextDecoder();
  const silence = watchSilence(reader, resume?.silenceMs);
  answer.connected();
  try {
    while (!answer.end()) {
      silence.broken();
      const piece = await reader.read().catch(() => null);
      if (signal?.aborted) {
        return answer.aborted();
      }
      if (piece === null || piece.done) {
        return answer.stopped();
      }
      answer.feed(decoder.decode(piece.value, { stream: true }));
      if (signal?.aborted) {
        return answer.aborted();
      }
    }
    return /** @type {AnswerEnd} */ (answer.end());
  } finally {
    silence.close();
    answer.close();
    release(reader, answer.complete());
  }
}

/**
 * A connection can be dead without anybody having said so. Ends it where nothing comes for long.
 * @param {ReadableStreamDefaultReader<Uint8Array>} reader
 * @param {number} [ms]
 */
function watchSilence(reader, ms) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  return {
    broken() {
      clearTimeout(timer);
      timer = ms === undefined ? timer : setTimeout(() => cancel(reader), ms);
    },
    close: () => clearTimeout(timer),
  };
}

/** @param {ReadableStreamDefaultReader<Uint8Array>} reader */
function cancel(reader) {
  reader.cancel().catch(() => undefined);
}

/**
 * Let go of the connection. After a complete answer its end follows at once, and reading it lets
 * the browser use the connection again.
 * @param {ReadableStreamDefaultReader<Uint8Array>} reader
 * @param {boolean} complete
 */
function release(reader, complete) {
  const letGo = () => cancel(reader);
  if (!complete) {
    letGo();
    return;
  }
  const timer = setTimeout(letGo, LINGER_MS);
  reader
    .read()
    .then(({ done }) => done || letGo(), letGo)
    .finally(() => clearTimeout(timer));
}

/**
 * What the events of one answer mean, over one connection after the other. `feed` takes the
 * stream's text in whatever pieces.
 * @param {ResumeOptions} options
 */
function listen(options) {
  const { signal, after = 0 } = options;
  const status = followStatus(options);
  /** @type {AnswerEnd | null} */
  let end = null;
  /** @type {Pick<AnswerEnd, "finishReason" | "usage">} */
  let details = {};
  /** @type {{reason?: string} | null} */
  let stopped = null;
  let events = after;
  let complete = false;
  let heard = false;
  const numbers = createNumbers(after);
  let parser = createParser({});

  /** @type {import("eventsource-parser").ParserCallbacks} */
  const callbacks = {
    onEvent({ id, event, data }) {
      if (end || signal?.aborted) {
        return;
      }
      const place = numbers.placeOf(id);
      if (place === "next") {
        hear(event, data);
      } else if (place === "after a gap") {
        end = cutOff(EVENTS_GONE);
      }
    },
    onComment(comment) {
      if (!end && !signal?.aborted && comment.trim() === "keep-alive") {
        status.queued();
      }
    },
  };

  /**
   * @param {string | undefined} event
   * @param {string} data
   */
  function hear(event, data) {
    if (data.trim() === "[DONE]") {
      complete = true;
      end = over(stopped ? "stopped" : "finished");
    } else if (event === "stopped") {
      const reason = asText(parse(data)?.reason);
      stopped = reason ? { reason } : {};
    } else if (event === "error") {
      fail(parse(data)?.error);
    } else {
      take(parse(data));
    }
  }

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
    options.onEvent?.(chunk, numbers.last());
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

  /**
   * @param {AnswerError} error
   * @returns {AnswerEnd}
   */
  function cutOff(error) {
    return { ...over("cut_off"), error };
  }

  return {
    cutOff,
    /** A new connection: what the last one left unfinished is forgotten. */
    connected() {
      heard = true;
      parser = createParser(callbacks);
      status.connected();
    },
    /** Whether there was any connection. */
    heard: () => heard,
    disconnected: () => status.disconnected(),
    /** @param {string} text */
    feed: (text) => parser.feed(text),
    /** @returns {AnswerEnd | null} */
    end: () => end,
    complete: () => complete,
    last: numbers.last,
    numbered: numbers.allThere,
    close: () => status.close(),
    aborted: () => over("aborted"),
    /** The end, where all but its `[DONE]` had come; else null. */
    stopped: () => (stopped ? over("stopped") : null),
  };
}

/** @typedef {ReturnType<typeof listen>} Listening */

/**
 * Sees to it that each event counts once, and none is left out: a text with a hole must not look
 * like a whole one.
 * @param {number} after
 */
function createNumbers(after) {
  let last = after;
  let allThere = true;
  return {
    /** The number of the last event. */
    last: () => last,
    /** Whether every event had one. Without that nothing can be read on. */
    allThere: () => allThere,
    /** @param {string} [id] */
    placeOf(id) {
      const number = Number(id);
      if (!Number.isInteger(number)) {
        allThere = false;
        return "next";
      }
      if (number > last + 1) {
        return "after a gap";
      }
      if (number <= last) {
        return "before";
      }
      last = number;
      return "next";
    },
  };
}

/**
 * Tells the status whenever it changes, and notices silence in mid-answer.
 * @param {Pick<ResumeOptions, "onStatus" | "signal" | "stallMs" | "after" | "status">} options
 */
function followStatus({ onStatus, signal, stallMs = STALL_MS, after = 0, status = "waiting" }) {
  let live = status;
  let begun = after > 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let silence;

  /** @param {AnswerStatus} next */
  function tell(next) {
    if (next !== status && !signal?.aborted) {
      status = next;
      onStatus?.(next);
    }
  }

  function listenForSilence() {
    clearTimeout(silence);
    silence = setTimeout(() => tell("stalled"), stallMs);
  }

  return {
    connected() {
      tell(live);
      if (begun) {
        listenForSilence();
      }
    },
    disconnected() {
      clearTimeout(silence);
      tell("reconnecting");
    },
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
      listenForSilence();
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
