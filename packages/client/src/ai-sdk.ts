/**
 * `@chatproxy/client/ai-sdk`: a transport for the AI SDK's `useChat`, whose `stop()` is a Stop.
 *
 * `stop()` of `useChat` does nothing but abort its signal. Here the Stop is sent then, and the request
 * itself is closed when the server has answered, so that there is a receipt. Who only leaves (another
 * resume of the same chat has taken over, or the stream is cancelled) stops nothing.
 */

import { DefaultChatTransport, type HttpChatTransportInitOptions, type UIMessage } from "ai";

import { createAttention, type View } from "./attention.js";
import { addressOfStop, addressOfStream, placeOf, type Place } from "./chat-address.js";
import { eventStream, untilSilence } from "./connection.js";
import { NOT_A_STREAM } from "./errors.js";
import { parse } from "./json.js";
import { takeConnection } from "./locks.js";
import { outlast, QuestionEnd } from "./question-end.js";
import { resumeFor, TRY_MS, type Resume } from "./resume.js";
import { createSessionId } from "./session-id.js";
import { sleep, whenAborted, within } from "./sleep.js";
import { pressStop, report, type StopState } from "./stop.js";
import { readParts, type Parts } from "./ui-parts.js";

/** Milliseconds in which what a Stop is sent with must be known; else it is that of the question. */
const PREPARE_MS = 500;

/** Which answer something is about. */
export interface AnswerOfChat {
  chatId: string;
  /** null if the server has not said which answer it is. */
  sessionId: string | null;
}

export interface ChatProxyTransportOptions<UI_MESSAGE extends UIMessage>
  extends HttpChatTransportInitOptions<UI_MESSAGE> {
  /** Called at `stop()`, with `unconfirmed`; then with what became known, such as the receipt. */
  onStop?: ((stop: StopState & AnswerOfChat) => void) | undefined;
  /** Called if a question, or a resume, has to wait for a connection; see `connections`. */
  onQueued?: ((answer: AnswerOfChat) => void) | undefined;
  /** Seconds for which the server lets an answer go on without a reader; 0 if left out. */
  reconnectSeconds?: number | undefined;
  /** What the chats are shown in; looked at while the page is visible if left out. */
  view?: View | undefined;
  /** How many long connections a browser keeps to the server; see `ConnectionOptions`. */
  connections?: number | undefined;
}

type SendOptions = Parameters<DefaultChatTransport<UIMessage>["sendMessages"]>[0];
type ReconnectOptions = Parameters<DefaultChatTransport<UIMessage>["reconnectToStream"]>[0];

/** An answer that is read here. */
interface Reading extends AnswerOfChat, Place {
  closing: AbortController;
  /** Makes the request once more, with another signal. */
  request: (abortSignal: AbortSignal) => Promise<unknown>;
  /** With what it was asked for; null before that. */
  asked: RequestInit | null;
  /** null if it is not of a question. */
  end: QuestionEnd | null;
}

export class ChatProxyTransport<
  UI_MESSAGE extends UIMessage = UIMessage,
