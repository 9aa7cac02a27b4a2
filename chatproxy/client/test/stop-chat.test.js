import { afterEach, describe, expect, it } from "vitest";

import { listRunning, stopChat } from "../src/lib/llm-api.jsx";
import { json, serve } from "./server.js";

const RECEIPT = {
  success: true,
  sessionId: "session_1",
  phase: "streaming",
  upstreamClosed: true,
  stopMs: 1.7,
  events: 42,
};
const NOT_FOUND = { success: false, message: "Session not found" };
const QUICK = { pauses: [1, 1, 1] };

/** @type {Awaited<ReturnType<typeof serve>> | undefined} */
let server;

afterEach(async () => {
  await server?.close();
  server = undefined;
});

describe("stopChat", () => {
  it("posts to the address of the id, and gives the receipt", async () => {
    server = await serve(json(200, RECEIPT));
    const { baseUrl } = server;
    const result = await stopChat("session_1", { baseUrl, headers: { Authorization: "Bearer t" } });
    expect(result).toEqual({ receipt: RECEIPT });
    expect(server.asked).toMatchObject([
      { method: "POST", url: "/api/chat/cancel/session_1", headers: { authorization: "Bearer t" } },
    ]);
  });

  it("survives the page: the request is a keepalive one", async () => {
    /** @type {RequestInit | undefined} */
    let seen;
    const fetch = async (/** @type {any} */ _url, /** @type {RequestInit} */ init = {}) => {
      seen = init;
      return Response.json(RECEIPT);
    };
    await stopChat("session_1", { fetch });
    expect(seen).toMatchObject({ method: "POST", keepalive: true });
  });

  it("takes a 404 for what it is: nothing is left to stop", async () => {
    server = await serve(json(404, NOT_FOUND));
    expect(await stopChat("session_1", server)).toEqual({ notFound: true });
    expect(server.asked).toHaveLength(1);
  });

  it("tries again after a 5xx, with the same id", async () => {
    server = await serve((response, asked) => {
      const busy = (server?.asked.length ?? 0) < 3;
      return json(busy ? 503 : 200, busy ? NOT_FOUND : RECEIPT)(response, asked);
    });
    expect(await stopChat("session_1", { ...QUICK, ...server })).toEqual({ receipt: RECEIPT });
    expect(server.asked.map(({ url }) => url)).toEqual(Array(3).fill("/api/chat/cancel/session_1"));
  });

  it("tries again after a network error", async () => {
    server = await serve((response, asked) =>
      server?.asked.length === 1 ? response.destroy() : json(200, RECEIPT)(response, asked),
    );
    expect(await stopChat("session_1", { ...QUICK, ...server })).toEqual({ receipt: RECEIPT });
    expect(server.asked).toHaveLength(2);
  });

  it("gives up at last, and says so without throwing", async () => {
    server = await serve(json(500, {}));
    expect(await stopChat("session_1", { ...QUICK, ...server })).toEqual({ failed: true });
    expect(server.asked).toHaveLength(4);
  });

  it("does not try again where the server means it", async () => {
    server = await serve(json(401, { error: "Who?", code: "unauthorized" }));
    expect(await stopChat("session_1", server)).toEqual({ failed: true, status: 401 });
    expect(server.asked).toHaveLength(1);
  });

  it("puts ids with special characters into the address safely", async () => {
    server = await serve(json(404, NOT_FOUND));
    await stopChat("a:b/../c?d", server);
    expect(server.asked[0]?.url).toBe("/api/chat/cancel/a%3Ab%2F..%2Fc%3Fd");
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
  ])("gives none where the server cannot tell: %i %j", async (status, body) => {
    server = await serve(json(status, body));
    expect(await listRunning(server)).toEqual([]);
  });
});
