/**
 * What the page says about how an answer ended, in a language. Every sentence that a person may read
 * about a failure is made here; `i18n/` has the words.
 */

/**
 * @typedef {import("./llm-api.jsx").AnswerError} AnswerError
 * @typedef {import("../i18n/language.js").Language} Language
 */

/** What an answer that could not be read on may have for a reason. */
const LOST = new Set(["not_found", "events_gone", "nothing_left", "answer_lost"]);

/**
 * @param {Language} language
 * @param {string} [reason] the server's; nobody is said to have stopped what they did not stop
 * @returns {string}
 */
export function stoppedSentence({ has, say }, reason = "") {
  const name = `stopped.${reason}`;
  return say(has(name) ? name : "stopped");
}

/**
 * The page's own sentence for a code that it knows; the server's, which is English, for another.
 * @param {Language} language
 * @param {AnswerError} [error]
 * @returns {string}
 */
export function failedSentence({ has, say }, { code, message } = { code: "", message: "" }) {
  const name = `failed.${code}`;
  if (has(name)) {
    return say(name);
  }
  return message ? say("failedSaying", { message }) : say("failed");
}

/**
 * What the server said itself, if that adds to the page's sentence in another language.
 * @param {Language} language
 * @param {AnswerError} [error]
 * @returns {string}
 */
export function serversOwnWords({ has, tag }, error) {
  const translated = tag !== "en" && error && has(`failed.${error.code}`);
  return translated ? error.message : "";
}

/**
 * What is asked of somebody without a token, or with one that is none.
 * @param {Language} language
 * @param {boolean} refused
 * @returns {string}
 */
export function tokenSentence({ say }, refused) {
  return say(refused ? "tokenRefused" : "tokenWanted");
}

/**
 * Whether this is the reason why the rest of an answer cannot be had.
 * @param {AnswerError} [error]
 */
export function isLoss(error) {
  return error !== undefined && LOST.has(error.code);
}

/**
 * @param {Language} language
 * @param {number} characters how much of it there is
 * @returns {string}
 */
export function lostSentence({ say }, characters) {
  return characters === 0 ? say("lostAll") : say("lostRest", { count: characters });
}

/**
 * @param {Language} language
 * @param {string} [finishReason]
 * @returns {string} empty if the answer ended as it should
 */
export function unusualEndSentence({ has, say }, finishReason = "stop") {
  const name = `ended.${finishReason}`;
  return has(name) ? say(name) : "";
}

/**
 * The small print after a Stop: what is known about it, by its state in the package (`StopState`).
 * @param {Language} language
 * @param {Pick<import("../state/chats/model.js").Answer, "stop" | "stopRefusal" | "receipt">} answer
 * @returns {string}
 */
export function stopLine(language, { stop = "stopped", stopRefusal, receipt = {} }) {
  const { say } = language;
  const { events } = receipt;
  const sentence = stopSentence(language, stop, receipt);
  const known = stopRefusal ? say("stopRefusedSaying", { sentence, message: stopRefusal }) : sentence;
  const received = events === undefined ? "" : say("chunksReceived", { count: events });
  return known && received ? say("joined", { first: known, second: received }) : known || received;
}

/**
 * What a Stop has ended in a run.
 * @param {Language} language
 * @param {string[]} names
 * @returns {string} empty if nothing
 */
export function stoppedLine({ list, say }, names) {
  return names.length > 0 ? say("stoppedCalls", { names: list(names) }) : "";
}

/**
 * What of a run goes on though its answer has ended.
 * @param {Language} language
 * @param {string[]} [names]
 * @returns {string} empty if nothing
 */
export function leftBehindLine({ list, say }, names = []) {
  return names.length > 0 ? say("leftBehind", { names: list(names) }) : "";
}

/**
 * @param {Language} language
 * @param {import("./llm-api.jsx").StopState["state"]} stop
 * @param {NonNullable<import("../state/chats/model.js").Answer["receipt"]>} receipt
 */
function stopSentence({ has, quantity, say }, stop, { stopMs, upstreamClosed = true }) {
  const name = `stop.${stop}`;
  if (!upstreamClosed) {
    return say("stopEndUnconfirmed");
  }
  if (has(name)) {
    return say(name);
  }
  const ms = Math.max(1, Math.round(stopMs ?? 0));
  return stopMs === undefined ? "" : say("stoppedIn", { time: quantity(ms, "millisecond") });
}
