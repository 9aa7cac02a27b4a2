/** Long connections, which all tabs share, and answers that nobody looks at. */

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { createView, resumeStream, streamChat, type View } from "../src/index.js";
import { chunk, EVENT_STREAM } from "./server.js";

type Options = Partial<Parameters<typeof streamChat>[0]> & { after?: number };

/** A connection on which an answer is read. */
interface Stream {
  method: string;
  id: string;
  after: number;
  write: (event: string) => void;
  closed: () => boolean;
}

/** The events of each answer. */
let logs: Map<string, string[]>;
let streams: Stream[];
let closings: AbortController[];
let page: EventTarget & { visibilityState: string };

beforeEach(() => {
  logs = new Map();
  streams = [];
  closings = [];
  vi.useFakeTimers({ now: 0 });
  page = Object.assign(new EventTarget(), { visibilityState: "visible" });
  vi.stubGlobal("document", page);
  vi.stubGlobal("location", new URL("http://chat.example/"));
  vi.stubGlobal("navigator", {});
});

afterEach(async () => {
  closings.forEach((closing) => closing.abort());
  await pass(10);
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

/** A server that keeps what it has to say of each answer, as the real one does. */
async function fetch(url: any, init: RequestInit = {}): Promise<Response> {
  const { method = "GET", signal } = init;
  const headers = new Headers(init.headers);
  const after = Number(headers.get("Last-Event-ID") ?? 0);
  const id = headers.get("X-Session-Id") ?? url.split("/").at(-1);
  let closed = false;
  let controller: ReadableStreamDefaultController<Uint8Array>;
  const body = new ReadableStream<Uint8Array>({
    start: (given) => void (controller = given),
    cancel: () => void (closed = true),
  });
  const write = (event: string) => {
    if (!closed) {
      controller.enqueue(new TextEncoder().encode(event));
      if (event.includes("[DONE]")) {
        closed = true;
        controller.close();
      }
    }
  };
  signal?.addEventListener("abort", () => {
    if (!closed) {
      closed = true;
      controller.error(new DOMException("", "AbortError"));
    }
  });
  streams.push({ method, id, after, write, closed: () => closed });
  write(": heartbeat\n");
  logs.get(id)?.slice(after).forEach(write);
  return new Response(body, { headers: EVENT_STREAM });
}

/** The upstream says something: a word, or [DONE]. */
function say(id: string, word: string) {
  const log = logs.get(id) ?? [];
  logs.set(id, log);
  const number = log.length + 1;
  const event = word === "[DONE]" ? `id: ${number}\ndata: [DONE]\n\n` : chunk(number, { content: word });
  log.push(event);
  streams.filter((stream) => stream.id === id).forEach(({ write }) => write(event));
}

function start(id: string, options: Options = {}, read: typeof streamChat | typeof resumeStream = streamChat) {
  const heard = { text: "", statuses: [] as string[], closing: new AbortController() };
  closings.push(heard.closing);
  const end = read({
    sessionId: id,
    payload: {},
    fetch,
    signal: heard.closing.signal,
    onText: (text) => void (heard.text += text),
    onStatus: (status) => void heard.statuses.push(status),
    ...options,
  });
  return Object.assign(heard, { end });
}

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);
const open = () => streams.filter((stream) => !stream.closed());
const last = () => streams.at(-1)!;
const hide = (visibilityState: string) => {
  page.visibilityState = visibilityState;
  page.dispatchEvent(new Event("visibilitychange"));
};

describe("long connections", () => {
  it("are four at most, and a question that has to wait says so", async () => {
    const answers = ["a", "b", "c", "d", "e", "f"].map((id) => start(id));
    await pass(200);
    expect(open().map(({ id }) => id)).toEqual(["a", "b", "c", "d"]);
    expect(answers.map(({ statuses }) => statuses)).toEqual([
      ...Array(4).fill(["waiting"]),
      ...Array(2).fill(["queued"]),
    ]);
    say("b", "[DONE]");
    await pass(50);
    expect(open().map(({ id }) => id)).toEqual(["a", "c", "d", "e"]);
    expect(answers[4]?.statuses).toEqual(["queued", "waiting"]);
    expect(streams.filter(({ id }) => id === "e")).toHaveLength(1);
  });

  it("are given back by an answer that is aborted while it waits", async () => {
    const answers = ["a", "b", "c", "d", "e", "f"].map((id) => start(id));
    await pass(200);
    answers[4]?.closing.abort();
    expect(await answers[4]?.end).toEqual({ outcome: "aborted", events: 0 });
    answers[0]?.closing.abort();
    await pass(50);
    expect(open().map(({ id }) => id)).toEqual(["b", "c", "d", "f"]);
  });

  it("are as many as the page says", async () => {
    const answers = ["a", "b", "c"].map((id) => start(id, { connections: 2 }));
    await pass(200);
    expect(open()).toHaveLength(2);
    expect(answers[2]?.statuses).toEqual(["queued"]);
  });

  it("of two servers don't meet", async () => {
    for (const id of ["a", "b", "c", "d"]) {
      start(id);
      start(id, { baseUrl: "http://other.example/api/chat" });
    }
    await pass(200);
    expect(open()).toHaveLength(8);
  });

  it.each(["h2", "h3"])("are not counted over %s", async (nextHopProtocol) => {
    vi.stubGlobal("performance", { now: Date.now, getEntriesByType: () => [{ nextHopProtocol }] });
    ["a", "b", "c", "d", "e"].forEach((id) => start(id));
    await pass(200);
    expect(open()).toHaveLength(5);
  });

  it("are shared with the other tabs by Web Locks", async () => {
    const held: string[] = [];
    const locks = {
      // Another tab holds three of the four.
      request: async (name: string, _options: object, got: () => unknown) => {
        held.push(name);
        await (name.endsWith(".2") ? got() : new Promise(() => undefined));
      },
    };
    vi.stubGlobal("navigator", { locks });
    start("a");
    await pass(10);
    expect(open()).toHaveLength(1);
    const name = "chatproxy.connection.http://chat.example";
    expect(held).toEqual([0, 1, 2, 3].map((n) => `${name}.${n}`));
  });

  it("are taken one at a time, although several may be had at once", async () => {
    const held: string[] = [];
    const locks = {
      // As a browser does: each is granted in a task of its own, too late to be called off.
      request: async (name: string, _options: object, got: () => unknown) => {
        await null;
        if (got() instanceof Promise) {
          held.push(name);
        }
      },
    };
    vi.stubGlobal("navigator", { locks });
    start("a");
    await pass(10);
    expect(open()).toHaveLength(1);
    expect(held).toEqual(["chatproxy.connection.http://chat.example.0"]);
  });

  it("are counted by the page alone if the browser refuses its locks", async () => {
    const request = () => Promise.reject(new DOMException("Denied.", "SecurityError"));
    vi.stubGlobal("navigator", { locks: { request } });
    const answers = ["a", "b", "c", "d", "e"].map((id) => start(id));
    await pass(200);
    expect(open().map(({ id }) => id)).toEqual(["a", "b", "c", "d"]);
    expect(answers[4]?.statuses).toEqual(["queued"]);
    answers[4]?.closing.abort();
    expect(await answers[4]?.end).toMatchObject({ outcome: "aborted" });
    say("a", "[DONE]");
    start("f");
    await pass(50);
    expect(last().id).toBe("f");
  });

  const circular: Record<string, unknown> = {};
  circular.self = circular;

  it.each<[string, Options]>([
    ["a payload that is no JSON", { payload: circular }],
    [
      "a listener that throws at once",
      {
        onStatus: () => {
          throw new Error("Mine.");
        },
      },
    ],
    [
      "a listener that throws later",
      {
        onStatus: (status) => {
          if (status === "upstream_queued") {
            throw new Error("Mine.");
          }
        },
      },
    ],
  ])("are given back after %s", async (_why, options) => {
    for (const id of ["a", "b", "c", "d"]) {
      const { end } = start(id, options);
      const thrown = expect(end).rejects.toThrow();
      await pass(10);
      streams.filter((stream) => stream.id === id).forEach(({ write }) => write(": keep-alive\n"));
      await thrown;
    }
    const question = start("e");
    await pass(200);
    expect(question.statuses).toEqual(["waiting"]);
    expect(open().map(({ id }) => id)).toEqual(["e"]);
  });
});

describe("an answer that nobody looks at", () => {
  const LASTING = { resume: { seconds: 30, reconnectSeconds: 30 } };
  const STOPPING = { resume: { seconds: 30, reconnectSeconds: 0 } };
  let view: View;

  beforeEach(() => {
    view = createView();
  });

  it("gives its connection back, is visited, and is read again when it is shown", async () => {
    const answer = start("a", { ...LASTING, view });
    await pass(10);
    say("a", "one ");
    view.hide();
    await pass(2500);
    expect(open()).toEqual([]);
    say("a", "two ");
    await pass(10_000);
    expect(last()).toMatchObject({ method: "GET", after: 1 });
    expect(open()).toEqual([]);
    expect(answer.text).toBe("one two ");
    view.show();
    await pass(10);
    expect(last()).toMatchObject({ method: "GET", after: 2 });
    say("a", "three");
    await pass(20_000);
    expect(open()).toHaveLength(1);
    say("a", "[DONE]");
    expect(await answer.end).toMatchObject({ outcome: "finished", events: 3 });
    expect(answer.text).toBe("one two three");
    expect(answer.statuses).toEqual(["waiting", "answering", "stalled"]);
    expect(streams.filter(({ method }) => method === "POST")).toHaveLength(1);
  });

  it("is visited in time when the clock is put back", async () => {
    start("a", { ...LASTING, view });
    await pass(10);
    view.hide();
    await pass(2500);
    vi.setSystemTime(Date.now() - 3_600_000);
    await pass(10_000);
    expect(streams.length).toBeGreaterThan(1);
  });

  it("is left at the latest after 2 seconds, however much comes", async () => {
    start("a", { ...LASTING, view });
    await pass(10);
    view.hide();
    for (let ms = 0; ms < 1900; ms += 100) {
      say("a", "word ");
      await pass(100);
    }
    expect(open()).toHaveLength(1);
    say("a", "word ");
    await pass(150);
    expect(open()).toEqual([]);
  });

  it("is not left by a short look elsewhere", async () => {
    start("a", { ...LASTING, view });
    await pass(10);
    view.hide();
    await pass(200);
    view.show();
    await pass(30_000);
    expect(streams).toHaveLength(1);
    expect(open()).toHaveLength(1);
  });

  it("ends while nobody looks", async () => {
    const answer = start("a", { ...LASTING, view });
    await pass(10);
    view.hide();
    await pass(1000);
    say("a", "all");
    say("a", "[DONE]");
    await pass(10_000);
    expect(await answer.end).toMatchObject({ outcome: "finished", events: 1 });
  });

  it("is one in a tab that is out of sight", async () => {
    start("a", LASTING);
    await pass(10);
    hide("hidden");
    await pass(1000);
    expect(open()).toEqual([]);
    hide("visible");
    await pass(10);
    expect(open()).toHaveLength(1);
  });

  it("makes room for a question that waits", async () => {
    const views = [createView(), createView(), createView(), createView()];
    views.forEach((one, n) => start(`a${n}`, { ...LASTING, view: one }));
    const question = start("b");
    await pass(200);
    expect(question.statuses).toEqual(["queued"]);
    views[0]?.hide();
    await pass(500);
    expect(question.statuses).toEqual(["queued", "waiting"]);
  });

  it("is visited beside four long readings, and waits for one of them when it is looked at", async () => {
    const hidden = start("a", { ...LASTING, view });
    await pass(10);
    view.hide();
    await pass(1000);
    const others = ["b", "c", "d", "e"].map((id) => start(id));
    await pass(10_000);
    say("a", "word");
    await pass(10_000);
    expect(hidden.text).toBe("word");
    expect(streams.filter(({ id, method }) => id === "a" && method === "GET")).toHaveLength(2);
    expect(open().map(({ id }) => id)).toEqual(["b", "c", "d", "e"]);
    while (!open().some(({ id }) => id === "a")) {
      await pass(50);
    }
    expect(open()).toHaveLength(5);
    view.show();
    await pass(200);
    expect(open()).toHaveLength(4);
    expect(hidden.statuses.at(-1)).toBe("queued");
    view.hide();
    await pass(11_000);
    say("a", " by word");
    await pass(11_000);
    expect(hidden.text).toBe("word by word");
    view.show();
    await pass(200);
    others[0]?.closing.abort();
    await pass(50);
    expect(open().map(({ id }) => id)).toEqual(["c", "d", "e", "a"]);
  });

  it("keeps a connection that is for long readings when it is looked at again", async () => {
    vi.stubGlobal("performance", { now: Date.now, getEntriesByType: () => [{ nextHopProtocol: "h2" }] });
    start("a", { ...LASTING, view });
    await pass(10);
    view.hide();
    await pass(1000);
    while (open().length === 0) {
      await pass(50);
    }
    const visit = last();
    view.show();
    await pass(30_000);
    expect(open()).toEqual([visit]);
  });

  it.each([1, 2])("keeps its connection if %i s are too few for visits", async (reconnectSeconds) => {
    start("a", { resume: { seconds: 30, reconnectSeconds }, view });
    await pass(10);
    view.hide();
    await pass(60_000);
    expect(streams).toHaveLength(1);
    expect(open()).toHaveLength(1);
  });

  it("keeps its connection if the server stops it without a reader", async () => {
    start("a", { ...STOPPING, view });
    await pass(10);
    view.hide();
    await pass(60_000);
    expect(streams).toHaveLength(1);
    expect(open()).toHaveLength(1);
  });

  it("keeps its connection if nothing is known of the server", async () => {
    start("a", { resume: { seconds: 30 }, view });
    await pass(10);
    view.hide();
    await pass(60_000);
    expect(open()).toHaveLength(1);
  });

  it.each([LASTING, STOPPING])("is left to the tab that keeps it, until that has gone", async (how) => {
    const first = start("a", { ...how });
    await pass(10);
    start("a", { ...how, view: createView(false), after: 0 }, resumeStream);
    await pass(60_000);
    expect(streams).toHaveLength(1);
    first.closing.abort();
    await pass(10);
    expect(streams).toHaveLength(2);
    expect(last()).toMatchObject({ method: "GET", after: 0 });
  });

  it("is aborted without being read again", async () => {
    const answer = start("a", { ...LASTING, view });
    await pass(10);
    view.hide();
    await pass(1000);
    answer.closing.abort();
    expect(await answer.end).toMatchObject({ outcome: "aborted" });
    expect(streams).toHaveLength(1);
  });
});
