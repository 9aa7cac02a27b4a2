import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { listRunning, stopChat, type StopOptions } from "../src/index.js";
import { json, serve, type Server } from "./server.js";

const RECEIPT = {
  success: true,
  sessionId: "session_1",
  phase: "streaming",
  upstreamClosed: true,
  stopMs: 1.7,
  events: 42,
};
const STOPPED = { state: "stopped", receipt: RECEIPT };
const NOT_FOUND = { success: false, message: "Session not found" };

let server: Server | undefined;

afterEach(async () => {
  await server?.close();
  server = undefined;
});

describe("stopChat, to a real server", () => {
  it("posts to the address of the id, and gives the receipt", async () => {
    server = await serve(json(200, RECEIPT));
    const { baseUrl } = server;
    const result = await stopChat("session_1", { baseUrl, headers: { Authorization: "Bearer t" } });
    expect(result).toEqual(STOPPED);
    expect(server.asked).toMatchObject([
      { method: "POST", url: "/api/chat/cancel/session_1", headers: { authorization: "Bearer t" } },
    ]);
  });

  it("takes a 404 for what it is: nothing is left to stop", async () => {
    server = await serve(json(404, NOT_FOUND));
    expect(await stopChat("session_1", server)).toEqual({ state: "nothing-to-stop" });
    expect(server.asked).toHaveLength(1);
  });

  it("does not try again if the server means it", async () => {
    server = await serve(json(401, { error: "Who?", code: "unauthorized" }));
    const refused = { state: "refused", status: 401, message: "Who?" };
    expect(await stopChat("session_1", server)).toEqual(refused);
    expect(server.asked).toHaveLength(1);
  });

  it("does not take the 404 of something else for the server's", async () => {
    server = await serve((response) => response.writeHead(404).end("<h1>Not found</h1>"));
    expect(await stopChat("session_1", server)).toMatchObject({ state: "refused", status: 404 });
  });

  it("puts ids with special characters into the address safely", async () => {
    server = await serve(json(404, NOT_FOUND));
    await stopChat("a:b/../c?d", server);
    expect(server.asked[0]?.url).toBe("/api/chat/cancel/a%3Ab%2F..%2Fc%3Fd");
  });
});

