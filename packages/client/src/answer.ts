/** What an answer is to whoever reads it: what it does, what comes of it, and how it ends. */

import type { Account } from "./account.js";
import type { AnswerError } from "./errors.js";
import type { StoppedCalls } from "./run-calls.js";

/**
 * What an answer is doing.
 * - `queued`: not sent yet; other answers have the connections that a browser may use.
 * - `waiting`: sent, and nothing has come.
 * - `upstream_queued`: DeepSeek keeps the connection alive, but has not begun.
 * - `thinking`, `answering`.
 * - `stalled`: it had begun, and has been silent for a while.
 * - `reconnecting`: the connection is lost, and a new one is tried.
 */
export type AnswerStatus =
  | "queued"
  | "waiting"
  | "upstream_queued"
  | "thinking"
  | "answering"
  | "stalled"
  | "reconnecting";

/**
 * How an answer ended.
 * - `finished`: complete.
 * - `stopped`: the server says that it was stopped.
 * - `failed`: `error` says why.
 * - `cut_off`: it could not be read to its end; `error` says why.
 * - `aborted`: by the `signal` that was passed in.
 */
export type AnswerOutcome = "finished" | "stopped" | "failed" | "cut_off" | "aborted";

export interface AnswerEnd extends StoppedCalls {
  outcome: AnswerOutcome;
  /**
   * Why it was stopped: `user`, `disconnect`, `shutdown`, `deadline`, `idle`, `lost` (another
   * worker took the answer over), `replaced` (by a newer question) or `budget` (too little was left
   * of it); none if the server gives none.
   */
  reason?: string;
  /** DeepSeek's: `stop`, `length`, `content_filter`, … */
  finishReason?: string;
  /** DeepSeek's count of tokens. */
  usage?: Record<string, unknown>;
  /** What it came to, if the server has said so: see `onAccount`. */
  account?: Account;
  error?: AnswerError;
  /** How many of DeepSeek's events came. */
  events: number;
}

/** A chunk of a chat completion, as DeepSeek sent it. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- its fields are DeepSeek's to choose
export type Chunk = any;

export interface StreamListeners {
  /** The next piece of the answer. */
  onText?: ((text: string) => void) | undefined;
  /** The next piece of the thinking. */
  onReasoning?: ((text: string) => void) | undefined;
  /** Whenever the status changes. */
  onStatus?: ((status: AnswerStatus) => void) | undefined;
  /**
   * Each chunk, parsed, and the number of its event, which is what `resumeStream` wants to have.
   * Called before `onText`.
   */
  onEvent?: ((chunk: Chunk, number: number) => void) | undefined;
  /**
   * Each event that a run sends by itself (`run.emit`; `tool-call` and `tool-result` of its tools;
   * with `calls`, `call-begin` and `call-end`): its name, its data, parsed, and its number.
   */
  onRunEvent?: ((name: string, data: Chunk, number: number) => void) | undefined;
  /** What the answer came to, at its end. The server is asked for it only if this is given. */
  onAccount?: ((account: Account) => void) | undefined;
}
