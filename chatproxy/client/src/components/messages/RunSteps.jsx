import { useLanguage } from "../../i18n/current.js";
import { stateOf } from "../../state/chats/steps.js";
import { Disclosure } from "../parts/Disclosure.jsx";
import { Icon } from "../parts/Icon.jsx";

/**
 * @typedef {import("../../state/chats/steps.js").Step} Step
 * @typedef {import("../../state/chats/steps.js").StepState} StepState
 */

/** @type {Record<StepState, string>} */
const ICONS = { running: "more", finished: "done", failed: "close", stopped: "stop", unknown: "help" };

/**
 * What a run does on its way to its answer: open until the answer itself begins, then folded, unless
 * the reader has chosen.
 * @param {{answer: import("../../state/chats/model.js").Answer, steps: Step[]}} props
 */
export function RunSteps({ answer, steps }) {
  const { list, say } = useLanguage();
  const running = steps.filter((step) => stateOf(step, answer) === "running");
  const names = [...new Set(running.map(({ name }) => name))];
  const summary =
    names.length > 0 ? say("stepsNow", { names: list(names) }) : say("steps", { count: steps.length });
  const unfolded = answer.state === "running" && answer.text === "";
  return (
    <Disclosure className="run" unfolded={unfolded} summary={summary}>
      {() => (
        <ol className="steps">
          {steps.map((step, at) => (
            <StepItem key={at} step={step} state={stateOf(step, answer)} />
          ))}
        </ol>
      )}
    </Disclosure>
  );
}

/** @param {{step: Step, state: StepState}} props */
function StepItem({ step, state }) {
  const { say } = useLanguage();
  const { kind, name, input, output, ms } = step;
  return (
    <li className="step" data-kind={kind} data-step={state}>
      <span className="step-head">
        <Icon name={kind === "event" ? "file" : ICONS[state]} />
        <span className="step-kind">{say(`step.${kind}`)}</span>
        <span className="step-name" dir="auto">
          {name}
        </span>
        {kind !== "event" && <StepEnd state={state} ms={ms} />}
      </span>
      {(input || output) && (
        <Disclosure className="step-data" summary={say("details")}>
          {() => (
            <>
              {input && <Data label={say("stepInput")} text={input} />}
              {output && <Data label={say(kind === "event" ? "stepSays" : "stepOutput")} text={output} />}
            </>
          )}
        </Disclosure>
      )}
    </li>
  );
}

/** @param {{state: StepState, ms: number | undefined}} props */
function StepEnd({ state, ms }) {
  const { say, span } = useLanguage();
  const first = say(`stepState.${state}`);
  return (
    <span className="step-state">
      {ms === undefined ? first : say("joined", { first, second: span(ms) })}
    </span>
  );
}

/** @param {{label: string, text: string}} props */
function Data({ label, text }) {
  return (
    <div className="step-text">
      <p className="small-print">{label}</p>
      <pre dir="auto">{text}</pre>
    </div>
  );
}
