/**
 * The Stop: it is not confirmed until the server has answered it, and never looks as if it were.
 *
 * - A Stop is tried again, with the same id, for as long as the page lives: at growing intervals, and
 *   at once when the network is back, when the page is shown again, and when it is about to go.
 * - The stream's own connection is closed after the Stop is answered. Closing it may stop the answer
 *   too, but then there is nothing left that could give a receipt.
 */

import type { Account } from "./account.js";
import { asText, type Unchecked } from "./json.js";
import type { StoppedCalls } from "./run-calls.js";
import { addressOf, fetchOf, isTemporary, type ServerOptions } from "./server.js";
import { sleep, within } from "./sleep.js";

/** Milliseconds before each further try; the last one goes on for ever. */
const PAUSES_MS = [200, 600, 1500, 3000, 5000, 10_000];
/** Milliseconds that one try may take; the server answers within about 2 seconds. */
const TRY_MS = 5000;
/** Milliseconds without an answer after which a Stop counts as unconfirmed, and the reading ends. */
const CONFIRM_MS = 1000;

/** The server's word that the connection to DeepSeek is closed, and what the answer came to. */
export interface Receipt extends Partial<Account>, StoppedCalls {
  sessionId: string;
  /** Where the answer was. */
  phase: "connecting" | "waiting" | "streaming";
  /** False if the close could not be confirmed in time. */
  upstreamClosed: boolean;
  /** Milliseconds from the arrival of the Stop to that close. */
  stopMs: number;
  /** How many of DeepSeek's events had come. */
  events: number;
  /** The name of the upstream that was asked last; null if none was. */
  upstream?: string | null;
  /** Whether that bills nothing more once its connection is closed. */
  billingStops?: "yes" | "no" | "unknown";
}

/**
 * What is known about a Stop.
 * - `stopped`: the receipt says that the connection to DeepSeek is closed.
 * - `unconfirmed`: nobody knows. It is still being tried, or, if there is a receipt, the server has
 *   stopped the answer and could not see the connection to DeepSeek close in time.
 * - `nothing-to-stop`: the server knows no such answer that runs. It has ended, or never began; or an
 *   earlier try has stopped it, whose reply was lost. If it is still on its way, it will be refused.
 * - `refused`: the server does not let this client stop it.
 */
export type StopState =
  | { state: "stopped"; receipt: Receipt }
  | { state: "unconfirmed"; receipt?: Receipt }
  | { state: "nothing-to-stop" }
  | { state: "refused"; status: number; message: string };

export interface StopOptions extends ServerOptions {
  /** Called with the last state, and with `unconfirmed` before it if that takes more than a second. */
  onState?: ((state: StopState) => void) | undefined;
  /** Its signal ends the reading of the answer. Aborted when the Stop is answered, or after a second. */
  closing?: AbortController | undefined;
  /** Ends the tries: the result is `unconfirmed` then. */
  signal?: AbortSignal | undefined;
}

/**
 * Stop an answer, wherever it is. Never throws for what a server or a network does.
 * @returns what is known at last. That may take as long as the network is away; `onState` tells more.
 */
export function stopChat(sessionId: string, options: StopOptions = {}): Promise<StopState> {
  const address = addressOf(options, `/cancel/${encodeURIComponent(sessionId)}`);
  return pressStop(address, options);
}

/** Stop the answer that this address is for. */
export async function pressStop(address: string, options: StopOptions): Promise<StopState> {
  const { onState, closing, signal } = options;
  const tell = (state: StopState) => {
    closing?.abort();
    report(onState, state);
    return state;
  };
  const offline = globalThis.navigator?.onLine === false;
  const timer = setTimeout(() => tell({ state: "unconfirmed" }), offline ? 0 : CONFIRM_MS);
  for (let tries = 0; ; tries += 1) {
    const state = await tryStop(address, options);
    if (state !== null || signal?.aborted) {
      clearTimeout(timer);
      return tell(state ?? { state: "unconfirmed" });
    }
    await sleep(PAUSES_MS[tries] ?? PAUSES_MS.at(-1)!, signal);
  }
}

/** Tells what is known. A listener that throws keeps no Stop from being sent, or from being tried again. */
export function report<T>(listener: ((state: T) => void) | undefined, state: T): void {
  try {
    listener?.(state);
  } catch (error) {
    globalThis.reportError?.(error);
  }
}

/** @returns null if another try makes sense */
async function tryStop(address: string, options: StopOptions): Promise<StopState | null> {
  const { headers = {} } = options;
  try {
    return await within(TRY_MS, options.signal, async (signal) => {
      const how = { method: "POST", headers, keepalive: true, signal };
      const response = await fetchOf(options)(address, how);
      return verdict(response, await response.json().catch(() => null));
    });
  } catch {
    return null;
  }
}

function verdict({ ok, status }: Response, body: Unchecked): StopState | null {
  if (ok) {
    // What says 200 and is no receipt comes from something between here and the server.
    return isReceipt(body) ? confirmed(body) : null;
  }
  if (status === 404 && body?.success === false) {
    return { state: "nothing-to-stop" };
  }
  const message = asText(body?.error) || asText(body?.message);
  return isTemporary(status) ? null : { state: "refused", status, message };
}

const RECEIPT = {
  success: "boolean",
  sessionId: "string",
  phase: "string",
  upstreamClosed: "boolean",
  stopMs: "number",
  events: "number",
};

function isReceipt(body: Unchecked): body is Receipt {
  return body?.success && Object.entries(RECEIPT).every(([name, type]) => typeof body[name] === type);
}

function confirmed(receipt: Receipt): StopState {
  return { state: receipt.upstreamClosed ? "stopped" : "unconfirmed", receipt };
}
