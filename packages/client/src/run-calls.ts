/** The calls of a run: what it asks upstreams, and its requests. */

/** One call, as `call-end`, the receipt and the end of a stopped run have it. */
export interface RunCall {
  id: number;
  name: string;
  phase: "connecting" | "waiting" | "streaming";
  /** null if it has not ended. */
  outcome: "finished" | "stopped" | "failed" | null;
  events: number;
  /** null for a request of the application's own. */
  upstream: string | null;
  /** Whether its connection is closed. */
  closed: boolean;
  ms: number;
}

/** What a Stop has come to in a run. */
export interface StoppedCalls {
  /** In the receipt all of them, at most the latest hundred; in the end those that were stopped. */
  calls?: RunCall[];
  /** The names of code that had not ended, and that the answer ended without. */
  leftBehind?: string[];
}
