/**
 * What a run does on its way to its answer: its calls, the tools that its model has called, and events
 * of its own. A step is told when it begins and when it has ended, and changes then. Pure.
 *
 * - Numbers in the stream and steps are kept together, so no step comes twice.
 * - Nothing here grows without bound: neither what a step shows, nor how many there are.
 * - What had no end when its answer ended was stopped with it, if the server has said so.
 *
 * @typedef {object} Step
 * @property {"call" | "tool" | "event"} kind
 * @property {string} id what its end is told by; empty for an event
 * @property {string} name
 * @property {"running" | "finished" | "failed" | "stopped"} state
 * @property {string} [input] what it was called with, as JSON
 * @property {string} [output] what came of it, or what an event says
 * @property {number} [ms] how long it took, as the server says
 *
 * @typedef {Step["state"] | "unknown"} StepState
 *
 * An event of a run's own.
 * @typedef {{name: string, data: any}} Told
 */

const MOST_STEPS = 200;
const LONGEST_TEXT = 2000;
const LONGEST_NAME = 200;

/** @type {Step[]} */
const NONE = [];

/**
 * @param {Step[] | undefined} steps
 * @param {Told[]} told what has come since
 * @returns {Step[]} the latest
 */
export function stepsAfter(steps = NONE, told) {
  return told.reduce(stepAfter, steps).slice(-MOST_STEPS);
}

/**
 * @param {Step[]} steps
 * @param {Told} told
 * @returns {Step[]}
 */
function stepAfter(steps, { name, data }) {
  switch (name) {
    case "call-begin":
      return [...steps, stepOf("call", data?.id, data?.name)];
    case "call-end":
      return withCall(steps, data);
    case "tool-call":
      return [...steps, { ...stepOf("tool", data?.toolCallId, data?.toolName), ...input(data?.input) }];
    case "tool-result":
      return withEnd(steps, "tool", data?.toolCallId, endOfTool(data ?? {}));
    default:
      return [...steps, { ...stepOf("event", "", name), state: "finished", output: shown(data) }];
  }
}

/**
 * @param {Step["kind"]} kind
 * @param {unknown} id
 * @param {unknown} name
 * @returns {Step}
 */
function stepOf(kind, id, name) {
  return { kind, id: String(id ?? ""), name: String(name ?? "").slice(0, LONGEST_NAME), state: "running" };
}

/**
 * @param {Step[]} steps
 * @param {any} call as the server lists it
 */
function withCall(steps, call) {
  const state = /** @type {Step["state"]} */ (call?.outcome ?? "running");
  const ms = Number.isFinite(call?.ms) && { ms: call.ms };
  return withEnd(steps, "call", call?.id, { state, ...ms });
}

/** @param {{output?: unknown, errorText?: unknown}} data */
function endOfTool({ output, errorText }) {
  return errorText === undefined
    ? { state: /** @type {const} */ ("finished"), output: shown(output) }
    : { state: /** @type {const} */ ("failed"), output: shown(errorText) };
}

/**
 * @param {Step[]} steps
 * @param {Step["kind"]} kind
 * @param {unknown} id
 * @param {Partial<Step>} end
 */
function withEnd(steps, kind, id, end) {
  const at = steps.findLastIndex((step) => step.kind === kind && step.id === String(id));
  const step = steps[at];
  return step ? steps.with(at, { ...step, ...end }) : steps;
}

/**
 * The steps when the server has said what a Stop has ended.
 * @param {Step[] | undefined} steps
 * @param {any[]} [calls] as a receipt lists them
 * @returns {Step[] | undefined}
 */
export function stepsAfterStop(steps, calls = []) {
  const known = new Set((steps ?? NONE).filter(({ kind }) => kind === "call").map(({ id }) => id));
  const unseen = calls.filter((call) => call?.outcome === "stopped" && !known.has(String(call.id)));
  if (!steps && unseen.length === 0) {
    return steps;
  }
  const all = [...(steps ?? NONE), ...unseen.map(({ id, name }) => stepOf("call", id, name))];
  return calls.reduce(withCall, all).slice(-MOST_STEPS);
}

/**
 * What is known of a step, now that its answer is as it is. Of what runs beyond its answer nobody
 * knows, unless the server has confirmed that it was stopped.
 * @param {Step} step
 * @param {Pick<import("./model.js").Answer, "state" | "stop">} answer
 * @returns {StepState}
 */
export function stateOf({ state }, { state: answer, stop = "stopped" }) {
  if (state !== "running" || answer === "running") {
    return state;
  }
  return answer === "cut_off" || stop !== "stopped" ? "unknown" : "stopped";
}

/**
 * The names of what was stopped with an answer.
 * @param {Pick<import("./model.js").Answer, "state" | "stop" | "steps">} answer
 * @returns {string[]}
 */
export function stoppedNames(answer) {
  const stopped = (answer.steps ?? NONE).filter((step) => stateOf(step, answer) === "stopped");
  return answer.state === "stopped" ? [...new Set(stopped.map(({ name }) => name))] : [];
}

const KINDS = new Set(["call", "tool", "event"]);
const STATES = new Set(["running", "finished", "failed", "stopped"]);

/**
 * Steps that were kept, or come from a file: those that are sound.
 * @param {unknown} value
 * @returns {Step[]}
 */
export function soundSteps(value) {
  const steps = Array.isArray(value) ? value : [];
  return steps.slice(-MOST_STEPS).flatMap((step) => {
    const { kind, id, name, state, input, output, ms } = step ?? {};
    return KINDS.has(kind) && STATES.has(state) && typeof name === "string"
      ? {
          ...stepOf(kind, id, name),
          state,
          ...(typeof input === "string" && { input: cut(input) }),
          ...(typeof output === "string" && { output: cut(output) }),
          ...(Number.isFinite(ms) && { ms }),
        }
      : [];
  });
}

/**
 * The part of a step for what it was called with; nothing for a call without arguments.
 * @param {any} value
 */
function input(value) {
  const empty = value === undefined || value === null || Object.keys(value).length === 0;
  return empty ? {} : { input: shown(value) };
}

/**
 * What people read of a value: a text as it is, and all else as JSON.
 * @param {unknown} value
 */
function shown(value) {
  return cut(typeof value === "string" ? value : (JSON.stringify(value, null, 2) ?? ""));
}

/** @param {string} text */
function cut(text) {
  return text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT)}…` : text;
}
