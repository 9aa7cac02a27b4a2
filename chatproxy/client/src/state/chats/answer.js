/**
 * One answer's life, as pure functions: each takes an answer and returns the next one.
 *
 *     (queued ─►) waiting ─┬─► upstream_queued ─┐
 *                    ├──────────┴─► thinking ─► answering ─► finished
 *                    │                   ▲  │        ▲  │
 *                    │                   └──┴ stalled ┴─┘
 *                    ├─ at any time ─► reconnecting, and back
 *                    └─ at any time ─► stopped | failed | cut off
 *
 * An answer that has ended never changes again, except by what becomes known about its Stop, and
 * that another tab may have read to its end what was cut off here: see `merge.js`.
 */

import { accountIn } from "../../lib/llm-api.jsx";
import { isRun } from "../../lib/models.js";
import {
  failedSentence,
  isLoss,
  lostSentence,
  stoppedSentence,
  unusualEndSentence,
} from "../../lib/sentences.js";
import { stepsAfter, stepsAfterStop } from "./steps.js";

/**
 * @typedef {import("./model.js").Answer} Answer
 * @typedef {import("../../lib/llm-api.jsx").AnswerEnd} AnswerEnd
 * @typedef {import("../../lib/llm-api.jsx").AnswerStatus} AnswerStatus
 * @typedef {import("../../i18n/language.js").Language} Language
 *
 * `lastEvent`: the number of the last event in it; 0 if there is none. `told`: events of a run's own.
 * @typedef {{text: string, reasoning: string, told: import("./steps.js").Told[], lastEvent: number,
 *   status: AnswerStatus | null}} Progress
 */

/**
 * @param {string} id
 * @param {string} model
 * @param {number} now
 * @param {Partial<Answer>} [more] its parent, and what it begins with if it goes on with another
 * @returns {Answer}
 */
export function sent(id, model, now, more) {
  return {
    role: "assistant",
    id,
    parentId: null,
    state: "running",
    status: "waiting",
    startedAt: now,
    statusSince: now,
    model,
    text: "",
    reasoning: "",
    lastEvent: 0,
    ...more,
  };
}

/**
 * Another version of an answer, whose text is the user's. Nothing is sent for it.
 * @param {Answer} answer
 * @param {{id: string, text: string, now: number}} change
 * @returns {Answer}
 */
export function edited({ parentId, model, reasoning, thinkingMs }, { id, text, now }) {
  const whole = sent(id, model, now, { parentId, text, reasoning, made: "edited" });
  return { ...whole, state: "finished", ...(thinkingMs !== undefined && { thinkingMs }) };
}

/**
 * Whether there is something to go on with: a text that need not end where it does.
 * @param {Answer} answer
 */
export function canGoOn({ state, text, finishReason, made }) {
  const ended = state === "finished" && finishReason !== "length" && made !== "edited";
  return state !== "running" && text !== "" && !ended;
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
    lastEvent: Math.max(answer.lastEvent, progress.lastEvent),
    ...(progress.told.length > 0 && { steps: stepsAfter(answer.steps, progress.told) }),
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
    ? { ...thoughtOver(answer, now), state: "stopped", reason: "user", stop: "unconfirmed" }
    : answer;
}

/**
 * What is known about the Stop of this page.
 * @param {Answer} answer
 * @param {import("../../lib/llm-api.jsx").StopState} stop
 * @returns {Answer}
 */
export function stopKnown(answer, stop) {
  if (answer.state !== "stopped") {
    return answer;
  }
  const known = { ...answer, stop: stop.state };
  if (stop.state === "refused") {
    return { ...known, stopRefusal: stop.message };
  }
  if (!("receipt" in stop) || !stop.receipt) {
    return known;
  }
  const { stopMs, events, upstreamClosed, leftBehind, calls } = stop.receipt;
  const receipt = { stopMs, events, upstreamClosed, ...(leftBehind?.length && { leftBehind }) };
  return settled({ ...known, receipt }, calls, accountIn(stop.receipt));
}

