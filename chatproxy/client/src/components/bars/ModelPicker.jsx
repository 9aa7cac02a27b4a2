import { useLanguage } from "../../i18n/current.js";
import { shownModel } from "../../lib/models.js";
import { Icon } from "../parts/Icon.jsx";

/**
 * Who answers: a model, or a run of the application's.
 * @param {object} props
 * @param {string[]} props.models
 * @param {string[]} props.runs
 * @param {string} props.model the one that is chosen
 * @param {(model: string) => void} props.onModel
 */
export function ModelPicker({ models, runs, model, onModel }) {
  const { say } = useLanguage();
  if (models.length + runs.length === 0) {
    return null;
  }
  return (
    <label className="picker">
      <span className="visually-hidden">{say("model")}</span>
      <select value={model} onChange={(event) => onModel(event.target.value)}>
        <Options models={models} />
        {runs.length > 0 && (
          <optgroup label={say("runs")}>
            <Options models={runs} />
          </optgroup>
        )}
      </select>
      <Icon name="down" />
    </label>
  );
}

/** @param {{models: string[]}} props */
function Options({ models }) {
  return models.map((model) => (
    <option key={model} value={model}>
      {shownModel(model)}
    </option>
  ));
}
