// @vitest-environment happy-dom

/** The code in docs/front-ends.md, as it stands there. */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { act, StrictMode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { chunk } from "./server.js";

const FOLDER = `${import.meta.dirname}/../build/guides`;
const GUIDE = readFileSync(`${import.meta.dirname}/../../../docs/front-ends.md`, "utf8");
const STOPPED = 'id: 2\nevent: stopped\ndata: {"reason":"user"}\n\ndata: [DONE]\n\n';
const RECEIPT = { success: true, upstreamClosed: true, stopMs: 1.7 };

mkdirSync(FOLDER, { recursive: true });
for (const [, code = "", name] of GUIDE.matchAll(/```jsx?\n(\/\/ (\S+)\n[^]*?)```/g)) {
  writeFileSync(`${FOLDER}/${name}`, code);
}
const { ask, createSessionId, stop } = await import(`${FOLDER}/chatproxy.js`);
const { Answer } = await import(`${FOLDER}/Answer.jsx`);

let asked: { url: string; init: RequestInit }[];
let replies: (() => Response | Promise<Response>)[];
let say: (text: string) => void;
let close: () => void;
let gone: boolean;

beforeEach(() => {
  asked = [];
  replies = [];
  gone = false;
  vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
    asked.push({ url, init });
    const reply = replies.shift();
    return reply ? reply() : url.endsWith("/stream") ? stream(init) : Response.json(RECEIPT);
  });
});

afterEach(() => vi.unstubAllGlobals());

function stream({ signal }: RequestInit) {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      say = (text) => controller.enqueue(new TextEncoder().encode(text));
      close = () => controller.close();
      signal?.addEventListener("abort", () => {
        gone = true;
        controller.error(new DOMException("", "AbortError"));
      });
    },
  });
  return new Response(body);
}

async function asking() {
  let text = "";
  const answer = { text: () => text, end: ask("s1", [], (piece: string) => (text += piece)) };
  answer.end.catch(() => undefined);
  await vi.waitFor(() => say("\n"));
  return answer;
}

describe("plain fetch", () => {
  it("has ids that the server takes", () => {
    expect(createSessionId()).toMatch(/^session_\d{13}_\d{10,}$/);
  });

  it("reads an answer, wherever its bytes are cut", async () => {
    const { text, end } = await asking();
    const whole = `: heartbeat\n${chunk(1, { content: "Grüß " })}${chunk(2, { content: "dich" })}`;
    for (const character of whole) {
      say(character);
    }
    say("id: 3\ndata: [DONE]\n\n");
    expect(await end).toBe("finished");
    expect(text()).toBe("Grüß dich");
    expect(asked[0]?.init.headers).toMatchObject({ "X-Session-Id": "s1" });
  });

  it("says that an answer was stopped, failed, or broke off", async () => {
    const stopped = await asking();
    say(chunk(1, { content: "Half" }) + STOPPED);
    expect(await stopped.end).toBe("stopped");
    const failed = await asking();
    say('event: error\ndata: {"error":{"message":"DeepSeek went away."}}\n\n');
    await expect(failed.end).rejects.toThrow("DeepSeek went away.");
    const cut = await asking();
    close();
    await expect(cut.end).rejects.toThrow("before the answer was complete");
    replies = [() => Response.json({ error: "No." }, { status: 429 })];
    await expect(ask("s1", [], () => undefined)).rejects.toThrow("No.");
  });

  it("stops until that is confirmed", async () => {
    vi.useFakeTimers();
    replies = [
      () => Promise.reject(new TypeError("fetch failed")),
      () => Response.json({}, { status: 503 }),
    ];
    const stopping = stop("s1");
    await vi.advanceTimersByTimeAsync(2000);
    expect(await stopping).toEqual(RECEIPT);
    vi.useRealTimers();
    expect(asked.map(({ url }) => url)).toEqual(Array(3).fill("/api/chat/cancel/s1"));
    replies = [
      () => Response.json({}, { status: 404 }),
      () => Response.json({ error: "Who?" }, { status: 401 }),
    ];
    expect(await stop("s1")).toBeNull();
    await expect(stop("s1")).rejects.toThrow("Who?");
  });
});

describe("React without a library", () => {
  let root: Root;
  const text = () => document.querySelector("p")?.textContent;
  const note = () => document.querySelector("small")?.textContent;
  const press = (name: string) =>
    act(async () => {
      const button = document.querySelector("button")!;
      expect(button.textContent).toBe(name);
      button.click();
    });
  const until = (claim: () => void) =>
    vi.waitFor(async () => {
      await act(async () => undefined);
      claim();
    });

  beforeEach(async () => {
    root = createRoot(document.body.appendChild(document.createElement("div")));
    await act(async () =>
      root.render(
        <StrictMode>
          <Answer />
        </StrictMode>,
      ),
    );
  });

  afterEach(async () => {
    await act(async () => root.unmount());
    document.body.replaceChildren();
  });

  it("asks once, and shows the answer", async () => {
    await press("Send");
    await act(async () => say(`${chunk(1, { content: "Hi" })}data: [DONE]\n\n`));
    await until(() => expect(document.querySelector("button")?.textContent).toBe("Send"));
    expect(text()).toBe("Hi");
    expect(asked).toHaveLength(1);
  });

  it("shows a Stop as confirmed when it is, and not before", async () => {
    let confirm: (response: Response) => void = () => undefined;
    await press("Send");
    await act(async () => say(chunk(1, { content: "Half" })));
    await until(() => expect(text()).toBe("Half"));
    replies = [() => new Promise((resolve) => (confirm = resolve))];
    await press("Stop AI");
    expect(note()).toBe("Stop sent, not confirmed yet.");
    expect(gone).toBe(false);
    await act(async () => say(chunk(2, { content: " late" })));
    confirm(Response.json(RECEIPT));
    await until(() => expect(note()).toBe("Stopped in 1.7 ms."));
    expect(text()).toBe("Half");
    expect(gone).toBe(true);
  });

  it.each([
    [200, { ...RECEIPT, upstreamClosed: false }, "not confirmed"],
    [404, {}, "Nothing was left"],
    [401, { error: "Who?" }, "Who?"],
  ])("says what it knows of a Stop: %i %j", async (status, body, said) => {
    await press("Send");
    replies = [() => Response.json(body, { status })];
    await press("Stop AI");
    await until(() => expect(note()).toContain(said));
  });

  it("says nothing of an earlier Stop beside the next answer", async () => {
    let confirm: (response: Response) => void = () => undefined;
    await press("Send");
    replies = [() => new Promise((resolve) => (confirm = resolve))];
    await press("Stop AI");
    await press("Send");
    await act(async () => say(chunk(1, { content: "Next" })));
    await until(() => expect(text()).toBe("Next"));
    await act(async () => confirm(Response.json(RECEIPT)));
    await act(async () => new Promise((resolve) => setTimeout(resolve, 10)));
    expect(note()).toBe("");
  });

  it("closes the connection when it is unmounted, and presses no Stop", async () => {
    await press("Send");
    await act(async () => root.render(null));
    expect(gone).toBe(true);
    expect(asked).toHaveLength(1);
  });
});
