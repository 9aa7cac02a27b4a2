// @vitest-environment happy-dom

import { act, StrictMode, useEffect, type ReactNode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { useAnswer, type UseAnswer, type UseAnswerOptions } from "../src/react.js";
import { chunk, EVENT_STREAM } from "./server.js";

const RECEIPT = { success: true, sessionId: "s", phase: "streaming", upstreamClosed: true, stopMs: 1, events: 1 };
const QUESTION = { messages: [{ role: "user", content: "Hello" }] };

let root: Root;
let asked: { method: string; url: string; id: string | null }[];
let say: (text: string) => void;
let gone: boolean;
let cancel: () => Promise<Response> | Response;
/** What the component shows. */
let answer: UseAnswer;

async function fetch(url: any, init: RequestInit = {}): Promise<Response> {
  const { method = "GET", signal } = init;
  asked.push({ method, url, id: new Headers(init.headers).get("X-Session-Id") });
  if (url.includes("/cancel/")) {
    return cancel();
  }
  gone = false;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      say = (text) => controller.enqueue(new TextEncoder().encode(text));
      signal?.addEventListener("abort", () => {
        gone = true;
        controller.error(new DOMException("", "AbortError"));
      });
    },
  });
  say(chunk(1, { content: "Half" }));
  return new Response(body, { headers: EVENT_STREAM });
}

beforeEach(() => {
  vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);
  asked = [];
  cancel = () => Response.json(RECEIPT);
  sessionStorage.clear();
  root = createRoot(document.body.appendChild(document.createElement("div")));
});

afterEach(async () => {
  await show(null);
  await new Promise((resolve) => setTimeout(resolve)); // who is unmounted may come back until then
  vi.unstubAllGlobals();
});

const show = (node: ReactNode) => act(async () => root.render(node));
const until = (claim: () => void) =>
  vi.waitFor(async () => {
    await act(async () => undefined);
    claim();
  });
const posts = () => asked.filter(({ method, url }) => method === "POST" && url.endsWith("/stream"));

function Shown({ asks = false, ...options }: UseAnswerOptions & { asks?: boolean }) {
  const now = useAnswer({ fetch, connections: 9, ...options });
  const { ask } = now;
  useEffect(() => {
    if (asks) {
      ask(QUESTION);
    }
  }, [asks, ask]);
  answer = now;
  return <p>{now.text}</p>;
}

async function asking(options: UseAnswerOptions = {}) {
  await show(<Shown {...options} />);
  await act(async () => void answer.ask(QUESTION));
  await until(() => expect(answer.text).toBe("Half"));
}

