import { Chat } from "@ai-sdk/react";
import type { UIMessage, UIMessageChunk } from "ai";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { ChatProxyTransport, type ChatProxyTransportOptions } from "../src/ai-sdk.js";
import { createView } from "../src/index.js";
import { EVENT_STREAM } from "./server.js";

const RECEIPT = { success: true, sessionId: "s", phase: "streaming", upstreamClosed: true, stopMs: 1, events: 1 };
const BEGIN: UIMessageChunk[] = [
  { type: "start", messageId: "m" },
  { type: "start-step" },
  { type: "text-start", id: "t" },
];
const END: UIMessageChunk[] = [
  { type: "text-end", id: "t" },
  { type: "finish-step" },
  { type: "finish", finishReason: "stop" },
];
const word = (delta: string): UIMessageChunk => ({ type: "text-delta", id: "t", delta });
const plainly = (part: UIMessageChunk) => `data: ${JSON.stringify(part)}\n\n`;

interface Stream {
  method: string;
  url: string;
  headers: Headers;
  write: (text: string) => void;
  end: () => void;
  break: () => void;
  gone: boolean;
}

let streams: Stream[];
let cancels: { url: string; headers: Headers; credentials: unknown; gone: boolean }[];
let cancel: () => Response | Promise<Response>;
/** All that the server has to say; null: it knows no such answer. */
let log: string[] | null;
let refuse: ((method: string) => Response | undefined) | null;
/** What a resume has to wait for. */
let held: Promise<void> | null;
/** What a question has to wait for, and what it is answered with if not as usual. */
let asked: Promise<Response | undefined> | null;
/** How many resumes have been asked for. */
let gets: number;
/** Whether the page can't see the response's X-Session-Id. */
let nameless: boolean;
let stops: any[];

async function fetch(url: any, init: RequestInit = {}): Promise<Response> {
  const { method = "GET", signal } = init;
  const headers = new Headers(init.headers);
  if (method === "POST" && /\/(cancel|stop)\b/.test(url)) {
    const { credentials } = init;
    cancels.push({ url, headers, credentials, gone: streams.at(-1)?.gone ?? false });
    return cancel();
  }
  const refusal = refuse?.(method);
  if (refusal) {
    return refusal;
  }
  const other = method === "POST" && (await asked);
  if (other) {
    return other;
  }
  if (method === "GET") {
    gets += 1;
    const given = new Promise((_, reject) =>
      signal?.addEventListener("abort", () => reject(signal.reason)),
    );
    await Promise.race([held, given]);
  }
  if (log === null) {
    return new Response(null, { status: 204 });
  }
  let controller: ReadableStreamDefaultController<Uint8Array>;
  const body = new ReadableStream<Uint8Array>({
    start: (given) => void (controller = given),
    cancel: () => void (stream.gone = true),
  });
  let over = false;
  const guarded = (act: () => void, last = true) => {
    if (!over && !stream.gone) {
      over = last;
      act();
    }
  };
  const stream: Stream = {
    method,
    url,
    headers,
    gone: false,
    write: (text) => guarded(() => controller.enqueue(new TextEncoder().encode(text)), false),
    end: () => guarded(() => controller.close()),
    break: () => guarded(() => controller.error(new TypeError("network error"))),
  };
  signal?.addEventListener("abort", () =>
    guarded(() => {
      stream.gone = true;
      controller.error(new DOMException("", "AbortError"));
    }),
  );
  streams.push(stream);
  log.forEach(stream.write);
  const sessionId = headers.get("X-Session-Id") ?? "answer-of-chat";
  const named = nameless ? {} : { "X-Session-Id": sessionId };
  return new Response(body, { headers: { ...EVENT_STREAM, ...named } });
}

/** The server says more, on every connection. */
function say(...parts: UIMessageChunk[]) {
  for (const part of parts) {
    log?.push(plainly(part));
    streams.forEach((stream) => stream.write(plainly(part)));
  }
}

function finish() {
  say(...END);
  streams.forEach((stream) => stream.write("data: [DONE]\n\n"));
  streams.forEach((stream) => stream.end());
}

function createChat(options: ChatProxyTransportOptions<UIMessage> = {}, messages: UIMessage[] = []) {
  const transport = new ChatProxyTransport({ fetch, onStop: (stop) => stops.push(stop), ...options });
  return new Chat({ id: "chat-1", transport, messages });
}

const textOf = ({ messages }: Chat<UIMessage>) =>
  messages
    .filter(({ role }) => role === "assistant")
    .flatMap(({ parts }) => parts.map((part) => (part.type === "text" ? part.text : "")))
    .join("");
