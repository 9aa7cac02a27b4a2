/** Tells what an answer is doing whenever that changes, and notices silence in mid-answer. */

import type { AnswerStatus } from "./answer.js";

/** Milliseconds without an event, in mid-answer, after which it counts as stalled. */
const STALL_MS = 10_000;

export interface StatusOptions {
  onStatus?: ((status: AnswerStatus) => void) | undefined;
  signal?: AbortSignal | undefined;
  stallMs?: number | undefined;
  /** The number of the last event that was had before. */
  after?: number | undefined;
  /** What it was doing there. */
  status?: AnswerStatus | undefined;
}

export type Status = ReturnType<typeof followStatus>;

export function followStatus(options: StatusOptions, told?: AnswerStatus) {
  const { onStatus, signal, stallMs = STALL_MS, after = 0, status = "waiting" } = options;
  let live = status;
  let begun = after > 0;
  let silence: ReturnType<typeof setTimeout> | undefined;

  function tell(next: AnswerStatus) {
    if (next !== told && !signal?.aborted) {
      told = next;
      onStatus?.(next);
    }
  }

  function listenForSilence() {
    clearTimeout(silence);
    silence = setTimeout(() => tell("stalled"), stallMs);
  }

  return {
    queued: () => tell("queued"),
    sent: () => tell(live),
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
    upstreamQueued() {
      if (!begun) {
        live = "upstream_queued";
        tell(live);
      }
    },
    event(text: string, reasoning: string) {
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
