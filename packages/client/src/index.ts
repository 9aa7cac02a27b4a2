/**
 * The client of a chatproxy server: ask for an answer, read it as it comes, take it up again where
 * the connection broke, and stop it.
 *
 * - The id of an answer is made before the answer is asked for, and is the same everywhere: in the
 *   request's header, in the address of the Stop, and in the server's log.
 * - A question is never sent twice by itself. Reading an answer again, and a Stop, are tried again.
 * - A Stop that is not confirmed never looks confirmed, and has a free connection; see the README.
 */

export { accountIn, type Account, type Usage, type UsageSource } from "./account.js";
export type {
  AnswerEnd,
  AnswerOutcome,
  AnswerStatus,
  Chunk,
  StreamListeners,
} from "./answer.js";
export { createView, type View } from "./attention.js";
export type { AnswerError } from "./errors.js";
export { listRunning } from "./list-running.js";
export type { ConnectionOptions } from "./locks.js";
export {
  resumeFor,
  resumeStream,
  type ReadingOptions,
  type Resume,
  type ResumeOptions,
} from "./resume.js";
export type { RunCall, StoppedCalls } from "./run-calls.js";
export type { ServerOptions } from "./server.js";
export { createSessionId } from "./session-id.js";
export { stopChat, type Receipt, type StopOptions, type StopState } from "./stop.js";
export { streamChat, type StreamOptions } from "./stream-chat.js";
