/**
 * One running answer: what comes from the server is gathered, and handed on once per frame.
 *
 * The order at a Stop. What is shown freezes first, at once. Then the server is told, and only when
 * it has replied (or after a second, or at once where there is no network) the stream is closed:
 * closing it stops the answer too, but without a receipt.
 */

import { createFlusher } from "../lib/frame-flusher.js";
import { stopChat, streamChat } from "../lib/llm-api.jsx";

const RECEIPT_PATIENCE_MS = 1000;
const UNAUTHORIZED = 401;

/**
 * @typedef {import("./answer.js").Progress} Progress
 * @typedef {import("../lib/llm-api.jsx").AnswerEnd} AnswerEnd
 * @typedef {import("../lib/llm-api.jsx").Receipt} Receipt
 * @typedef {import("../lib/llm-api.jsx").AnswerStatus} AnswerStatus
 *
 * @typedef {object} RunListeners
 * @property {(progress: Progress) => void} onProgress
 * @property {() => void} onStopped
 * @property {(receipt: Receipt) => void} onReceipt
 * @property {(end: AnswerEnd) => void} onEnd once, and not after a Stop
 * @property {() => void} [onUnauthorized] at a 401, to the question or to its Stop
 *
 * @typedef {object} Run
 * @property {() => void} stop
 * @property {Promise<void>} done when the stream has ended
 */

/**
 * @param {string} sessionId
 * @param {Record<string, unknown>} payload
 * @param {RunListeners} listeners
 * @param {Record<string, string>} [headers] of the question and of its Stop: both must be from the
 *   same owner
 * @returns {Run}
 */
export function startRun(sessionId, payload, listeners, headers = {}) {
  const { onProgress, onStopped, onReceipt, onEnd, onUnauthorized } = listeners;
  const closing = new AbortController();
  const gathered = gather(onProgress);
  let live = true;

  async function stream() {
    const { onText, onReasoning, onStatus } = gathered;
    const end = await streamChat({
      sessionId,
      payload,
      headers,
      signal: closing.signal,
      onText,
      onReasoning,
      onStatus,
    });
    if (live) {
      live = false;
      gathered.close();
      onEnd(end);
    }
    if (end.error?.status === UNAUTHORIZED) {
      onUnauthorized?.();
    }
  }

  async function tellServer() {
    const result = await stopChat(sessionId, { headers });
    if ("receipt" in result) {
      onReceipt(result.receipt);
    } else if ("failed" in result && result.status === UNAUTHORIZED) {
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
    const close = () => closing.abort();
    setTimeout(close, navigator.onLine === false ? 0 : RECEIPT_PATIENCE_MS);
    tellServer().then(close, close);
  }

  return { stop, done: stream() };
}

/** @param {(progress: Progress) => void} onProgress */
function gather(onProgress) {
  /** @type {Progress} */
  let progress = { text: "", reasoning: "", status: null };
  let open = true;
  const flusher = createFlusher(flush);

  function flush() {
    const { text, reasoning, status } = progress;
    if (text || reasoning || status) {
      progress = { text: "", reasoning: "", status: null };
      onProgress({ text, reasoning, status });
    }
  }

  /** @param {Partial<Progress>} more */
  function add({ text = "", reasoning = "", status = progress.status }) {
    if (open) {
      progress = { text: progress.text + text, reasoning: progress.reasoning + reasoning, status };
      flusher.ask();
    }
  }

  return {
    /** @param {string} text */
    onText: (text) => add({ text }),
    /** @param {string} reasoning */
    onReasoning: (reasoning) => add({ reasoning }),
    /** @param {AnswerStatus} status */
    onStatus: (status) => add({ status }),
    /** Hands on what has come, and nothing after that. */
    close() {
      open = false;
      flusher.cancel();
      flush();
    },
  };
}
