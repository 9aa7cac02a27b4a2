/**
 * `@chatproxy/client/ai-sdk`: a transport for the AI SDK's `useChat`, whose `stop()` is a Stop.
 *
 * `stop()` of `useChat` does nothing but abort its signal. Here the Stop is sent then, and the request
 * itself is closed when the server has answered, so that there is a receipt. Who only leaves (another
 * resume of the same chat has taken over, or the stream is cancelled) stops nothing.
 */

import { DefaultChatTransport, type HttpChatTransportInitOptions, type UIMessage } from "ai";

import { createAttention, type View } from "./attention.js";
import { takeConnection, type Connection } from "./locks.js";
import { resumeFor } from "./resume.js";
import { createSessionId } from "./session-id.js";
import { pressStop, type StopState } from "./stop.js";
import { readParts, type Parts } from "./ui-parts.js";

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
interface Reading extends AnswerOfChat {
  closing: AbortController;
  /** With what it was asked for; null before that. */
  asked: RequestInit | null;
}

export class ChatProxyTransport<
  UI_MESSAGE extends UIMessage = UIMessage,
> extends DefaultChatTransport<UI_MESSAGE> {
  readonly #options: ChatProxyTransportOptions<UI_MESSAGE>;
  /** By the signal that their requests have. */
  readonly #readings = new WeakMap<AbortSignal, Reading>();
  /** What is read of each chat. */
  readonly #current = new Map<string, Reading>();

  constructor(options: ChatProxyTransportOptions<UI_MESSAGE> = {}) {
    super(options);
    this.#options = options;
    this.fetch = (url, init) => this.#ask(url, init ?? {});
  }

  override async sendMessages(options: SendOptions & { messages: UI_MESSAGE[] }): Promise<Parts> {
    const reading = this.#begin(options.chatId, createSessionId());
    const { signal } = reading.closing;
    options.abortSignal?.addEventListener("abort", () => this.#stop(reading));
    const parts = await this.#open(reading, options, () =>
      super.sendMessages({ ...options, abortSignal: signal }),
    );
    return parts!;
  }

  override async reconnectToStream(options: ReconnectOptions): Promise<Parts | null> {
    const reading = this.#begin(options.chatId, null);
    const { signal } = reading.closing;
    let handedOut = false;
    options.abortSignal?.addEventListener("abort", () =>
      handedOut ? this.#stop(reading) : reading.closing.abort(),
    );
    const parts = await this.#open(reading, options, () =>
      super.reconnectToStream({ ...options, abortSignal: signal }),
    );
    handedOut = true;
    return parts;
  }

  /** A new reading of a chat takes over from the one before, which is left. */
  #begin(chatId: string, sessionId: string | null): Reading {
    const reading = { chatId, sessionId, closing: new AbortController(), asked: null };
    this.#readings.set(reading.closing.signal, reading);
    this.#current.get(chatId)?.closing.abort();
    this.#current.set(chatId, reading);
    return reading;
  }

  #end(reading: Reading) {
    if (this.#current.get(reading.chatId) === reading) {
      this.#current.delete(reading.chatId);
    }
  }

  /** Reads what `first` opens, on as many connections as it takes. */
  async #open<PARTS extends Parts | null>(
    reading: Reading,
    options: SendOptions | ReconnectOptions,
    first: () => Promise<PARTS>,
  ): Promise<Parts | PARTS> {
    const { chatId, closing } = reading;
    const { signal } = closing;
    const connection = await this.#take(reading);
    signal.throwIfAborted();
    const parts = await first().catch((error) => {
      connection?.free();
      this.#end(reading);
      throw error;
    });
    if (parts === null || connection === null) {
      connection?.free();
      this.#end(reading);
      return parts;
    }
    const id = reading.sessionId ?? chatId;
    const resume = resumeFor(this.#options.reconnectSeconds ?? 0);
    const { reconnectSeconds } = resume;
    const attention = createAttention({ sessionId: id, view: this.#options.view, reconnectSeconds });
    const { abortSignal: _, ...more } = options;
    const source = {
      attention,
      resume,
      signal,
      take: () => this.#take(reading),
      again: () => super.reconnectToStream({ ...more, chatId: id, abortSignal: signal }),
    };
    const read = readParts(source, parts, connection);
    const over = () => {
      attention.close();
      this.#end(reading);
    };
    signal.addEventListener("abort", () => {
      over();
      void read.return();
    });
    return new ReadableStream({
      async pull(controller) {
        const { done, value } = await read.next().catch((error) => {
          over();
          throw error;
        });
        if (done) {
          over();
          controller.close();
        } else {
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

  #take({ chatId, sessionId, closing }: Reading): Promise<Connection | null> {
    const { connections, onQueued } = this.#options;
    const onWait = () => onQueued?.({ chatId, sessionId });
    return takeConnection({ baseUrl: this.api, connections }, closing.signal, onWait);
  }

  /** Every request goes through here: what it is sent with is what a Stop for it is sent with. */
  async #ask(url: Parameters<typeof fetch>[0], init: RequestInit): Promise<Response> {
    const fetch = this.#options.fetch ?? globalThis.fetch;
    const reading = init.signal ? this.#readings.get(init.signal) : undefined;
    if (!reading) {
      return fetch(url, init);
    }
    const headers = new Headers(init.headers);
    if (init.method === "POST" && reading.sessionId !== null) {
      headers.set("X-Session-Id", reading.sessionId);
    }
    reading.asked = init;
    const response = await fetch(url, { ...init, headers: Object.fromEntries(headers) });
    reading.sessionId = response.headers.get("X-Session-Id") ?? reading.sessionId;
    return response;
  }

  /** Sends the Stop, unless the chat's next reading has begun in the same breath. */
  async #stop(reading: Reading) {
    await null;
    const { chatId, sessionId, closing, asked } = reading;
    if (closing.signal.aborted) {
      return;
    }
    this.#end(reading);
    if (asked === null) {
      closing.abort();
      this.#options.onStop?.({ chatId, sessionId, state: "nothing-to-stop" });
      return;
    }
    const onState = (known: StopState) => this.#options.onStop?.({ chatId, sessionId, ...known });
    onState({ state: "unconfirmed" });
    const { "content-type": _, ...headers } = Object.fromEntries(new Headers(asked.headers));
    const fetch = this.#options.fetch ?? globalThis.fetch;
    const { credentials } = asked;
    await pressStop(this.#addressOfStop(reading), {
      headers,
      fetch: (url, init) => fetch(url, { ...init, ...(credentials && { credentials }) }),
      closing,
      onState,
    });
  }

  #addressOfStop({ chatId, sessionId }: Reading): string {
    const [api] = this.api.split(/[?#]/, 1);
    return sessionId === null
      ? `${api}/${encodeURIComponent(chatId)}/stop`
      : `${api}/cancel/${encodeURIComponent(sessionId)}`;
  }
}
