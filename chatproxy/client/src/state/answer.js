/**
 * One answer's life, as pure functions: each takes an answer and returns the next one.
 *
 *     sent: waiting ─┬─► queued ──┐
 *                    ├────────────┴─► thinking ─► answering ─► finished
 *                    │                   ▲  │        ▲  │
 *                    │                   └──┴ stalled ┴─┘
 *                    └─ at any time ─► stopped | failed | cut off
 *
 * An answer that has ended never changes again, except that the receipt of its Stop is added.
 */

import {
  cutOffSentence,
  failedSentence,
  stoppedSentence,
  unusualEndSentence,
} from "../lib/sentences.js";

/**
 * @typedef {import("./model.js").Answer} Answer
 * @typedef {import("../lib/llm-api.jsx").AnswerEnd} AnswerEnd
 * @typedef {import("../lib/llm-api.jsx").AnswerStatus} AnswerStatus
 * @typedef {{text: string, reasoning: string, status: AnswerStatus | null}} Progress
 */

/**
 * @param {string} id
 * @param {string} model
 * @param {number} now
 * @returns {Answer}
 */
export function sent(id, model, now) {
  return {
    role: "assistant",
    id,
    state: "running",
    status: "waiting",
    startedAt: now,
    statusSince: now,
    model,
    text: "",
    reasoning: "",
  };
}

/**
 * @param {Answer} answer
 * @param {Progress} progress what has come since the last time
 * @param {number} now
 * @returns {Answer}
 */
export function received(answer, progress, now) {
  if (answer.state !== "running") {
    return answer;
  }
  const next = {
    ...answer,
    text: answer.text + progress.text,
    reasoning: answer.reasoning + progress.reasoning,
  };
  if (progress.status && progress.status !== answer.status) {
    next.status = progress.status;
    next.statusSince = now;
  }
  if (progress.reasoning && next.thinkingSince === undefined) {
    next.thinkingSince = now;
  }
  return progress.text ? thoughtOver(next, now) : next;
}

/**
 * The Stop of this page: it takes effect here and now, whatever the network does.
 * @param {Answer} answer
 * @param {number} now
 * @returns {Answer}
 */
export function stopped(answer, now) {
  return answer.state === "running"
    ? { ...thoughtOver(answer, now), state: "stopped", reason: "user" }
    : answer;
}

/**
 * @param {Answer} answer
 * @param {Answer["receipt"]} receipt
 * @returns {Answer}
 */
export function receipted(answer, receipt) {
  return answer.state === "stopped" ? { ...answer, receipt } : answer;
}

/**
 * @param {Answer} answer
 * @param {AnswerEnd} end
 * @param {number} now
 * @returns {Answer}
 */
export function ended(answer, end, now) {
  if (answer.state !== "running") {
    return answer;
  }
  const over = thoughtOver(answer, now);
  const { finishReason, error, events } = end;
  switch (end.outcome) {
    case "finished":
      return { ...over, state: "finished", ...(finishReason && { finishReason }) };
    case "stopped":
      return { ...over, state: "stopped", reason: end.reason ?? "user", receipt: { events } };
    case "aborted":
      return { ...over, state: "stopped", reason: "user" };
    default:
      return { ...over, state: end.outcome, ...(error && { error }) };
  }
}

/**
 * What the page says under an answer that has ended; empty where there is nothing to say.
 * @param {Answer} answer
 * @returns {string}
 */
export function closingSentence(answer) {
  switch (answer.state) {
    case "stopped":
      return stoppedSentence(answer.reason);
    case "failed":
      return failedSentence(answer.error);
    case "cut_off":
      return cutOffSentence();
    case "finished":
      return unusualEndSentence(answer.finishReason);
    default:
      return "";
  }
}

/** @type {Record<AnswerStatus, string>} */
const HEARD_STATUS = {
  waiting: "Sent. Waiting for DeepSeek.",
  queued: "Queued at DeepSeek.",
  thinking: "Thinking.",
  answering: "Answering.",
  stalled: "Nothing has come for a while.",
};

/**
 * What is announced to those who listen to the page.
 * @param {Answer} answer
 * @returns {string}
 */
export function announcementFor(answer) {
  switch (answer.state) {
    case "running":
      return HEARD_STATUS[answer.status];
    case "finished":
      return "The answer is complete.";
    case "stopped":
      return "Stopped.";
    default:
      return `No complete answer: ${closingSentence(answer)}`;
  }
}

/**
 * @param {Answer} answer
 * @param {number} now
 * @returns {Answer}
 */
function thoughtOver(answer, now) {
  return answer.thinkingSince === undefined || answer.thinkingMs !== undefined
    ? answer
    : { ...answer, thinkingMs: now - answer.thinkingSince };
}