const until = (claim: () => void) => vi.waitFor(claim, { interval: 5, timeout: 4000 });

async function asking(options: ChatProxyTransportOptions<UIMessage> = {}) {
  const chat = createChat(options);
  const sent = chat.sendMessage({ text: "Hello" });
  await until(() => expect(textOf(chat)).toBe("Half"));
  return { chat, sent };
}

beforeEach(() => {
  streams = [];
  cancels = [];
  stops = [];
  refuse = null;
  held = null;
  asked = null;
  gets = 0;
  nameless = false;
  log = [...BEGIN, word("Half")].map(plainly);
  cancel = () => Response.json(RECEIPT);
});

afterEach(() => {
  streams.forEach((stream) => stream.end());
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("ChatProxyTransport", () => {
  it("asks with an id for each question, and gives the answer", async () => {
    const { chat, sent } = await asking();
    say(word(" and half"));
    finish();
    await sent;
    expect(textOf(chat)).toBe("Half and half");
    expect(chat.status).toBe("ready");
    log = [...BEGIN, word("Again"), ...END].map(plainly);
    const again = chat.sendMessage({ text: "More" });
    await until(() => expect(streams).toHaveLength(2));
    streams[1]?.end();
    await again;
    const ids = streams.map(({ headers }) => headers.get("X-Session-Id"));
    expect(ids).toEqual([expect.stringMatching(/^session_\d+_\w+$/), expect.stringMatching(/^session_/)]);
    expect(ids[0]).not.toBe(ids[1]);
    expect(streams.map(({ method, url }) => [method, url])).toEqual(Array(2).fill(["POST", "/api/chat"]));
  });

  it("presses the real Stop at stop(), before the request is closed, and has the receipt", async () => {
    const { chat } = await asking({ headers: { Authorization: "Bearer t" } });
    const id = streams[0]?.headers.get("X-Session-Id");
    await chat.stop();
    expect(chat.status).toBe("ready");
    expect(textOf(chat)).toBe("Half");
    await until(() => expect(stops.at(-1)).toMatchObject({ state: "stopped", receipt: RECEIPT }));
    expect(stops[0]).toEqual({ chatId: "chat-1", sessionId: id, state: "unconfirmed" });
    expect(cancels).toMatchObject([{ url: `/api/chat/cancel/${id}`, gone: false }]);
    expect(cancels[0]?.headers.get("Authorization")).toBe("Bearer t");
    await until(() => expect(streams[0]?.gone).toBe(true));
  });

  it("presses it before there is a reply, too", async () => {
    log = [];
    const chat = createChat();
    void chat.sendMessage({ text: "Hello" });
    await until(() => expect(streams).toHaveLength(1));
    await chat.stop();
    await until(() => expect(stops.at(-1)).toMatchObject({ state: "stopped" }));
  });

  it("asks and resumes nothing if it was stopped before", async () => {
    const transport = new ChatProxyTransport({ fetch, onStop: (stop) => stops.push(stop) });
    const options = { chatId: "chat-1", messageId: undefined, abortSignal: AbortSignal.abort() };
    const question = { ...options, trigger: "submit-message" as const, messages: [] };
    await expect(transport.sendMessages(question)).rejects.toMatchObject({ name: "AbortError" });
    expect(stops).toMatchObject([{ state: "nothing-to-stop" }]);
    await expect(transport.reconnectToStream(options)).rejects.toMatchObject({ name: "AbortError" });
    expect([streams, gets, cancels]).toEqual([[], 0, []]);
  });

  it("never says that a Stop is confirmed that is not", async () => {
    cancel = () => Promise.reject(new TypeError("fetch failed"));
    const { chat } = await asking();
    await chat.stop();
    await until(() => expect(cancels.length).toBeGreaterThan(1));
    expect(stops.map(({ state }) => state)).toEqual(["unconfirmed"]);
    cancel = () => Response.json(RECEIPT);
    await until(() => expect(stops.at(-1)).toMatchObject({ state: "stopped" }));
  });

  it("resumes after a reload, from the start", async () => {
    const chat = createChat();
    const resumed = chat.resumeStream();
    await until(() => expect(textOf(chat)).toBe("Half"));
    expect(streams).toMatchObject([{ method: "GET", url: "/api/chat/chat-1/stream" }]);
    say(word(" and half"));
    finish();
    await resumed;
    expect(textOf(chat)).toBe("Half and half");
  });

  it("has nothing to resume if the server says so", async () => {
    log = null;
    const chat = createChat();
    await chat.resumeStream();
    expect(chat.status).toBe("ready");
    expect(chat.messages).toEqual([]);
  });

  it("stops what it has resumed, by the id of that answer", async () => {
    const chat = createChat();
    void chat.resumeStream();
    await until(() => expect(textOf(chat)).toBe("Half"));
    await chat.stop();
    await until(() => expect(stops.at(-1)).toMatchObject({ state: "stopped", receipt: RECEIPT }));
    expect(cancels.map(({ url }) => url)).toEqual(["/api/chat/cancel/answer-of-chat"]);
  });

  it("stops what it has resumed by the chat's id if it can't see another", async () => {
    nameless = true;
    const chat = createChat();
    void chat.resumeStream();
    await until(() => expect(textOf(chat)).toBe("Half"));
    await chat.stop();
    await until(() => expect(stops.at(-1)).toMatchObject({ state: "stopped", sessionId: null }));
    expect(cancels.map(({ url }) => url)).toEqual(["/api/chat/chat-1/stop"]);
  });

  it("stops nothing when a resume is given up before it has begun, as StrictMode does", async () => {
    const chat = createChat();
    const first = chat.resumeStream();
    const stopped = chat.stop();
    const second = chat.resumeStream();
    await until(() => expect(textOf(chat)).toBe("Half"));
    await Promise.all([first, stopped]);
    expect(cancels).toEqual([]);
    finish();
    await second;
    expect(textOf(chat)).toBe("Half");
  });

  it("stops nothing when a resume is given up before the server has answered it", async () => {
    let letGo: () => void = () => undefined;
    held = new Promise((resolve) => (letGo = resolve));
    const chat = createChat();
    const resumed = chat.resumeStream();
    await new Promise((resolve) => setTimeout(resolve, 10));
    const stopped = chat.stop();
    letGo();
    await Promise.all([resumed, stopped]);
    expect([cancels, stops]).toEqual([[], []]);
  });

  it("stops nothing when another resume of the chat takes over", async () => {
    const chat = createChat();
    const first = chat.resumeStream();
    await until(() => expect(textOf(chat)).toBe("Half"));
    const second = chat.resumeStream();
    await first;
    await until(() => expect(streams).toHaveLength(2));
    expect(streams[0]?.gone).toBe(true);
    finish();
    await second;
    expect(cancels).toEqual([]);
    expect(textOf(chat)).toBe("Half");
  });

  it.each(["finished", "failed", "refused", "stopped"])(
    "leaves the status to a question that is sent while a resume waits, until it is %s",
    async (how) => {
      held = new Promise(() => undefined);
      const chat = createChat();
      const resumed = chat.resumeStream();
      await until(() => expect(gets).toBe(1));
      log = [];
      let answer: (response?: Response) => void = () => undefined;
      asked = new Promise((resolve) => (answer = resolve));
      const sent = chat.sendMessage({ text: "Hello" });
      await new Promise((resolve) => setTimeout(resolve, 10));
      expect(chat.status).toBe("submitted");
      answer(how === "refused" ? Response.json({ error: "Too many." }, { status: 429 }) : undefined);
      if (how !== "refused") {
        await until(() => expect(streams).toHaveLength(1));
        say(...BEGIN, word("Half"));
        await until(() => expect(chat.status).toBe("streaming"));
        if (how === "finished") {
          finish();
        } else if (how === "failed") {
          say({ type: "error", errorText: "No more." });
        } else {
          await chat.stop();
        }
      }
      await Promise.all([sent, resumed]);
      expect(chat.status).toBe(how === "failed" || how === "refused" ? "error" : "ready");
    },
  );

  it("shows a refusal as an error", async () => {
    refuse = () => Response.json({ error: "Too many.", code: "too_many_sessions" }, { status: 429 });
    const chat = createChat();
    await chat.sendMessage({ text: "Hello" });
    expect(chat.status).toBe("error");
    expect(chat.error?.message).toContain("Too many.");
  });

  it.each(["break", "end"] as const)("reads on when the connection %ss, without a word twice", async (how) => {
    const { chat, sent } = await asking();
    streams[0]?.[how]();
    await until(() => expect(streams).toHaveLength(2));
    const id = streams[0]?.headers.get("X-Session-Id");
    expect(streams[1]).toMatchObject({ method: "GET", url: `/api/chat/${id}/stream` });
    say(word(" and half"));
    finish();
    await sent;
    expect(textOf(chat)).toBe("Half and half");
  });

  it("never passes a cut answer off as a complete one", async () => {
    const { chat, sent } = await asking();
    log = null;
    streams[0]?.end();
    await sent;
    expect(chat.status).toBe("error");
    expect(textOf(chat)).toBe("Half");
  });

  it.each([
    ["a page", () => new Response("<h1>Sign in</h1>", { headers: { "Content-Type": "text/html" } })],
    ["an empty stream", () => new Response("", { headers: EVENT_STREAM })],
    ["nothing new", () => new Response(log?.join(""), { headers: EVENT_STREAM })],
    ["a 429", () => Response.json({ error: "Slowly." }, { status: 429 })],
  ])("tries again through %s, and gives up in the end", async (_why, reply) => {
    vi.useFakeTimers();
    const { chat, sent } = await asking();
    let tries = 0;
    refuse = () => {
      tries += 1;
      return reply();
    };
    streams[0]?.break();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(chat.status).toBe("streaming");
    await vi.advanceTimersByTimeAsync(20_000);
    await sent;
    expect(chat.status).toBe("error");
    expect(textOf(chat)).toBe("Half");
    expect(tries).toBeLessThan(12);
  });

  it("does not take a page for an answer", async () => {
    refuse = () => new Response("<h1>Sign in</h1>", { headers: { "Content-Type": "text/html" } });
    const chat = createChat();
    await chat.sendMessage({ text: "Hello" });
    expect(chat.status).toBe("error");
  });

  it("has patience from each break, and not from when the reading began", async () => {
    vi.useFakeTimers();
    const { chat, sent } = await asking();
    streams[0]?.break();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(streams).toHaveLength(2);
    let tries = 0;
    refuse = () => ((tries += 1) < 3 ? Response.json({}, { status: 503 }) : undefined);
    streams[1]?.break();
    await vi.advanceTimersByTimeAsync(5000);
    expect(streams).toHaveLength(3);
    finish();
    await sent;
    expect(chat.status).toBe("ready");
  });

  it("takes a connection that says nothing for lost, where it may, and a try that gets no reply", async () => {
    vi.useFakeTimers();
    const { chat, sent } = await asking({ reconnectSeconds: 30 });
    await vi.advanceTimersByTimeAsync(40_000);
    streams[0]?.write(": heartbeat\n\n");
    await vi.advanceTimersByTimeAsync(40_000);
    expect(streams).toHaveLength(1);
    held = new Promise(() => undefined);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(streams[0]?.gone).toBe(true);
    held = null;
    await vi.advanceTimersByTimeAsync(15_000);
    expect(streams).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(streams).toHaveLength(2);
    finish();
    await sent;
    expect([chat.status, textOf(chat)]).toEqual(["ready", "Half"]);
  });

  it("reads the answer if the browser had sent the question twice", async () => {
    refuse = (method) =>
      method === "POST" ? Response.json({ error: "No.", code: "session_active" }, { status: 409 }) : undefined;
    const { chat, sent } = await asking();
    expect(streams).toMatchObject([{ method: "GET", url: expect.stringMatching(/^\/api\/chat\/session_\w+\/stream$/) }]);
    finish();
    await sent;
    expect(chat.status).toBe("ready");
  });

  it("stops with the headers of the moment", async () => {
    let token = "old";
    cancel = () => Response.json(RECEIPT, { status: cancels.length === 1 ? 503 : 200 });
    const { chat } = await asking({ headers: async () => ({ Authorization: token, "X-More": "1" }) });
    token = "new";
    await chat.stop();
    await until(() => expect(cancels).toHaveLength(1));
    token = "newest";
    await until(() => expect(stops.at(-1)).toMatchObject({ state: "stopped" }));
    expect(cancels.map(({ headers }) => headers.get("Authorization"))).toEqual(["new", "newest"]);
    expect(cancels[0]?.headers.get("X-More")).toBe("1");
    expect(cancels[0]?.headers.has("Content-Type")).toBe(false);
  });

  it("stops with the headers and credentials that the question would have now", async () => {
    let token = "old";
    const prepareSendMessagesRequest = async ({ id, messages }: any) => ({
      headers: { Authorization: token },
      credentials: "include" as const,
      body: { id, messages },
    });
    const { chat } = await asking({ prepareSendMessagesRequest });
    token = "new";
    await chat.stop();
    await until(() => expect(cancels[0]?.headers.get("Authorization")).toBe("new"));
    expect(cancels[0]?.credentials).toBe("include");
    expect(streams).toHaveLength(1);
  });

  it.each([
    ["can't be had", () => Promise.reject(new Error("No token."))],
    ["don't come", () => new Promise<never>(() => undefined)],
  ])("stops with the old headers if new ones %s", async (_why, fresh) => {
    vi.useFakeTimers();
    let make = () => Promise.resolve({ Authorization: "old" });
    const { chat } = await asking({ headers: () => make() });
    make = fresh;
    await chat.stop();
    await vi.advanceTimersByTimeAsync(3000);
    expect(cancels[0]?.headers.get("Authorization")).toBe("old");
  });

  it.each<[string, ChatProxyTransportOptions<UIMessage>, string]>([
    ["its query", { api: "/api/chat?tenant=1#x" }, "/api/chat/cancel/ID?tenant=1"],
    [
      "the address that was prepared",
      { prepareSendMessagesRequest: () => ({ api: "/other/chat/?tenant=1", body: {} }) },
      "/other/chat/cancel/ID?tenant=1",
    ],
  ])("reads on and stops at where the question went: %s", async (_what, options, url) => {
    const { chat } = await asking(options);
    const id = streams[0]?.headers.get("X-Session-Id") ?? "";
    nameless = true;
    streams[0]?.break();
    await until(() => expect(streams).toHaveLength(2));
    expect(streams[1]?.url).toBe(url.replace("cancel/ID", `${id}/stream`));
    await chat.stop();
    await until(() => expect(cancels.map((one) => one.url)).toEqual([url.replace("ID", id)]));
  });

  it.each([
    [{ api: "/api/chat?tenant=1" }, "/api/chat/cancel/answer-of-chat?tenant=1"],
    [
      { prepareReconnectToStreamRequest: () => ({ api: "/other/chat-1/stream?a=b" }) },
      "/other/cancel/answer-of-chat?a=b",
    ],
    [
      { api: "/api/chat?tenant=1", prepareReconnectToStreamRequest: () => ({ api: "/resume?id=2" }) },
      "/api/chat/cancel/answer-of-chat?tenant=1",
    ],
  ])("stops at where the resume went: %j", async (options, url) => {
    const chat = createChat(options);
    void chat.resumeStream();
    await until(() => expect(textOf(chat)).toBe("Half"));
    await chat.stop();
    await until(() => expect(cancels.map((one) => one.url)).toEqual([url]));
  });

  it("stops although onStop throws", async () => {
    const reported = vi.fn();
    vi.stubGlobal("reportError", reported);
    const onStop = () => {
      throw new Error("Mine.");
    };
    const { chat } = await asking({ onStop });
    await chat.stop();
    await until(() => expect(cancels).toHaveLength(1));
    await until(() => expect(reported).toHaveBeenCalledTimes(2));
  });

  it.each([0, 1, 2, 3, 4, 5])("gives its connection back if it is stopped as it gets one: %i", async (turns) => {
    vi.stubGlobal("location", new URL("http://chat.example/"));
    let freed = false;
    const request = async (_name: string, _options: object, got: () => unknown) => {
      await null;
      const held = got();
      for (let turn = 0; turn < turns; turn += 1) {
        await null;
      }
      void chat.stop();
      await held;
      freed = true;
    };
    vi.stubGlobal("navigator", { locks: { request } });
    const chat = createChat({ connections: 1 });
    await chat.sendMessage({ text: "Hello" });
    await until(() => expect(freed).toBe(true));
  });

  it("gives its connection back while nobody looks, and reads on when somebody does", async () => {
    const view = createView();
    const { chat, sent } = await asking({ view, reconnectSeconds: 30 });
    view.hide();
    await until(() => expect(streams[0]?.gone).toBe(true));
    say(word(" and half"));
    view.show();
    await until(() => expect(textOf(chat)).toBe("Half and half"));
    expect(streams).toHaveLength(2);
    finish();
    await sent;
  });

  it("waits for a connection, says so, and can be stopped there", async () => {
    vi.stubGlobal("location", new URL("http://chat.example/"));
    const queued: any[] = [];
    const onQueued = (answer: any) => queued.push(answer);
    const { chat, sent } = await asking({ connections: 1, onQueued });
    const other = createChat({ connections: 1, onQueued });
    const waiting = other.sendMessage({ text: "Hello" });
    await until(() => expect(queued).toHaveLength(1));
    expect(streams).toHaveLength(1);
    await other.stop();
    await waiting;
    expect(other.status).toBe("ready");
    expect(stops.at(-1)).toMatchObject({ state: "nothing-to-stop" });
    expect(cancels).toEqual([]);
    finish();
    await sent;
    expect(textOf(chat)).toBe("Half");
    vi.unstubAllGlobals();
  });
});
