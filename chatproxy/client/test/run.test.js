import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { chunk, EVENT_STREAM, json, serve } from "../../../packages/client/test/server.ts";
import { startRun, takeUpRun } from "../src/state/asking/run.js";

const RECEIPT = { success: true, sessionId: "s1", phase: "streaming", upstreamClosed: true, stopMs: 1, events: 1 };

/** @type {Awaited<ReturnType<typeof serve>>} */
let server;
/** @type {{gone: boolean}} */
let client;
/** @type {import("../../../packages/client/test/server.ts").Answering} */
let cancel;
/** @type {import("../../../packages/client/test/server.ts").Answering} */
let ask;
/** @type {import("../../../packages/client/test/server.ts").Answering} */
let readAgain;
/** @type {import("node:http").ServerResponse | undefined} */
let stream;
/** @type {import("node:http").ServerResponse[]} */
let readers;

beforeEach(async () => {
  client = { gone: false };
  cancel = json(200, RECEIPT);
  stream = undefined;
  ask = (response) => {
    stream = response;
    response.on("close", () => (client.gone = true));
    response.writeHead(200, EVENT_STREAM);
    response.write(chunk(1, { content: "Half" }));
  };
  readers = [];
  server = await serve((response, asked) => {
    if (asked.method === "GET") {
      readAgain(response, asked);
    } else {
      (asked.url.endsWith("/stream") ? ask : cancel)(response, asked);
    }
  });
  readAgain = (response) => {
    readers.push(response.writeHead(200, EVENT_STREAM));
    response.write(": heartbeat\n\n");
  };
  const real = globalThis.fetch;
  vi.stubGlobal("fetch", (/** @type {string} */ url, /** @type {RequestInit} */ init) =>
    real(new URL(url, server.baseUrl), init),
  );
  vi.stubGlobal("requestAnimationFrame", (/** @type {() => void} */ run) => setTimeout(run, 4));
  vi.stubGlobal("cancelAnimationFrame", clearTimeout);
});

afterEach(async () => {
  vi.unstubAllGlobals();
  await server.close();
});

function listen() {
  /** @type {string[]} */
  const heard = [];
  const listeners = {
    onProgress: (/** @type {any} */ { text, status }) => heard.push(text || `(${status})`),
    onStopped: () => heard.push("stopped"),
    onStopState: (/** @type {any} */ { state, receipt }) =>
      heard.push(receipt ? `receipt ${receipt.events}` : state),
    onEnd: (/** @type {any} */ { outcome }) => heard.push(outcome),
    onUnauthorized: () => heard.push("unauthorized"),
  };
  return { listeners, heard };
}

/** @param {Record<string, string>} [headers] */
function begin(headers) {
  const { listeners, heard } = listen();
  const run = startRun("s1", { messages: [] }, listeners, { ...(headers && { headers }) });
  return { run, heard };
}

/** @param {string[]} heard */
const hasText = (heard) => vi.waitFor(() => expect(heard).toContain("Half"));

