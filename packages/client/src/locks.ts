/**
 * What the tabs of a browser share, by Web Locks: the long connections, and who keeps an answer. A
 * lock goes with its tab. Over plain HTTP there are no Web Locks; then each tab counts for itself.
 */

import { originOf, type ServerOptions } from "./server.js";

/** Long connections to one server, of the six that a browser has; the others are for Stops. */
const MOST_CONNECTIONS = 4;
/** Milliseconds after which whoever waits for a connection is told so. */
const TOLD_AFTER_MS = 100;

export interface ConnectionOptions extends ServerOptions {
  /**
   * How many long connections to the server a browser keeps, all tabs together. If left out, 4 over
   * HTTP/1.1; as many as are wanted over HTTP/2 and outside of browsers.
   */
  connections?: number | undefined;
}

export interface Connection {
  /** Whether it had to be waited for. */
  waited: boolean;
  free: () => void;
}

/**
 * Takes one of the long connections.
 * @param onWait - called if there is none for the moment
 * @returns null after the signal
 */
export async function takeConnection(
  options: ConnectionOptions,
  signal: AbortSignal | undefined,
  onWait: () => void,
): Promise<Connection | null> {
  const most = options.connections ?? (isLimited(options) ? MOST_CONNECTIONS : Infinity);
  if (most === Infinity || signal?.aborted) {
    return signal?.aborted ? null : { waited: false, free: () => undefined };
  }
  let waited = false;
  const timer = setTimeout(() => {
    waited = true;
    onWait();
  }, TOLD_AFTER_MS);
  const server = originOf(options);
  const names = Array.from({ length: most }, (_, n) => `chatproxy.connection.${server}.${n}`);
  const free = await takeOneOf(names, signal);
  clearTimeout(timer);
  return free && { waited, free };
}

/** Has `onKept` called once this tab is the keeper of an answer, which it is until the signal. */
export async function keep(id: string, signal: AbortSignal, onKept: () => void): Promise<void> {
  const free = await takeOneOf([`chatproxy.keeper.${id}`], signal);
  if (signal.aborted) {
    free?.();
  } else if (free) {
    signal.addEventListener("abort", free);
    onKept();
  }
}

/** Whether this is a browser, and the server is not known to be reached over HTTP/2 or later. */
function isLimited(options: ServerOptions): boolean {
  const { location, performance } = globalThis;
  if (!location) {
    return false;
  }
  const [page] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
  return !(originOf(options) === location.origin && /^h[23]/.test(page?.nextHopProtocol ?? ""));
}

/**
 * Takes the first of some locks that can be had.
 * @returns what frees it; null after the signal
 */
function takeOneOf(names: string[], signal?: AbortSignal): Promise<(() => void) | null> {
  const others = new AbortController();
  const locks: Locks = globalThis.navigator?.locks ?? pageLocks;
  return new Promise((resolve) => {
    let over = false;
    const end = (free: (() => void) | null) => {
      over = true;
      resolve(free);
      others.abort();
    };
    for (const name of names) {
      const held = () => over || new Promise<void>((free) => end(free));
      locks.request(name, { signal: others.signal }, held).catch(() => undefined);
    }
    signal?.addEventListener("abort", () => end(null), { signal: others.signal });
  });
}

/** The part of `LockManager` that is used here. */
interface Locks {
  request(name: string, options: { signal: AbortSignal }, held: () => unknown): Promise<unknown>;
}

/** Locks of this page alone. */
const pageLocks: Locks & { lines: Map<string, Promise<unknown>> } = {
  lines: new Map(),
  async request(name, { signal }, held) {
    const before = this.lines.get(name);
    const turn = (async () => {
      await before;
      return signal.aborted ? undefined : held();
    })();
    this.lines.set(name, turn);
    await turn;
    if (this.lines.get(name) === turn) {
      this.lines.delete(name);
    }
  },
};
