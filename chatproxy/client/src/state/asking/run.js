/**
 * One running answer: what comes from the server is gathered, and handed on once per frame.
 *
 * At a Stop, what is shown freezes first, at once. Then the server is told; `stopChat` closes the
 * stream when the time has come for that, and says what is known about the Stop.
 */

import { createFlusher } from "../../lib/frame-flusher.js";
import { resumeFor, resumeStream, stopChat, streamChat } from "../../lib/llm-api.jsx";
import { API } from "../../lib/mount.js";

/** Milliseconds for which a question may be on its way, and between looking for it. */
const EARLY_MS = 5000;
const EARLY_PAUSE_MS = 500;
const UNAUTHORIZED = 401;

/**
 * @typedef {import("../chats/answer.js").Progress} Progress
 * @typedef {import("../../lib/llm-api.jsx").AnswerEnd} AnswerEnd
 * @typedef {import("../../lib/llm-api.jsx").StopState} StopState
 * @typedef {import("../../lib/llm-api.jsx").View} View
 * @typedef {import("../../lib/llm-api.jsx").AnswerStatus} AnswerStatus
 *
 * @typedef {object} RunListeners
 * @property {(progress: Progress) => void} onProgress
 * @property {() => void} onStopped
 * @property {(stop: StopState) => void} onStopState what is known about the Stop, as it changes
 * @property {(end: AnswerEnd) => void} onEnd once, and not after a Stop
 * @property {() => void} [onUnauthorized] at a 401, to the question or to its Stop
 *
 * @typedef {object} RunOptions
 * @property {Record<string, string>} [headers] of the question, of all reading and of the Stop: they
 *   must be from the same owner
 * @property {import("../../lib/llm-api.jsx").Resume} [resume] how it is read on
 * @property {View} [view] what the answer is shown in
 *
 * @typedef {object} Run
 * @property {() => void} stop
 * @property {() => void} leave reads no more, and says nothing to anybody
 * @property {Promise<void>} done when the stream has ended
 */

/**
 * Ask for an answer.
 * @param {string} sessionId
 * @param {Record<string, unknown>} payload
 * @param {RunListeners} listeners
 * @param {RunOptions} [options]
 */
export function startRun(sessionId, payload, listeners, options) {
  return run((how) => streamChat({ ...how, payload, calls: true }), sessionId, listeners, options);
}

/**
 * Read on an answer that runs already.
 * @param {Pick<import("../chats/model.js").Answer, "id" | "lastEvent" | "status" | "startedAt">} answer
 * @param {RunListeners} listeners
 * @param {RunOptions} [options]
 */
export function takeUpRun({ id, lastEvent, status, startedAt }, listeners, options) {
  const place = { after: lastEvent, status };
  return run((how) => readWhenThere({ ...how, ...place }, startedAt), id, listeners, options);
}

/**
 * The question may still be on its way, if another tab has just sent it.
 * @param {import("../../lib/llm-api.jsx").ResumeOptions} how
 * @param {number} startedAt
 */
async function readWhenThere(how, startedAt) {
  // It may have been sent by a device whose clock is ahead.
  const until = performance.now() + Math.min(EARLY_MS, startedAt + EARLY_MS - Date.now());
  for (;;) {
    const end = await resumeStream(how);
    const missing = end.error?.code === "not_found" && end.events === 0;
    if (!missing || how.signal?.aborted || performance.now() > until) {
      return end;
    }
    await new Promise((resolve) => setTimeout(resolve, EARLY_PAUSE_MS));
  }
}

/**
 * @param {(how: import("../../lib/llm-api.jsx").ResumeOptions) => Promise<AnswerEnd>} read
 * @param {string} sessionId
 * @param {RunListeners} listeners
 * @param {RunOptions} [options]
 * @returns {Run}
 */
function run(read, sessionId, listeners, { headers = {}, resume = resumeFor(0), view } = {}) {
  const { onProgress, onStopped, onEnd, onUnauthorized } = listeners;
  const closing = new AbortController();
  const gathered = gather(onProgress);
  let live = true;

  async function stream() {
    const { signal } = closing;
    const how = { sessionId, baseUrl: API, headers, signal, resume, view };
    const end = await read({ ...how, ...gathered.listeners });
    if (live) {
      live = false;
      gathered.close();
      onEnd(end);
    }
    if (end.error?.status === UNAUTHORIZED) {
      onUnauthorized?.();
    }
  }

  function stop() {
    if (!live) {
      return;
    }
    live = false;
    gathered.close();
    onStopped();
    pressStop(sessionId, listeners, { headers, closing });
  }

  function leave() {
    if (live) {
      live = false;
      gathered.close();
      closing.abort();
    }
  }

  return { stop, leave, done: stream() };
}

/**
 * Stop an answer, whether it is read here or not.
 * @param {string} sessionId
 * @param {Pick<RunListeners, "onStopState" | "onUnauthorized">} listeners
 * @param {{headers: Record<string, string>, closing?: AbortController}} options
 */
export async function pressStop(sessionId, { onStopState, onUnauthorized }, options) {
  const stop = await stopChat(sessionId, { ...options, baseUrl: API, onState: onStopState });
  if (stop.state === "refused" && stop.status === UNAUTHORIZED) {
    onUnauthorized?.();
  }
}

/** @type {Progress} */
const NOTHING = { text: "", reasoning: "", told: [], lastEvent: 0, status: null };

/** @param {(progress: Progress) => void} onProgress */
function gather(onProgress) {
  /** @type {Progress} */
  let progress = NOTHING;
  let open = true;
  const flusher = createFlusher(flush);

  function flush() {
    if (progress !== NOTHING) {
      const gathered = progress;
      progress = NOTHING;
      onProgress(gathered);
    }
  }

  /** @param {Partial<Progress>} more */
  function add({ text = "", reasoning = "", told = [], ...newer }) {
    if (open) {
      progress = {
        ...progress,
        ...newer,
        text: progress.text + text,
        reasoning: progress.reasoning + reasoning,
        told: told.length > 0 ? [...progress.told, ...told] : progress.told,
      };
      flusher.ask();
    }
  }

  /** @type {import("../../lib/llm-api.jsx").StreamListeners} */
  const listeners = {
    onText: (text) => add({ text }),
    onReasoning: (reasoning) => add({ reasoning }),
    onStatus: (status) => add({ status }),
    // In the same breath as the text of that event, so that the two never part.
    onEvent: (_chunk, lastEvent) => add({ lastEvent }),
    onRunEvent: (name, data, lastEvent) => add({ told: [{ name, data }], lastEvent }),
    // It comes again with the end.
    onAccount: () => undefined,
  };

  return {
    listeners,
    /** Hands on what has come, and nothing after that. */
    close() {
      open = false;
      flusher.cancel();
      flush();
    },
  };
}
