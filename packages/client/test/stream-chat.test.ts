import { afterEach, describe, expect, it } from "vitest";

import { createSessionId, streamChat, type StreamOptions } from "../src/index.js";
import { chunk, EVENT_STREAM, json, serve, type Server } from "./server.js";

let server: Server | undefined;

afterEach(async () => {
  await server?.close();
  server = undefined;
});

/** @param text - what the server sends, all of it */
function stream(text: string) {
  return serve((response) => {
    response.writeHead(200, EVENT_STREAM);
    response.end(text);
  });
}

async function listen(options: Partial<StreamOptions> = {}) {
  const heard = { text: "", reasoning: "", statuses: [] as string[] };
  const end = await streamChat({
    sessionId: "session_1",
    payload: { messages: [{ role: "user", content: "Hello" }] },
    baseUrl: server?.baseUrl ?? "",
    onText: (text) => void (heard.text += text),
    onReasoning: (reasoning) => void (heard.reasoning += reasoning),
    onStatus: (status) => void heard.statuses.push(status),
    ...options,
  });
  return { end, ...heard };
}

const ANSWER = [
  ": keep-alive\n\n",
  chunk(1, { content: null, reasoning_content: "" }),
  chunk(2, { content: null, reasoning_content: "Hm… " }),
  ": heartbeat\n\n",
  chunk(3, { content: "Grüß " }),
  chunk(4, { content: "dich 👋" }),
  `id: 5\ndata: {"choices":[{"delta":{"content":""},"finish_reason":"stop"}],"usage":{"total_tokens":9}}\n\n`,
  "id: 6\ndata: [DONE]\n\n",
].join("");

describe("createSessionId", () => {
  it("gives the milliseconds and at least 96 random bits, in characters the server takes", () => {
    const id = createSessionId();
    expect(id).toMatch(/^session_\d{13}_[0-9a-z]{28}$/);
    expect(Math.log2(36) * 28).toBeGreaterThan(96);
    expect(Math.abs(Number(id.split("_")[1]) - Date.now())).toBeLessThan(1000);
  });

  it("never gives the same twice", () => {
    expect(new Set(Array.from({ length: 1000 }, createSessionId)).size).toBe(1000);
  });
});