> extends DefaultChatTransport<UI_MESSAGE> {
  readonly #options: ChatProxyTransportOptions<UI_MESSAGE>;
  readonly #resume: Resume;
  /** By the signal that their requests have. */
  readonly #readings = new WeakMap<AbortSignal, Reading>();
  /** What answers requests that are made only to be looked at, likewise. */
  readonly #unsent = new WeakMap<AbortSignal, (init: RequestInit) => Response>();
  /** What is read of each chat. */
  readonly #current = new Map<string, Reading>();

  constructor(options: ChatProxyTransportOptions<UI_MESSAGE> = {}) {
    super(options);
    this.#options = options;
    this.#resume = resumeFor(options.reconnectSeconds ?? 0);
    this.fetch = async (url, init = {}) => of(this.#unsent, init)?.(init) ?? this.#ask(url, init);
  }

  override async sendMessages(options: SendOptions & { messages: UI_MESSAGE[] }): Promise<Parts> {
    const sessionId = createSessionId();
    const send = (abortSignal: AbortSignal) => super.sendMessages({ ...options, abortSignal });
    const reading = this.#begin(options.chatId, sessionId, send);
    const { signal: abortSignal } = reading.closing;
    whenAborted(options.abortSignal, () => this.#stop(reading));
    const parts = await this.#open(reading, options, () =>
      send(abortSignal).catch(async (error) => {
        // As in streamChat: the browser itself has sent it again, and the first one is answered.
        const runs = parse(error?.responseBody)?.code === "session_active";
        const { chatId: _, ...more } = options;
        const own = { ...more, chatId: sessionId, abortSignal };
        const parts = runs ? await super.reconnectToStream(own) : null;
        if (parts === null) {
          throw error;
        }
        return parts;
      }),
    );
    return parts;
  }

  override async reconnectToStream(options: ReconnectOptions): Promise<Parts | null> {
    const reconnect = (abortSignal: AbortSignal) =>
      super.reconnectToStream({ ...options, abortSignal });
    const reading = this.#begin(options.chatId, null, reconnect);
    let handedOut = false;
    whenAborted(options.abortSignal, () =>
      handedOut ? this.#stop(reading) : reading.closing.abort(),
    );
    const first = () => reconnect(reading.closing.signal);
    const parts = await this.#open(reading, options, first).catch(async (error) => {
      const end = () => this.#current.get(reading.chatId)?.end;
      if (await outlast(end, options.abortSignal)) {
        return null; // a question took over
      }
      throw error;
    });
    handedOut = true;
    return parts;
  }

  /** A new reading of a chat takes over from the one before, which is left. */
  #begin(chatId: string, sessionId: string | null, request: Reading["request"]): Reading {
    const closing = new AbortController();
    const end = sessionId === null ? null : new QuestionEnd();
    const reading = { chatId, sessionId, closing, request, asked: null, end, path: "", query: "" };
    this.#readings.set(reading.closing.signal, reading);
    this.#current.get(chatId)?.closing.abort();
    this.#current.set(chatId, reading);
    return reading;
  }

  async #end(reading: Reading): Promise<void> {
    if (this.#current.get(reading.chatId) === reading) {
      this.#current.delete(reading.chatId);
    }
    await reading.end?.come();
  }

  /** Reads what `first` opens, on as many connections as it takes. */
  async #open<PARTS extends Parts | null>(
    reading: Reading,
    options: SendOptions | ReconnectOptions,
    first: () => Promise<PARTS>,
  ): Promise<Parts | PARTS> {
    const { chatId, closing } = reading;
    const { signal } = closing;
    const { connections, view, onQueued } = this.#options;
    const server = { baseUrl: this.api, connections };
    const onWait = () => report(onQueued, { chatId, sessionId: reading.sessionId });
    const connection = await takeConnection(server, signal, onWait);
    const open = async () => {
      signal.throwIfAborted();
      const parts = await first();
      signal.throwIfAborted();
      return parts;
    };
    const parts = await open().catch(async (error) => {
      connection?.free();
      await this.#end(reading);
      throw error;
    });
    if (parts === null || connection === null) {
      connection?.free();
      await this.#end(reading);
      return parts;
    }
    const id = reading.sessionId ?? chatId;
    const resume = this.#resume;
    const { reconnectSeconds } = resume;
    const attention = createAttention({ sessionId: id, view, reconnectSeconds });
    const { abortSignal: _, ...more } = options;
    const source = {
      attention,
      resume,
      signal,
      take: () => attention.take(server, signal, onWait),
      again: () => super.reconnectToStream({ ...more, chatId: id, abortSignal: signal }),
    };
    const read = readParts(source, parts, connection);
    const over = () => {
      attention.close();
      return this.#end(reading);
    };
    signal.addEventListener("abort", () => {
      connection.free();
      void over();
      void read.return();
    });
    return new ReadableStream({
      async pull(controller) {
        const { done, value } = await read.next().catch(async (error) => {
          await over();
          throw error;
        });
        if (done) {
          await over();
          controller.close();
        } else {
          if (value.type === "error") {
            await reading.end?.come();
          }
          controller.enqueue(value);
        }
      },
      cancel: () => {
        if (!options.abortSignal?.aborted) {
          closing.abort();
        }
      },
    });
  }

  /** Every request goes through here: what it is sent with, and where, is what a Stop for it goes by. */
  async #ask(url: Parameters<typeof fetch>[0], init: RequestInit): Promise<Response> {
    const fetch = this.#options.fetch ?? globalThis.fetch;
    const reading = of(this.#readings, init);
    if (!reading) {
      return fetch(url, init);
    }
    const headers = new Headers(init.headers);
    if (init.method === "POST" && reading.sessionId !== null) {
      headers.set("X-Session-Id", reading.sessionId);
    }
    const readsAgain = reading.asked !== null && init.method !== "POST";
    if (!readsAgain) {
      Object.assign(reading, placeOf(url, init.method, this.api));
    }
    reading.asked = init;
    const how = { ...init, headers: Object.fromEntries(headers) };
    const again = this.prepareReconnectToStreamRequest ? url : addressOfStream(reading);
    const response = await (readsAgain
      ? within(TRY_MS, init.signal, (signal) => fetch(again, { ...how, signal }))
      : fetch(url, how));
    reading.sessionId = response.headers.get("X-Session-Id") ?? reading.sessionId;
    return response.status === 200 ? this.#stream(response) : response;
  }

  /** The reply, if it is an event stream, which ends if it is silent for long. */
  async #stream(response: Response): Promise<Response> {
    const body = await eventStream(response);
    if (body === null) {
      throw new TypeError(`network error: ${NOT_A_STREAM.message}`);
    }
    const { silenceMs } = this.#resume;
    return silenceMs === undefined ? response : new Response(untilSilence(body, silenceMs), response);
  }

  /** Sends the Stop, unless the chat's next reading has begun in the same breath. */
  async #stop(reading: Reading) {
    await null;
    const { chatId, sessionId, closing, asked } = reading;
    const { onStop } = this.#options;
    if (closing.signal.aborted) {
      return;
    }
    void this.#end(reading);
    if (asked === null) {
      closing.abort();
      report(onStop, { chatId, sessionId, state: "nothing-to-stop" });
      return;
    }
    const onState = (known: StopState) => report(onStop, { chatId, sessionId, ...known });
    onState({ state: "unconfirmed" });
    await pressStop(addressOfStop(reading), {
      fetch: async (url, init) => {
        const now = await this.#askedNow(reading, asked);
        const headers = new Headers(now.headers);
        headers.delete("Content-Type");
        const { credentials } = now;
        const how = { ...init, headers: Object.fromEntries(headers) };
        const fetch = this.#options.fetch ?? globalThis.fetch;
        return fetch(url, { ...how, ...(credentials && { credentials }) });
      },
      closing,
      onState,
    });
  }

  /** With what the request would be sent now: a token may have changed since. */
  async #askedNow({ request }: Reading, asked: RequestInit): Promise<RequestInit> {
    const over = new AbortController();
    const made = new AbortController();
    let now = asked;
    this.#unsent.set(made.signal, (init) => {
      now = init;
      return new Response(null, { status: 204 });
    });
    const whenMade = request(made.signal).catch(() => undefined);
    await Promise.race([whenMade, sleep(PREPARE_MS, over.signal)]);
    over.abort();
    return now;
  }
}

/** What there is for the signal of a request. */
function of<T>(bySignal: WeakMap<AbortSignal, T>, { signal }: RequestInit): T | undefined {
  return signal ? bySignal.get(signal) : undefined;
}
