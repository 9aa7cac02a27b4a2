/**
 * What the events of one answer mean, over one connection after the other. No I/O.
 *
 * - An event counts when all of it has come. Half of one is thrown away with its connection, and
 *   comes again as a whole with the next.
 * - Each event counts once, and none is left out; see `EventNumbers`.
 * - After the end, or after the abort, no listener is called.
 */

import { createParser } from "eventsource-parser";

import type { AnswerEnd, AnswerStatus, Chunk, StreamListeners } from "./answer.js";
import { createEnding } from "./answer-end.js";
import { EVENTS_GONE } from "./errors.js";
import { EventNumbers } from "./event-numbers.js";
import { asText, parse, type Unchecked } from "./json.js";
import { followStatus, type StatusOptions } from "./status.js";

export type ListenOptions = StreamListeners & StatusOptions;

export type Listening = ReturnType<typeof listen>;

/** @param told - the status that whoever listens knows of */
export function listen(options: ListenOptions, told?: AnswerStatus) {
  const { signal, after = 0 } = options;
  const status = followStatus(options, told);
  const numbers = new EventNumbers(after);
  const ending = createEnding(options, after);
  let end: AnswerEnd | null = null;
  let complete = false;
  let heard = false;
  let parser = createParser({});

  const callbacks = {
    onEvent({ id, event, data }: { id?: string | undefined; event?: string | undefined; data: string }) {
      if (end || signal?.aborted) {
        return;
      }
      // It is this reader's alone, and none of the answer's.
      const place = event === "account" && id === undefined ? "next" : numbers.placeOf(id);
      if (place === "next") {
        hear(event, data);
      } else if (place === "after a gap") {
        end = ending.cutOff(EVENTS_GONE);
      }
    },
    onComment(comment: string) {
      if (!end && !signal?.aborted && comment.trim() === "keep-alive") {
        status.upstreamQueued();
      }
    },
  };

  function hear(event: string | undefined, data: string) {
    const said = parse(data);
    if (data.trim() === "[DONE]") {
      complete = true;
      end = ending.over(ending.isStopped() ? "stopped" : "finished");
    } else if (event === "stopped") {
      ending.stop(said);
    } else if (event === "account") {
      ending.settle(said);
    } else if (event === "error") {
      end = ending.fail(said?.error);
    } else if (isOfRun(event, said)) {
      options.onRunEvent?.(event, said, numbers.last);
    } else {
      take(said);
    }
  }

  function take(chunk: Chunk) {
    if (chunk?.error && !chunk.choices) {
      end = ending.fail(chunk.error);
      return;
    }
    ending.count();
    options.onEvent?.(chunk, numbers.last);
    const { text, reasoning, ...more } = contentOf(chunk);
    ending.learn(more);
    status.event(text, reasoning);
    if (reasoning) {
      options.onReasoning?.(reasoning);
    }
    if (text) {
      options.onText?.(text);
    }
  }

  return {
    status,
    cutOff: ending.cutOff,
    /** A new connection: what the last one left unfinished is forgotten. */
    connected() {
      heard = true;
      parser = createParser(callbacks);
      status.connected();
    },
    /** Whether there was any connection. */
    heard: () => heard,
    /** Takes the stream's text, in whatever pieces. */
    feed: (text: string) => parser.feed(text),
    end: () => end,
    /** Whether `[DONE]` has come. */
    complete: () => complete,
    /** The number of the last event. */
    last: () => numbers.last,
    /** Whether the answer can be read on from there. */
    numbered: () => numbers.allThere,
    aborted: () => ending.over("aborted"),
    /** The end, if all but its `[DONE]` has come; else null. */
    stopped: () => (ending.isStopped() ? ending.over("stopped") : null),
  };
}

/** Whether an event is one of a run's own: it has a name, and is no chunk. */
function isOfRun(event: string | undefined, said: Unchecked): event is string {
  return Boolean(event) && !said?.choices && !said?.error;
}

/** What one chunk of DeepSeek's brings. */
function contentOf(chunk: Chunk) {
  const { delta, finish_reason: finishReason } = chunk?.choices?.[0] ?? {};
  return {
    text: asText(delta?.content),
    reasoning: asText(delta?.reasoning_content),
    ...(finishReason && { finishReason: asText(finishReason) }),
    ...(chunk?.usage && { usage: chunk.usage }),
  };
}
