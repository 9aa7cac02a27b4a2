import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { resumeFor, resumeStream, streamChat } from "../src/index.js";
import { chunk, EVENT_STREAM } from "./server.js";

type Answering = (init: RequestInit, asked: number) => Response | Promise<Response>;
type Then = "breaks" | "ends" | "stays";

const USAGE = `{"choices":[{"delta":{"content":""},"finish_reason":"stop"}],"usage":{"total_tokens":9}}`;
const EVENTS = [
  chunk(1, { content: null, reasoning_content: "Hm… " }),
  chunk(2, { content: null, reasoning_content: "so. " }),
  chunk(3, { content: "Grüß " }),
  chunk(4, { content: "dich, dich 👋" }),
  `id: 5\ndata: ${USAGE}\n\n`,
  "id: 6\ndata: [DONE]\n\n",
];
const TEXT = "Grüß dich, dich 👋";
const WHOLE = {
  text: TEXT,
  reasoning: "Hm… so. ",
  end: { outcome: "finished", finishReason: "stop", usage: { total_tokens: 9 }, events: 5 },
};
const encoder = new TextEncoder();

let asked: { method: string; after: number; url: string; headers: Headers }[];

beforeEach(() => {
  asked = [];
  vi.useFakeTimers();
  vi.setTimerTickMode("nextTimerAsync");
  vi.setSystemTime(0);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function body(bytes: Uint8Array, then: Then = "breaks") {
  return new ReadableStream({
    start(controller) {
      controller.enqueue(bytes);
      if (then === "ends") {
        controller.close();
      }
    },
    pull: (controller) => (then === "breaks" ? controller.error(new TypeError("network")) : undefined),
  });
}

function stream(text: string, then: Then = "ends") {
  return new Response(body(encoder.encode(text), then), { headers: EVENT_STREAM });
}

const rest: Answering = (init) => stream(EVENTS.slice(afterOf(init)).join(""));

function afterOf(init: RequestInit) {
  return Number(new Headers(init.headers).get("Last-Event-ID") ?? 0);
}

function refuse(status: number, more: object = { error: "No.", code: "peers_unavailable" }) {
  return Response.json(more, { status });
}

function offline(): Promise<never> {
  return Promise.reject(new TypeError("fetch failed"));
}

/**
 * Each `fetch` goes to the next of these; the last one answers all further ones.
 */
function server(...answers: Answering[]): any {
  return async (url: string, init: RequestInit) => {
    const { method = "GET", headers } = init;
    asked.push({ method, url, after: afterOf(init), headers: new Headers(headers) });
    return (answers[asked.length - 1] ?? answers.at(-1)!)(init, asked.length);
  };
}

async function listen(
  read: typeof streamChat | typeof resumeStream,
  fetch: typeof globalThis.fetch,
  options: any = {},
) {
  const heard = { text: "", reasoning: "", statuses: [] as string[], last: 0 };
  const end = await read({
    sessionId: "s:1",
    payload: { messages: [] },
    fetch,
    resume: { seconds: 30 },
    onText: (text: string) => void (heard.text += text),
    onReasoning: (reasoning: string) => void (heard.reasoning += reasoning),
    onStatus: (status: string) => void heard.statuses.push(status),
    onEvent: (_chunk: any, last: number) => void (heard.last = last),
    ...options,
  });
  return { end, ...heard };
}

const posts = () => asked.filter(({ method }) => method === "POST").length;

describe("streamChat, where the connection breaks", () => {
  it("has every word once, wherever that was", async () => {
    const bytes = encoder.encode(EVENTS.join(""));
    for (let at = 0; at <= bytes.length; at += 1) {
      asked = [];
      const how = at % 2 ? "breaks" : "ends";
      const cut = () => new Response(body(bytes.slice(0, at), how), { headers: EVENT_STREAM });
      const { text, reasoning, end } = await listen(streamChat, server(cut, rest));
      expect({ at, text, reasoning, end }).toEqual({ at, ...WHOLE });
      expect(posts()).toBe(1);
    }
  });

  it("has every word once where every connection brings one event and a part of the next", async () => {
    for (let part = 0; part < 160; part += 3) {
      asked = [];
      const fetch = server((init) => {
        const [next = "", ...others] = EVENTS.slice(afterOf(init));
        const bytes = encoder.encode(next + others.join(""));
        const size = encoder.encode(next).length + part;
        return new Response(body(bytes.slice(0, size)), { headers: EVENT_STREAM });
      });
      const { text, reasoning, end } = await listen(streamChat, fetch);
      expect({ part, text, reasoning, end }).toEqual({ part, ...WHOLE });
      expect(posts()).toBe(1);
    }
  });

  it("asks for what comes after the last whole event, with the same headers", async () => {
    const half = EVENTS.slice(0, 3).join("") + EVENTS[3]?.slice(0, -1);
    const headers = { Authorization: "Bearer t" };
    await listen(streamChat, server(() => stream(half), rest), { headers });
    expect(asked[1]).toMatchObject({ method: "GET", url: "/api/chat/stream/s%3A1", after: 3 });
    expect(asked[1]?.headers.get("Authorization")).toBe("Bearer t");
  });

  it("reads on after an account, which has no number", async () => {
    const said = JSON.stringify({ usage: null, usageSource: "none", cost: null });
    const first = () => stream(`${EVENTS.slice(0, 4).join("")}event: account\ndata: ${said}\n\n`);
    const onAccount = () => undefined;
    const { end } = await listen(streamChat, server(first, rest), { onAccount });
    expect(end.outcome).toBe("finished");
    expect(asked[1]?.headers.get("X-Account")).toBe("1");
  });

  it("passes over events that it has had", async () => {
    const first = () => stream(EVENTS.slice(0, 4).join(""));
    const all = () => stream(EVENTS.join(""));
    expect(await listen(streamChat, server(first, all))).toMatchObject(WHOLE);
  });

  it("does not pass a text with a hole off as a whole one", async () => {
    const fetch = server(
      () => stream(EVENTS.slice(0, 2).join("")),
      () => stream(EVENTS.slice(3).join("")),
    );
    const { end, text } = await listen(streamChat, fetch);
    expect(end).toMatchObject({ outcome: "cut_off", error: { code: "events_gone" } });
    expect(text).toBe("");
  });

  it("says that it reconnects, and what the answer does after that", async () => {
    const first = () => stream(EVENTS.slice(0, 2).join(""));
    const { statuses } = await listen(streamChat, server(first, offline, rest));
    expect(statuses).toEqual(["waiting", "thinking", "reconnecting", "thinking", "answering"]);
  });

  it.each([404, 410])("tells why it cannot be read on, with what came: %i", async (status) => {
    const first = () => stream(EVENTS.slice(0, 3).join(""));
    const { end, text } = await listen(streamChat, server(first, () => refuse(status)));
    const code = status === 404 ? "not_found" : "events_gone";
    expect(end).toMatchObject({ outcome: "cut_off", error: { code, status }, events: 3 });
    expect(text).toBe("Grüß ");
    expect(asked).toHaveLength(2);
  });

  it("tells that the server lost the answer", async () => {
    const error = { message: "Lost after event 3.", code: "answer_lost" };
    const lost = () => stream(`event: error\ndata: ${JSON.stringify({ error })}\n\n`);
    const first = () => stream(EVENTS.slice(0, 3).join(""));
    const { end } = await listen(streamChat, server(first, lost));
    expect(end).toEqual({ outcome: "failed", error, events: 3 });
  });

  it("tries again after a 503, and through whatever is no stream", async () => {
    const first = () => stream(EVENTS.slice(0, 3).join(""));
    const portal = () => new Response("<h1>Sign in</h1>", { headers: { "Content-Type": "text/html" } });
    const fetch = server(first, () => refuse(503), portal, () => refuse(502), rest);
    expect(await listen(streamChat, fetch)).toMatchObject(WHOLE);
    expect(asked).toHaveLength(5);
  });

  it("does not wait for all of a refusal, after which it tries again", async () => {
    const first = () => stream(EVENTS.slice(0, 3).join(""));
    const endless = () => new Response(body(encoder.encode("{"), "stays"), { status: 502 });
    expect(await listen(streamChat, server(first, endless, rest))).toMatchObject(WHOLE);
  });

  it("waits longer from try to try, and gives up when the time is over", async () => {
    const times: number[] = [];
    const first = () => stream(EVENTS.slice(0, 3).join(""));
    const fetch = server(first, () => {
      times.push(Date.now());
      return offline();
    });
    const { end, text } = await listen(streamChat, fetch, { resume: { seconds: 12 } });
    expect(end).toMatchObject({ outcome: "cut_off", error: { code: "connection_lost" }, events: 3 });
    expect(text).toBe("Grüß ");
    const pauses = times.map((time, n) => time - (times[n - 1] ?? 0));
    for (const [n, least] of [300, 1000, 2000, 3000, 3000].entries()) {
      expect(pauses[n]).toBeGreaterThanOrEqual(least);
    }
    expect(times.at(-1)).toBeLessThan(17_000);
    expect(posts()).toBe(1);
  });

  it("tries at once when the network is back, and not without one", async () => {
    vi.setTimerTickMode("manual");
    const network = Object.assign(new EventTarget(), { onLine: false });
    vi.stubGlobal("navigator", network);
    vi.stubGlobal("addEventListener", network.addEventListener.bind(network));
    const first = () => stream(EVENTS.slice(0, 3).join(""));
    const reading = listen(streamChat, server(first, rest));
    await vi.advanceTimersByTimeAsync(7000);
    expect(asked).toHaveLength(1);
    network.onLine = true;
    network.dispatchEvent(new Event("online"));
    const before = Date.now();
    expect(await reading).toMatchObject(WHOLE);
    expect(Date.now() - before).toBeLessThan(300);
  });

  it("ends at once where it is aborted between two tries", async () => {
    vi.setTimerTickMode("manual");
    const closing = new AbortController();
    const first = () => stream(EVENTS.slice(0, 3).join(""));
    const reading = listen(streamChat, server(first, offline), { signal: closing.signal });
    await vi.advanceTimersByTimeAsync(400);
    const tries = asked.length;
    closing.abort();
    const before = Date.now();
    expect((await reading).end).toMatchObject({ outcome: "aborted", events: 3 });
    expect(Date.now() - before).toBeLessThan(300);
    expect(asked).toHaveLength(tries);
  });

  it("takes a connection that says nothing for lost, where it may", async () => {
    const silent = () => stream(EVENTS.slice(0, 3).join(""), "stays");
    const resume = { seconds: 30, silenceMs: 5000 };
    expect(await listen(streamChat, server(silent, rest), { resume })).toMatchObject(WHOLE);
    expect(Date.now()).toBeGreaterThanOrEqual(5000);
  });

  it("does not read on where the events have no numbers", async () => {
    const bare = EVENTS.slice(0, 4).join("").replaceAll(/^id: \d+\n/gm, "");
    const { end } = await listen(streamChat, server(() => stream(bare), rest));
    expect(end).toMatchObject({ outcome: "cut_off", error: { code: "connection_lost" } });
    expect(asked).toHaveLength(1);
  });

  it("is over after the server's word that it was stopped", async () => {
    const stopped = 'id: 4\nevent: stopped\ndata: {"reason":"user"}\n\n';
    const first = () => stream(EVENTS.slice(0, 3).join("") + stopped);
    const { end } = await listen(streamChat, server(first, rest));
    expect(end).toEqual({ outcome: "stopped", reason: "user", events: 3 });
    expect(asked).toHaveLength(1);
  });
});

describe("streamChat, where the question gets no reply", () => {
  it("reads the answer where the question had arrived", async () => {
    expect(await listen(streamChat, server(offline, rest))).toMatchObject(WHOLE);
    expect(posts()).toBe(1);
  });

  it.each(["the server has never heard of it", "the server stays away"])(
    "cannot reach the server where %s",
    async (why) => {
      const never = why.includes("never") ? () => refuse(404) : offline;
      const { end, statuses } = await listen(streamChat, server(offline, never));
      expect(end).toMatchObject({ outcome: "failed", error: { code: "unreachable" }, events: 0 });
      expect(statuses).toEqual(["waiting", "reconnecting"]);
      expect(posts()).toBe(1);
      expect(Date.now()).toBeLessThan(9000);
    },
  );

  it("reads the answer if the browser had sent the question twice", async () => {
    const twice = () => refuse(409, { error: "It runs.", code: "session_active" });
    expect(await listen(streamChat, server(twice, rest))).toMatchObject(WHOLE);
    expect(posts()).toBe(1);
  });

  it("passes the refusal on if what runs under the id is not to be had", async () => {
    const twice = () => refuse(409, { error: "It runs.", code: "session_active" });
    const { end } = await listen(streamChat, server(twice, () => refuse(404)));
    expect(end).toMatchObject({ outcome: "failed", error: { code: "session_active", status: 409 } });
  });

  it("looks longer for a question that had been under way", async () => {
    const slow = async () => {
      await new Promise((resolve) => setTimeout(resolve, 5000));
      return offline();
    };
    const tries: Answering[] = [slow, ...Array<Answering>(5).fill(offline), rest];
    expect(await listen(streamChat, server(...tries))).toMatchObject(WHOLE);
  });
});

describe("resumeStream", () => {
  it("begins at once, anywhere", async () => {
    for (const after of [0, 1, 3, 5]) {
      asked = [];
      const { text, reasoning, end, statuses } = await listen(resumeStream, server(rest), { after });
      const before = { 0: "", 1: "Hm… ", 3: "Hm… so. Grüß ", 5: `Hm… so. ${TEXT}` }[after];
      expect(before + reasoning + text).toBe(`Hm… so. ${TEXT}`);
      expect(end).toMatchObject({ outcome: "finished", events: 5 });
      expect(statuses).not.toContain("reconnecting");
      expect(asked).toHaveLength(1);
      expect(asked[0]?.headers.has("Last-Event-ID")).toBe(after > 0);
    }
  });

  it("tells the number of each event", async () => {
    expect((await listen(resumeStream, server(rest), { after: 2 })).last).toBe(5);
  });

  it("keeps to the status that it was given, until it knows better", async () => {
    const options = { after: 2, status: "thinking" };
    const { statuses } = await listen(resumeStream, server(offline, rest), options);
    expect(statuses).toEqual(["reconnecting", "thinking", "answering"]);
  });

  it.each([
    [404, "not_found"],
    [410, "events_gone"],
    [401, "unauthorized"],
  ])("never throws, and asks once: %i", async (status, code) => {
    const fetch = server(() => refuse(status, { error: "No.", code }));
    const { end } = await listen(resumeStream, fetch, { after: 2 });
    expect(end).toMatchObject({ outcome: "cut_off", error: { code, status }, events: 2 });
    expect(asked).toHaveLength(1);
  });

  it("says where nothing is left", async () => {
    const fetch = server(() => new Response(null, { status: 204 }));
    const { end } = await listen(resumeStream, fetch, { after: 6 });
    expect(end).toMatchObject({ outcome: "cut_off", error: { code: "nothing_left" } });
  });

  it("tries once without patience", async () => {
    const { end } = await listen(resumeStream, server(offline), { resume: undefined });
    expect(end).toMatchObject({ outcome: "cut_off", error: { code: "connection_lost" } });
    expect(asked).toHaveLength(1);
  });

  it("is stalled by silence from where it began", async () => {
    const fetch = server(() => stream(": heartbeat\n\n", "stays"), rest);
    const options = { after: 3, status: "answering", stallMs: 1000 };
    const resume = { seconds: 30, silenceMs: 3000 };
    const { statuses } = await listen(resumeStream, fetch, { ...options, resume });
    expect(statuses).toEqual(["stalled", "reconnecting", "answering"]);
  });
});

describe("resumeFor", () => {
  it("tries for as long as the answer can be read, and waits for three signs of life", () => {
    expect(resumeFor(30)).toEqual({ reconnectSeconds: 30, seconds: 90, silenceMs: 45_000 });
    expect(resumeFor(30, { retainSeconds: 300, heartbeatSeconds: 5 })).toEqual({
      reconnectSeconds: 30,
      seconds: 330,
      silenceMs: 15_000,
    });
    expect(resumeFor(0, { heartbeatSeconds: 5 })).not.toHaveProperty("silenceMs");
  });
});