describe("useAnswer", () => {
  it("shows an answer as it comes, and how it ended", async () => {
    await asking();
    expect(answer).toMatchObject({ state: "running", status: "answering", sessionId: posts()[0]?.id });
    await act(async () => say(`${chunk(2, { content: " and half" })}data: [DONE]\n\n`));
    await until(() => expect(answer).toMatchObject({ state: "finished", text: "Half and half" }));
    expect(document.body.textContent).toBe("Half and half");
  });

  it("asks no second question while one is answered", async () => {
    await asking();
    await act(async () => expect(answer.ask(QUESTION)).toBe(answer.sessionId));
    expect(posts()).toHaveLength(1);
  });

  it("asks once under StrictMode, although effects run twice", async () => {
    await show(
      <StrictMode>
        <Shown asks />
      </StrictMode>,
    );
    await until(() => expect(answer.text).toBe("Half"));
    expect(asked).toHaveLength(1);
    expect(gone).toBe(false);
  });

  it("stops: the text stays, the receipt comes, then the stream is closed", async () => {
    let goneAtCancel = true;
    cancel = () => {
      goneAtCancel = gone;
      say(chunk(2, { content: " late" }));
      return Response.json(RECEIPT);
    };
    await asking();
    const { sessionId } = answer;
    await act(async () => answer.stop());
    await until(() => expect(answer.stopState).toEqual({ state: "stopped", receipt: RECEIPT }));
    expect(answer).toMatchObject({ state: "stopped", text: "Half" });
    expect(asked.at(-1)?.url).toBe(`/api/chat/cancel/${sessionId}`);
    await until(() => expect(gone).toBe(true));
    expect(goneAtCancel).toBe(false);
  });

  it("never shows a Stop as confirmed that is not", async () => {
    cancel = () => new Promise(() => undefined);
    await asking();
    await act(async () => answer.stop());
    expect(answer).toMatchObject({ state: "frozen", stopState: { state: "unconfirmed" } });
  });

  it.each([
    [404, { success: false, message: "Session not found" }, "nothing-to-stop"],
    [401, { error: "Who?" }, "refused"],
    [200, { ...RECEIPT, upstreamClosed: false }, "unconfirmed"],
  ])("is not stopped by a Stop that is not confirmed: %i %j", async (status, body, state) => {
    cancel = () => Response.json(body, { status });
    await asking();
    await act(async () => answer.stop());
    await until(() => expect(gone).toBe(true));
    await until(() => expect(answer).toMatchObject({ state: "frozen", stopState: { state } }));
  });

  it("fails if the question is no JSON", async () => {
    const circular: Record<string, unknown> = {};
    circular.self = circular;
    await show(<Shown />);
    await act(async () => void answer.ask(circular));
    await until(() => expect(answer).toMatchObject({ state: "failed", error: { code: "not_asked" } }));
    expect(asked).toEqual([]);
  });

  it("has its options when the effect of a child asks, and the newest ones when it asks again", async () => {
    const Asking = ({ now }: { now: number }) => {
      useEffect(() => {
        if (now) {
          answer.ask(QUESTION);
        }
      }, [now]);
      return null;
    };
    const Parent = ({ now }: { now: number }) => {
      answer = useAnswer({ fetch, connections: 9, baseUrl: `/chat${now}` });
      return <Asking now={now} />;
    };
    await show(<Parent now={1} />);
    await until(() => expect(answer.text).toBe("Half"));
    await act(async () => say("data: [DONE]\n\n"));
    await until(() => expect(answer.state).toBe("finished"));
    await show(<Parent now={2} />);
    await until(() => expect(asked.map(({ url }) => url)).toEqual(["/chat1/stream", "/chat2/stream"]));
  });

  it("reads no more when it is unmounted, and stops nothing", async () => {
    await asking();
    await show(null);
    await until(() => expect(gone).toBe(true));
    expect(asked).toHaveLength(1);
  });

  it("stops the answer after it was unmounted, too", async () => {
    await asking();
    const { sessionId, stop } = answer;
    await show(null);
    await until(() => expect(gone).toBe(true));
    stop();
    await until(() => expect(asked.at(-1)?.url).toBe(`/api/chat/cancel/${sessionId}`));
  });

  it("stops the answer when it is unmounted, if asked to", async () => {
    await asking({ stopOnUnmount: true });
    await show(null);
    await until(() => expect(asked.at(-1)?.url).toContain("/cancel/"));
  });

  it("reads on after a reload, without a second question", async () => {
    await asking({ resumeKey: "chat" });
    const { sessionId } = answer;
    await show(null); // as a reload: the tab's storage stays
    await until(() => expect(gone).toBe(true));
    await show(
      <StrictMode>
        <Shown resumeKey="chat" />
      </StrictMode>,
    );
    await until(() => expect(answer).toMatchObject({ sessionId, state: "running", text: "Half" }));
    expect(asked.map(({ method, url }) => [method, url])).toEqual([
      ["POST", "/api/chat/stream"],
      ["GET", `/api/chat/stream/${sessionId}`],
    ]);
  });

  it("shows the answer of each name, and forgets one that has ended under its own", async () => {
    await asking({ resumeKey: "one" });
    const { sessionId } = answer;
    await show(<Shown resumeKey="two" />);
    expect(answer).toMatchObject({ state: "idle", sessionId: null });
    await until(() => expect(gone).toBe(true));
    await show(<Shown resumeKey="one" />);
    await until(() => expect(answer).toMatchObject({ sessionId, state: "running", text: "Half" }));
    expect(posts()).toHaveLength(1);
    await act(async () => say("data: [DONE]\n\n"));
    await until(() => expect(answer.state).toBe("finished"));
    expect(sessionStorage).toHaveLength(0);
  });

  it("goes on when it is given a name", async () => {
    await asking();
    const { sessionId } = answer;
    await show(<Shown resumeKey="one" />);
    await act(async () => say(chunk(2, { content: " and half" })));
    await until(() => expect(answer).toMatchObject({ sessionId, text: "Half and half" }));
    await act(async () => say("data: [DONE]\n\n"));
    await until(() => expect(answer.state).toBe("finished"));
    expect([asked.length, sessionStorage.length]).toEqual([1, 0]);
  });

  it("is found again under a name that it was given as it ran", async () => {
    await asking();
    const { sessionId } = answer;
    await show(<Shown resumeKey="one" />);
    await show(null);
    await until(() => expect(gone).toBe(true));
    await show(<Shown resumeKey="one" />);
    await until(() => expect(answer).toMatchObject({ sessionId, state: "running", text: "Half" }));
    expect(posts()).toHaveLength(1);
  });

  it("does not look for an answer that has ended", async () => {
    await asking({ resumeKey: "chat" });
    await act(async () => say("data: [DONE]\n\n"));
    await until(() => expect(answer.state).toBe("finished"));
    await show(null);
    await show(<Shown resumeKey="chat" />);
    expect(answer.state).toBe("idle");
    expect(asked).toHaveLength(1);
  });
});