describe("stopChat, while it is not confirmed", () => {
  type Reply = () => Response | Promise<Response>;

  let tries: { url: string; init: RequestInit; at: number }[];
  let network: EventTarget & { onLine: boolean; visibilityState: string };

  const receipt: Reply = () => Response.json(RECEIPT);
  const busy: Reply = () => Response.json({ success: false, message: "Ask again." }, { status: 503 });
  const lost: Reply = () => Promise.reject(new TypeError("fetch failed"));
  const never: Reply = () => new Promise(() => undefined);

  beforeEach(() => {
    tries = [];
    vi.useFakeTimers({ now: 0 });
    network = Object.assign(new EventTarget(), { onLine: true, visibilityState: "visible" });
    vi.stubGlobal("navigator", network);
    vi.stubGlobal("document", network);
    vi.stubGlobal("addEventListener", network.addEventListener.bind(network));
  });

  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  /** Each try gets the next of these replies; the last one is for all further tries. */
  function press(replies: Reply[], options: StopOptions = {}) {
    const fetch = async (url: any, init: RequestInit = {}) => {
      tries.push({ url, init, at: Date.now() });
      const reply = (replies[tries.length - 1] ?? replies.at(-1)!)();
      const given = new Promise<never>((_, reject) =>
        init.signal?.addEventListener("abort", () => reject(new DOMException("", "AbortError"))),
      );
      return Promise.race([reply, given]);
    };
    const states: string[] = [];
    const onState = ({ state }: { state: string }) => void states.push(state);
    return { states, end: stopChat("session_1", { fetch, onState, ...options }) };
  }

  it("survives the page: the request is a keepalive one", async () => {
    await press([receipt]).end;
    expect(tries[0]?.init).toMatchObject({ method: "POST", keepalive: true });
  });

  it.each([
    ["a 5xx", busy],
    ["a network error", lost],
    ["a 429", () => Response.json({ error: "Slowly." }, { status: 429 })],
    ["a page of something between", () => new Response("<h1>Sign in</h1>")],
    ["what is no receipt", () => Response.json({ success: true })],
    ["a part of a receipt", () => Response.json({ ...RECEIPT, stopMs: undefined })],
  ])("tries again after %s, with the same id", async (_why, reply) => {
    const { end, states } = press([reply, reply, receipt]);
    await vi.runAllTimersAsync();
    expect(await end).toEqual(STOPPED);
    expect(tries.map(({ url }) => url)).toEqual(Array(3).fill("/api/chat/cancel/session_1"));
    expect(states).toEqual(["stopped"]);
  });

  it("says after a second that it is not confirmed, and goes on until it is", async () => {
    let reply = lost;
    const { end, states } = press([() => reply()]);
    await vi.advanceTimersByTimeAsync(990);
    expect(states).toEqual([]);
    await vi.advanceTimersByTimeAsync(60 * 60 * 1000);
    expect(states).toEqual(["unconfirmed"]);
    expect(tries.length).toBeGreaterThan(300);
    reply = receipt;
    await vi.advanceTimersByTimeAsync(10_000);
    expect(await end).toEqual(STOPPED);
    expect(states).toEqual(["unconfirmed", "stopped"]);
  });

  it("goes on although a listener throws", async () => {
    const onState = vi.fn(() => {
      throw new Error("Mine.");
    });
    const reported = vi.fn();
    vi.stubGlobal("reportError", reported);
    const { end } = press([never, receipt], { onState });
    await vi.runAllTimersAsync();
    expect(await end).toEqual(STOPPED);
    expect(onState).toHaveBeenCalledTimes(2);
    expect(reported).toHaveBeenCalledTimes(2);
  });

  it("gives a try that gets no reply up after 5 seconds", async () => {
    const { end, states } = press([never, receipt]);
    await vi.advanceTimersByTimeAsync(5300);
    expect(await end).toEqual(STOPPED);
    expect(states).toEqual(["unconfirmed", "stopped"]);
  });

  it.each(["online", "visibilitychange", "pagehide"])("tries at once at %s", async (event) => {
    press([lost]);
    await vi.advanceTimersByTimeAsync(60_000);
    const before = tries.length;
    network.dispatchEvent(new Event(event));
    await vi.advanceTimersByTimeAsync(0);
    expect(tries).toHaveLength(before + 1);
  });

  it("is not confirmed by a receipt that does not know of the close", async () => {
    const open = { ...RECEIPT, upstreamClosed: false };
    const { end, states } = press([() => Response.json(open)]);
    expect(await end).toEqual({ state: "unconfirmed", receipt: open });
    expect(states).toEqual(["unconfirmed"]);
  });

  it("ends with its signal, and is not confirmed then", async () => {
    const given = new AbortController();
    const { end } = press([never], { signal: given.signal });
    await vi.advanceTimersByTimeAsync(2000);
    given.abort();
    expect(await end).toEqual({ state: "unconfirmed" });
  });

  it("ends the reading when it is answered, and not before", async () => {
    const closing = new AbortController();
    const { end } = press([busy, receipt], { closing });
    await vi.advanceTimersByTimeAsync(150);
    expect(closing.signal.aborted).toBe(false);
    await vi.advanceTimersByTimeAsync(100);
    await end;
    expect(closing.signal.aborted).toBe(true);
  });

  it("ends the reading after a second without an answer", async () => {
    const closing = new AbortController();
    press([never], { closing });
    await vi.advanceTimersByTimeAsync(990);
    expect(closing.signal.aborted).toBe(false);
    await vi.advanceTimersByTimeAsync(20);
    expect(closing.signal.aborted).toBe(true);
  });

  it("ends the reading at once without a network", async () => {
    network.onLine = false;
    const closing = new AbortController();
    const { states } = press([lost], { closing });
    await vi.advanceTimersByTimeAsync(1);
    expect(closing.signal.aborted).toBe(true);
    expect(states).toEqual(["unconfirmed"]);
  });
});

describe("listRunning", () => {
  it("gives the ids of the answers that have not ended", async () => {
    const sessions = [
      { sessionId: "a", outcome: null },
      { sessionId: "b", outcome: "finished" },
    ];
    server = await serve(json(200, { sessions }));
    const headers = { Authorization: "Bearer t" };
    expect(await listRunning({ baseUrl: server.baseUrl, headers })).toEqual(["a"]);
    expect(server.asked).toMatchObject([
      { method: "GET", url: "/api/chat/sessions", headers: { authorization: "Bearer t" } },
    ]);
  });

  it.each([
    [403, { error: "No owners.", code: "owners_unknown" }],
    [200, { sessions: null }],
    [200, "odd"],
  ])("gives none if the server can't tell: %i %j", async (status, body) => {
    server = await serve(json(status, body));
    expect(await listRunning(server)).toEqual([]);
  });
});