describe("streamChat", () => {
  it("sends the id and the payload once, with the caller's headers", async () => {
    server = await stream(ANSWER);
    await listen({ headers: { Authorization: "Bearer t" } });
    expect(server.asked).toHaveLength(1);
    expect(server.asked[0]).toMatchObject({
      method: "POST",
      url: "/api/chat/stream",
      headers: { "x-session-id": "session_1", authorization: "Bearer t" },
      body: '{"messages":[{"role":"user","content":"Hello"}]}',
    });
  });

  it("tells text, thinking and statuses, and resolves to how it ended", async () => {
    server = await stream(ANSWER);
    expect(await listen()).toEqual({
      text: "Grüß dich 👋",
      reasoning: "Hm… ",
      statuses: ["waiting", "upstream_queued", "thinking", "answering"],
      end: { outcome: "finished", finishReason: "stop", usage: { total_tokens: 9 }, events: 5 },
    });
  });

  it("does not care where the network cuts the bytes", async () => {
    const bytes = new TextEncoder().encode(ANSWER);
    for (let at = 1; at < bytes.length; at += 1) {
      const body = new ReadableStream({
        start(controller) {
          controller.enqueue(bytes.slice(0, at));
          controller.enqueue(bytes.slice(at));
          controller.close();
        },
      });
      const fetch = async () => new Response(body, { headers: EVENT_STREAM });
      const { text, reasoning, end } = await listen({ fetch });
      expect({ at, text, reasoning, outcome: end.outcome, events: end.events }).toEqual({
        at,
        text: "Grüß dich 👋",
        reasoning: "Hm… ",
        outcome: "finished",
        events: 5,
      });
    }
  });

  it.each(["\r\n", "\r"])("reads lines that end with %j", async (end) => {
    server = await stream(ANSWER.replaceAll("\n", end));
    expect(await listen()).toMatchObject({ text: "Grüß dich 👋", end: { outcome: "finished" } });
  });

  it("hands each chunk on as it came", async () => {
    server = await stream(ANSWER);
    const chunks: any[] = [];
    await listen({ onEvent: (one) => chunks.push(one) });
    expect(chunks).toHaveLength(5);
    expect(chunks[4].usage).toEqual({ total_tokens: 9 });
  });

  it("tells the events of a run by their names, and counts them apart", async () => {
    const source = 'id: 1\nevent: source\nby: run\ndata: {"url":"/a"}\n\n';
    const named = `event: chunk\n${chunk(2, { content: "Hello" })}`;
    server = await stream(`${source}${named}id: 3\ndata: [DONE]\n\n`);
    const told: unknown[] = [];
    const onRunEvent = (...event: unknown[]) => void told.push(event);
    const { end, text } = await listen({ onRunEvent });
    expect(told).toEqual([["source", { url: "/a" }, 1]]);
    expect(text).toBe("Hello");
    expect(end).toEqual({ outcome: "finished", events: 1 });
  });

  it.each(["user", "deadline", "idle", "shutdown"])("says that it was stopped: %s", async (reason) => {
    const data = JSON.stringify({ sessionId: "session_1", reason, phase: "streaming", events: 1 });
    const stopped = `event: stopped\ndata: ${data}\n\ndata: [DONE]\n\n`;
    server = await stream(chunk(1, { content: "Half" }) + stopped);
    const { end, text } = await listen();
    expect(text).toBe("Half");
    expect(end).toEqual({ outcome: "stopped", reason, events: 1 });
  });

  const ACCOUNT = {
    usage: { prompt_tokens: 12, completion_tokens: 160, total_tokens: 172 },
    usageSource: "estimated",
    usageSpread: 0.2,
    cost: { amount: 0.0002, currency: "USD" },
    savedAtMost: 7800,
    savedLikely: { tokens: 500, from: 300, to: 900 },
  };

  it.each([
    ["stopped", { reason: "user", ...ACCOUNT }, ACCOUNT],
    ["account", ACCOUNT, ACCOUNT],
    ["account", { usage: null, usageSource: "none", cost: null }, { usage: null, usageSource: "none", cost: null }],
    ["account", { ...ACCOUNT, usageSource: "guessed" }, undefined],
    [
      "account",
      { usageSource: "counted", usage: { prompt_tokens: "7" }, cost: { amount: 1, currency: "$" }, savedAtMost: -1 },
      { usage: null, usageSource: "counted", cost: null },
    ],
  ])("tells what the answer came to, as far as it can be trusted: %s %j", async (event, said, account) => {
    const told: unknown[] = [];
    // Between numbered events, and without a number of its own.
    const text = `${chunk(1, { content: "Half" })}event: ${event}\ndata: ${JSON.stringify(said)}\n\nid: 2\ndata: [DONE]\n\n`;
    server = await stream(text);
    const { end } = await listen({ onAccount: (one) => void told.push(one) });
    expect(told).toEqual(account ? [account] : []);
    expect(end.account).toEqual(account);
    expect(server.asked[0]?.headers["x-account"]).toBe("1");
  });

  it("asks for what it came to, and for the calls of a run, only if somebody listens", async () => {
    server = await stream(ANSWER);
    await listen();
    await listen({ calls: true });
    const headers = server.asked.map((one) => one.headers);
    expect(headers.map((one) => [one["x-account"], one["x-calls"]])).toEqual([
      [undefined, undefined],
      [undefined, "1"],
    ]);
  });

  it("says which calls of a run were stopped", async () => {
    const calls = [{ id: 2, name: "search", outcome: "stopped" }];
    const said = { reason: "deadline", calls, leftBehind: ["research"] };
    server = await stream(`event: stopped\ndata: ${JSON.stringify(said)}\n\ndata: [DONE]\n\n`);
    expect((await listen()).end).toEqual({ outcome: "stopped", events: 0, ...said });
  });

  it("counts as stopped even where the connection ends right after the word", async () => {
    server = await stream('event: stopped\ndata: {"reason":"shutdown"}\n\n');
    expect((await listen()).end).toEqual({ outcome: "stopped", reason: "shutdown", events: 0 });
  });

  it("says that the answer failed, and why", async () => {
    const error = { message: "DeepSeek went away.", code: "upstream_failed" };
    const event = `event: error\ndata: ${JSON.stringify({ error })}\n\n`;
    server = await stream(chunk(1, { content: "Half" }) + event);
    expect((await listen()).end).toEqual({ outcome: "failed", error, events: 1 });
  });

  it("never passes an answer without [DONE] off as complete", async () => {
    server = await stream(chunk(1, { content: "Half" }));
    expect((await listen()).end).toMatchObject({
      outcome: "cut_off",
      error: { code: "connection_lost" },
      events: 1,
    });
  });

  it("says that it was cut off where the connection breaks", async () => {
    server = await serve((response) => {
      response.writeHead(200, EVENT_STREAM);
      response.write(chunk(1, { content: "Half" }), () => response.destroy());
    });
    expect(await listen()).toMatchObject({ text: "Half", end: { outcome: "cut_off" } });
    expect(server.asked).toHaveLength(1);
  });

  it.each([
    [400, "missing_session_id"],
    [409, "session_active"],
    [413, "body_too_large"],
    [429, "too_many_sessions"],
    [502, "upstream_balance"],
    [503, "shutting_down"],
    [504, "upstream_timeout"],
  ])("passes a refusal on, and does not ask again: %i %s", async (status, code) => {
    server = await serve(json(status, { error: "No.", code }, { "Retry-After": "3" }));
    const { end } = await listen();
    const error = { code, message: "No.", status, retryAfter: 3 };
    expect(end).toEqual({ outcome: "failed", error, events: 0 });
    expect(server.asked).toHaveLength(1);
  });

  it("takes a Stop that came before the start for a Stop", async () => {
    server = await serve(json(409, { error: "It was stopped.", code: "session_cancelled" }));
    expect((await listen()).end).toEqual({ outcome: "stopped", reason: "user", events: 0 });
  });

  it("gives a refusal that is no JSON a code of its own", async () => {
    server = await serve((response) => {
      response.writeHead(502, { "Content-Type": "text/html" }).end("<h1>Bad gateway</h1>");
    });
    expect((await listen()).end.error).toMatchObject({ code: "http_502", status: 502 });
  });

  it("does not take a page for an answer", async () => {
    server = await serve((response) => {
      response.writeHead(200, { "Content-Type": "text/html" }).end("<h1>Sign in</h1>");
    });
    expect((await listen()).end).toMatchObject({ outcome: "failed", error: { code: "not_a_stream" } });
  });

  it("asks once only where the server cannot be reached", async () => {
    let tries = 0;
    const fetch = async () => {
      tries += 1;
      throw new TypeError("fetch failed");
    };
    const { end } = await listen({ fetch });
    expect(end).toMatchObject({ outcome: "failed", error: { code: "unreachable" } });
    expect(tries).toBe(1);
  });

  it("calls no listener after the abort, even for what had come already", async () => {
    server = await serve((response) => {
      response.writeHead(200, EVENT_STREAM);
      response.write(chunk(1, { content: "one " }) + chunk(2, { content: "two" }));
    });
    const closing = new AbortController();
    const heard = await listen({
      signal: closing.signal,
      onText: (text) => {
        expect(text).toBe("one ");
        closing.abort();
      },
    });
    expect(heard.end).toMatchObject({ outcome: "aborted", events: 1 });
  });

  it("can be aborted before anything has come", async () => {
    server = await serve(() => undefined);
    const closing = new AbortController();
    const heard = listen({ signal: closing.signal });
    setTimeout(() => closing.abort(), 20);
    expect((await heard).end).toEqual({ outcome: "aborted", events: 0 });
  });

  it.each(["\n", "\n\n"])(
    "stays waiting through heartbeats, and is queued upstream by DeepSeek's keep-alive only; end %j",
    async (end) => {
      const done = `${chunk(1, { content: "one" })}data: [DONE]\n\n`;
      server = await stream(`: heartbeat${end}: heartbeat${end}${done}`);
      expect(await listen()).toMatchObject({ statuses: ["waiting", "answering"], text: "one" });
      await server.close();
      server = await stream(`: heartbeat${end}: keep-alive${end}${done}`);
      const { statuses, text } = await listen();
      expect(statuses).toEqual(["waiting", "upstream_queued", "answering"]);
      expect(text).toBe("one");
    },
  );

  it.each(["\n", "\n\n"])("is whole, however comments and events are cut; end %j", async (end) => {
    const whole = `: heartbeat${end}${chunk(1, { content: "one " })}: keep-alive${end}${chunk(2, {
      content: "two",
    })}: heartbeat${end}data: [DONE]\n\n`;
    for (let at = 1; at < whole.length; at += 1) {
      const pieces = [whole.slice(0, at), whole.slice(at)].map((piece) => new TextEncoder().encode(piece));
      const body = new ReadableStream({
        start(controller) {
          pieces.forEach((piece) => controller.enqueue(piece));
          controller.close();
        },
      });
      const fetch = async () => new Response(body, { headers: EVENT_STREAM });
      expect(await listen({ fetch })).toMatchObject({ text: "one two", end: { outcome: "finished" } });
    }
  });

  it("is stalled by silence in mid-answer, and recovers", async () => {
    server = await serve(async (response) => {
      response.writeHead(200, EVENT_STREAM);
      response.write(chunk(1, { content: "one " }));
      await new Promise((resolve) => setTimeout(resolve, 600));
      response.end(`: heartbeat\n\n${chunk(2, { content: "two" })}data: [DONE]\n\n`);
    });
    const { statuses, text } = await listen({ stallMs: 40 });
    expect(statuses).toEqual(["waiting", "answering", "stalled", "answering"]);
    expect(text).toBe("one two");
  });

  it("reads past what it does not understand", async () => {
    const odd = 'data: {broken\n\ndata: null\n\nevent: new\ndata: {"x":1}\n\nretry: x\n\n';
    server = await stream(`${odd}${chunk(1, { content: "fine" })}data: [DONE]\n\n`);
    expect(await listen()).toMatchObject({ text: "fine", end: { outcome: "finished" } });
  });

  it("takes a line of 2 MB", async () => {
    const content = "x".repeat(2 * 1024 * 1024);
    server = await stream(`${chunk(1, { content })}data: [DONE]\n\n`);
    const { text, end } = await listen();
    expect(text.length).toBe(content.length);
    expect(end.outcome).toBe("finished");
  });
});
