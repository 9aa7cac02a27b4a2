import { describe, expect, it } from "vitest";

import { en } from "../src/i18n/en.js";
import { createLanguage } from "../src/i18n/language.js";
import { zhCN } from "../src/i18n/zh-CN.js";
import { ended, received, sent, stopKnown, stopped } from "../src/state/chats/answer.js";
import { asConversation } from "../src/state/chats/record.js";
import { soundSteps, stateOf, stepsAfter, stoppedNames } from "../src/state/chats/steps.js";
import { asMarkdown } from "../src/state/chats/transfer.js";
import { chatOf, lastOf } from "./chats.js";

const LANGUAGES = [createLanguage("en", en), createLanguage("zh-CN", zhCN)];
/** @type {import("../src/state/chats/steps.js").Told[]} */
const BEGUN = [
  { name: "call-begin", data: { id: 1, name: "plan" } },
  { name: "call-end", data: { id: 1, name: "plan", outcome: "finished", ms: 812 } },
  { name: "source", data: { url: "/a" } },
  { name: "tool-call", data: { toolCallId: "c1", toolName: "weather", input: { city: "`Oslo`" } } },
  { name: "call-begin", data: { id: 2, name: "GET example.com" } },
];
/** @type {import("../src/lib/llm-api.jsx").RunCall} */
const CALL = {
  ...{ id: 3, name: "late", phase: "streaming", outcome: "stopped", events: 1 },
  ...{ upstream: null, closed: true, ms: 5 },
};
const RECEIPT = {
  ...{ sessionId: "a", phase: /** @type {const} */ ("streaming"), upstreamClosed: true, stopMs: 2, events: 3 },
  calls: [{ ...CALL, id: 2, name: "GET example.com" }, CALL],
  leftBehind: ["research"],
};

/** An answer of a run that has come as far as this. */
function running(told = BEGUN) {
  const progress = { text: "", reasoning: "", told, lastEvent: told.length, status: null };
  return received(sent("a", "run:research", 1, { parentId: "c-u" }), progress, 2);
}

describe("the steps of a run", () => {
  it("are there as soon as they are told, and change when they have ended", () => {
    const { steps = [], lastEvent } = running();
    expect(steps.map(({ kind, name, state, ms }) => [kind, name, state, ms])).toEqual([
      ["call", "plan", "finished", 812],
      ["event", "source", "finished", undefined],
      ["tool", "weather", "running", undefined],
      ["call", "GET example.com", "running", undefined],
    ]);
    expect(steps[1]?.output).toBe('{\n  "url": "/a"\n}');
    expect(lastEvent).toBe(5);
  });

  it.each([
    [{ output: "Rain" }, "finished", "Rain"],
    [{ output: null }, "finished", "null"],
    [{ errorText: "The tool failed." }, "failed", "The tool failed."],
  ])("tell what came of a tool: %j", (result, state, output) => {
    const told = { name: "tool-result", data: { toolCallId: "c1", ...result } };
    expect(running([...BEGUN, told]).steps?.[2]).toMatchObject({ state, output });
  });

  it("name what a Stop has ended, once that is confirmed, also what was not told before", () => {
    const pressed = stopped(running(), 3);
    expect(stoppedNames(pressed)).toEqual([]);
    expect(stateOf(/** @type {any} */ (pressed.steps?.[3]), pressed)).toBe("unknown");
    const known = stopKnown(pressed, { state: "stopped", receipt: RECEIPT });
    expect(stoppedNames(known)).toEqual(["weather", "GET example.com", "late"]);
    expect(known.receipt?.leftBehind).toEqual(["research"]);
  });

  it("name it likewise if somebody else has stopped it", () => {
    const end = { outcome: /** @type {const} */ ("stopped"), reason: "deadline", events: 1 };
    const known = ended(running(), { ...end, calls: [CALL], leftBehind: ["research"] }, 3);
    expect(stoppedNames(known)).toEqual(["weather", "GET example.com", "late"]);
    expect(known.receipt?.leftBehind).toEqual(["research"]);
  });

  it("leave open what nobody knows the end of", () => {
    const lost = ended(running(), { outcome: "cut_off", events: 1 }, 3);
    expect((lost.steps ?? []).map((step) => stateOf(step, lost))).toEqual([
      ...["finished", "finished", "unknown", "unknown"],
    ]);
    expect(stoppedNames(lost)).toEqual([]);
  });

  it("are bounded, in number and in length", () => {
    const told = Array.from({ length: 1000 }, (_, at) => ({ name: "piece", data: `${at} ${"x".repeat(9999)}` }));
    const steps = stepsAfter(undefined, told);
    expect([steps.length, steps.at(-1)?.output?.slice(0, 5)]).toEqual([200, "999 x"]);
    expect(steps.every(({ output = "" }) => output.length < 2100)).toBe(true);
    expect(soundSteps([...steps, ...steps])).toHaveLength(200);
  });

  it("are kept with the chat, as far as they are sound", () => {
    const answer = stopKnown(stopped(running(), 3), { state: "stopped", receipt: RECEIPT });
    const kept = JSON.parse(JSON.stringify(chatOf("c", answer)));
    expect(lastOf(asConversation(kept) ?? undefined)).toMatchObject({
      steps: answer.steps,
      receipt: answer.receipt,
    });
    kept.messages[1].steps = [null, 7, { kind: "call" }, { kind: "odd", name: "x", state: "running" }, ...kept.messages[1].steps];
    kept.messages[1].receipt.leftBehind = [7];
    const read = lastOf(asConversation(kept) ?? undefined);
    expect(read.steps).toEqual(answer.steps);
    expect(read.receipt?.leftBehind).toBeUndefined();
  });

  it.each(LANGUAGES)("are saved as Markdown, which nothing in them breaks", (language) => {
    const answer = stopKnown(stopped(running(), 3), { state: "stopped", receipt: RECEIPT });
    const [text = ""] = asMarkdown(language, [chatOf("c", { ...answer, text: "Half" })]);
    const { say, list } = language;
    expect(text).toContain(`- ${say("step.tool")} \` weather \` (${say("stepState.stopped")}): \`\` { "city": "\`Oslo\`" } \`\``);
    const names = list(["` weather `", "` GET example.com `", "` late `"]);
    expect(text).toContain(`*${say("stoppedCalls", { names })}*`);
    expect(text.indexOf("weather")).toBeLessThan(text.indexOf("Half"));
  });
});