/**
 * With what the server says of an answer that has ended.
 * @param {Answer} answer
 * @param {import("../../lib/llm-api.jsx").RunCall[] | undefined} calls of a run that was stopped
 * @param {import("../../lib/llm-api.jsx").Account | undefined} account
 * @returns {Answer}
 */
function settled(answer, calls, account) {
  const steps = stepsAfterStop(answer.steps, calls);
  return { ...answer, ...(steps && { steps }), ...(account && { account }) };
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
  const { finishReason, error, events, leftBehind } = end;
  const over = settled(thoughtOver(answer, now), end.calls, accountOf(end));
  switch (end.outcome) {
    case "finished":
      return { ...over, state: "finished", ...(finishReason && { finishReason }) };
    case "stopped":
      return {
        ...over,
        state: "stopped",
        reason: end.reason ?? "",
        receipt: { events, ...(leftBehind?.length && { leftBehind }) },
      };
    case "aborted":
      return { ...over, state: "stopped", reason: "" };
    default:
      return { ...over, state: end.outcome, ...(error && { error }) };
  }
}

/**
 * What an answer came to: as the server says, or else as DeepSeek has said with its last chunk.
 * @param {AnswerEnd} end
 */
function accountOf({ account, usage }) {
  return account ?? (usage && accountIn({ usage, usageSource: "provider" }));
}

/**
 * How an answer ended that was taken up again: if nobody read it for too long, that was this page,
 * which had gone.
 * @param {AnswerEnd} end
 * @param {boolean} stops whether the server stops an answer as soon as nobody reads it
 * @param {AnswerStatus} [status] what it was doing when the page had gone
 * @returns {AnswerEnd}
 */
export function endOfTakenUp(end, stops, status) {
  const left = end.outcome === "stopped" && end.reason === "disconnect";
  const unknown = end.error?.code === "not_found";
  if (unknown && status === "queued") {
    return { outcome: "failed", error: { code: "not_sent", message: "" }, events: 0 };
  }
  const longGone = stops && unknown;
  return left || longGone ? { outcome: "stopped", reason: "reload", events: end.events } : end;
}

/**
 * What the page says under an answer that has ended; empty if there is nothing to say.
 * @param {Language} language
 * @param {Answer} answer
 * @returns {string}
 */
export function closingSentence(language, answer) {
  switch (answer.state) {
    case "stopped":
      return stoppedSentence(language, answer.reason);
    case "failed":
    case "cut_off":
      return brokenOffSentence(language, answer);
    case "finished":
      return unusualEndSentence(language, answer.finishReason);
    default:
      return "";
  }
}

/**
 * @param {Language} language
 * @param {Answer} answer
 */
function brokenOffSentence(language, { state, error, text, reasoning }) {
  if (isLoss(error)) {
    return lostSentence(language, text.length);
  }
  if (state === "failed") {
    return failedSentence(language, error);
  }
  return language.say(text === "" && reasoning === "" ? "nothingCame" : "brokeOff");
}

/**
 * Whether a connection is tried without any of the answer having come: nobody knows then whether
 * there ever was one, so it is not said to be lost.
 * @param {Pick<Answer, "status" | "lastEvent">} answer
 */
export function isUnreached({ status, lastEvent }) {
  return status === "reconnecting" && lastEvent === 0;
}

/**
 * What a running answer is said to do. A run works before its first word, whoever it waits for.
 * @param {Pick<Answer, "status" | "model">} answer
 */
export function shownStatus({ status, model }) {
  return status === "waiting" && isRun(model) ? "working" : status;
}

/**
 * What is announced to those who listen to the page.
 * @param {Language} language
 * @param {Answer} answer
 * @returns {string}
 */
export function announcementFor(language, answer) {
  const { say } = language;
  switch (answer.state) {
    case "running":
      return say(isUnreached(answer) ? "heard.unreached" : `heard.${shownStatus(answer)}`);
    case "finished":
      return say("heard.finished");
    case "stopped":
      return say("heard.stopped");
    default:
      return say("heard.incomplete", { reason: closingSentence(language, answer) });
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