describe("a run", () => {
  it("hands on what came, then how it ended", async () => {
    const { run, heard } = begin();
    await hasText(heard);
    stream?.end("data: [DONE]\n\n");
    await run.done;
    expect(heard.at(-1)).toBe("finished");
    run.stop();
    expect(heard.at(-1)).toBe("finished");
  });

  it("at a Stop freezes first, then has the receipt, and only then closes the stream", async () => {
    let goneAtCancel = true;
    cancel = (response, asked) => {
      goneAtCancel = client.gone;
      stream?.write(chunk(2, { content: " late" }));
      return json(200, RECEIPT)(response, asked);
    };
    const { run, heard } = begin();
    await hasText(heard);
    run.stop();
    expect(heard.at(-1)).toBe("stopped");
    await run.done;
    await vi.waitFor(() => expect(client.gone).toBe(true));
    expect(goneAtCancel).toBe(false);
    expect(heard.slice(-2)).toEqual(["stopped", "receipt 1"]);
    expect(heard.join()).not.toContain("late");
  });

  it("stops once, however often it is told to", async () => {
    const { run, heard } = begin();
    await hasText(heard);
    run.stop();
    run.stop();
    await run.done;
    expect(heard.filter((one) => one === "stopped")).toHaveLength(1);
    expect(server.asked.filter(({ url }) => url.includes("/cancel/"))).toHaveLength(1);
  });

  it("is calm if nothing was left to stop", async () => {
    cancel = json(404, { success: false, message: "Session not found" });
    const { run, heard } = begin();
    await hasText(heard);
    run.stop();
    await run.done;
    await vi.waitFor(() => expect(heard.slice(-2)).toEqual(["stopped", "nothing-to-stop"]));
  });

  it("sends its headers with the question and with the Stop", async () => {
    const { run, heard } = begin({ Authorization: "Bearer t" });
    await hasText(heard);
    run.stop();
    await run.done;
    const sent = server.asked.map(({ headers }) => headers.authorization);
    expect(sent).toEqual(["Bearer t", "Bearer t"]);
  });

  it.each([
    [401, ["failed", "unauthorized"]],
    [403, ["failed"]],
  ])("tells of a 401 to the question after its end, and of no other refusal: %i", async (status, told) => {
    ask = json(status, { error: "No.", code: "no" });
    const { run, heard } = begin();
    await run.done;
    expect(heard.filter((one) => !one.startsWith("("))).toEqual(told);
  });

  it("tells of a 401 to the Stop, and still closes the stream", async () => {
    cancel = json(401, { error: "No.", code: "unauthorized" });
    const { run, heard } = begin();
    await hasText(heard);
    run.stop();
    await run.done;
    await vi.waitFor(() => expect(client.gone).toBe(true));
    expect(heard.slice(-3)).toEqual(["stopped", "refused", "unauthorized"]);
  });

  it("closes the stream if the Stop gets no reply because there is no network", async () => {
    cancel = () => undefined;
    vi.stubGlobal("navigator", { onLine: false });
    const { run, heard } = begin();
    await hasText(heard);
    run.stop();
    await run.done;
    await vi.waitFor(() => expect(client.gone).toBe(true));
    expect(heard.slice(-2)).toEqual(["stopped", "unconfirmed"]);
  });

  it("sends the question once, and reads on if the connection broke", async () => {
    const { run, heard } = begin();
    await hasText(heard);
    stream?.destroy();
    await vi.waitFor(() => expect(readers).toHaveLength(1));
    readers[0]?.end(`${chunk(2, { content: " more" })}data: [DONE]\n\n`);
    await run.done;
    expect(heard.filter((one) => !one.startsWith("("))).toEqual(["Half", " more", "finished"]);
    expect(heard).toContain("(reconnecting)");
    const reads = server.asked.filter(({ url }) => url.includes("/stream"));
    expect(reads.map(({ method }) => method)).toEqual(["POST", "GET"]);
  });

  it.each([
    ["now", 0],
    ["on a device whose clock is ahead", 3_600_000],
  ])("looks for an answer that was asked %s, and not for ever", async (_where, ahead) => {
    vi.useFakeTimers();
    const missing = vi.fn(async () => Response.json({ error: "No." }, { status: 404 }));
    vi.stubGlobal("fetch", missing);
    const { listeners, heard } = listen();
    const startedAt = Date.now() + ahead;
    takeUpRun({ id: "s1", lastEvent: 0, status: "waiting", startedAt }, listeners);
    await vi.advanceTimersByTimeAsync(10_000);
    vi.useRealTimers();
    expect(missing.mock.calls.length).toBeGreaterThan(1);
    expect(heard.at(-1)).toBe("cut_off");
  });

  it("is over at once, without a word to the server, if it is left", async () => {
    const { run, heard } = begin();
    await hasText(heard);
    run.leave();
    run.stop();
    await run.done;
    expect(heard.at(-1)).toBe("Half");
    expect(server.asked).toHaveLength(1);
  });
});
