/**
 * What the page says about how an answer ended. Every sentence that a person may read about a
 * failure is here.
 */

/** @typedef {import("./llm-api.jsx").AnswerError} AnswerError */

/** @type {Record<string, string>} */
const STOPPED = {
  user: "AI response stopped by user.",
  disconnect: "The connection to this answer was closed, so it was stopped.",
  shutdown: "The server was restarted, so the answer was stopped.",
  deadline: "The answer took longer than allowed and was stopped.",
  idle: "DeepSeek sent nothing for a long time, so the answer was stopped.",
  lost: "Another worker of the server took this answer over, so it was stopped.",
  replaced: "A newer question took this one's place, so the answer was stopped.",
  reload: "The page was closed or reloaded here, so the answer was stopped.",
};

/** @type {Record<string, string>} */
const FAILED = {
  upstream_balance: "DeepSeek says the balance is used up. It has to be topped up there first.",
  upstream_busy: "DeepSeek is too busy to answer now. Try again in a moment.",
  upstream_auth: "DeepSeek does not accept this server's key. Its operator has to look after it.",
  upstream_unreachable: "DeepSeek cannot be reached from the server.",
  upstream_timeout: "DeepSeek sent nothing in time.",
  too_many_sessions: "Too many answers are running at once. Stop one, or try again in a moment.",
  body_too_large: "This conversation has become too long to send. Begin a new chat, or shorten it.",
  shutting_down: "The server is about to restart. Try again in a moment.",
  session_active: "This question is being answered already. Send it again to have a new answer.",
  unauthorized: "The server did not let this message through: you are not signed in, or no longer.",
  unreachable: "The server cannot be reached. Are you connected?",
  not_sent: "This question was not sent: the page was closed or reloaded before that.",
  not_a_stream: "Something between this page and the server answered in its place.",
};

const BROKE_OFF = "The answer broke off before it was complete.";

/** What an answer that could not be read on may have for a reason. */
const LOST = new Set(["not_found", "events_gone", "nothing_left", "answer_lost"]);

/** @type {Record<string, string>} */
const UNUSUAL_END = {
  length: "The answer ends here because it reached its greatest length.",
  content_filter: "The answer ends here because DeepSeek's content filter ended it.",
  insufficient_system_resource: "The answer ends here because DeepSeek ran out of resources.",
};

/**
 * @param {string} [reason] the server's; nobody is said to have stopped what they did not stop
 * @returns {string}
 */
export function stoppedSentence(reason = "") {
  return STOPPED[reason] ?? "The answer was stopped.";
}

/**
 * @param {AnswerError} [error]
 * @returns {string}
 */
export function failedSentence(error) {
  return (error && (FAILED[error.code] ?? error.message)) || "The answer failed.";
}

/**
 * What is asked of somebody without a token, or with one that is none.
 * @param {boolean} refused
 * @returns {string}
 */
export function tokenSentence(refused) {
  return refused ? "That token was not accepted." : "This server needs an access token.";
}

/** @returns {string} */
export function cutOffSentence() {
  return BROKE_OFF;
}

/**
 * Whether this is the reason why the rest of an answer cannot be had.
 * @param {AnswerError} [error]
 */
export function isLoss(error) {
  return error !== undefined && LOST.has(error.code);
}

/**
 * @param {number} characters how much of it there is
 * @returns {string}
 */
export function lostSentence(characters) {
  if (characters === 0) {
    return "This answer was lost before any of its text came.";
  }
  const count = `${characters.toLocaleString("en")} ${characters === 1 ? "character" : "characters"}`;
  return `The rest of this answer was lost: the ${count} above are all that came.`;
}

/**
 * @param {string} [finishReason]
 * @returns {string} empty where the answer ended as it should
 */
export function unusualEndSentence(finishReason = "stop") {
  return UNUSUAL_END[finishReason] ?? "";
}

/** @type {Record<import("./llm-api.jsx").StopState["state"], string>} */
const STOP = {
  stopped: "",
  unconfirmed: "stop sent, not confirmed yet",
  "nothing-to-stop": "the server had nothing to stop",
  refused: "the server refused this Stop",
};

/**
 * The small print after a Stop.
 * @param {Pick<import("../state/model.js").Answer, "stop" | "receipt">} answer
 * @returns {string}
 */
export function stopLine({ stop = "stopped", receipt = {} }) {
  const { stopMs, events, upstreamClosed = true } = receipt;
  const parts = [];
  if (!upstreamClosed) {
    parts.push("stop sent, the end of the connection is not confirmed");
  } else if (STOP[stop]) {
    parts.push(STOP[stop]);
  } else if (stopMs !== undefined) {
    parts.push(`stopped in ${Math.max(1, Math.round(stopMs))} ms`);
  }
  if (events !== undefined) {
    parts.push(`${events.toLocaleString("en")} ${events === 1 ? "chunk" : "chunks"} received`);
  }
  return parts.join(", ");
}

/**
 * @param {number} ms
 * @returns {string} such as `12 s` or `2 min 5 s`
 */
export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}
