import { Fragment, useId, useState } from "react";

import { useLanguage } from "../../i18n/current.js";
import {
  EFFORTS,
  HOTTEST,
  MOST_TOKENS,
  readSetting,
  withSetting,
} from "../../state/chats/chat-settings.js";

/**
 * @typedef {import("../../state/chats/chat-settings.js").ChatSettings} ChatSettings
 * @typedef {import("../../state/chats/chat-settings.js").SettingName} SettingName
 */

/**
 * What one chat asks with. What is typed holds as soon as it can be used.
 * @param {object} props
 * @param {ChatSettings} props.settings
 * @param {ChatSettings} props.defaults
 * @param {boolean} props.thinking
 * @param {(settings: ChatSettings) => void} props.onSettings
 */
export function ChatSettingsForm({ settings, defaults, thinking, onSettings }) {
  const { say } = useLanguage();
  // What the chat had before it took the defaults, and how often it did that or took it back.
  const [{ before, resets }, setReset] = useState({
    before: /** @type {ChatSettings | null} */ (null),
    resets: 0,
  });
  const shown = { ...defaults, ...settings };

  /**
   * @param {SettingName} name
   * @param {string | number | null} value
   */
  function change(name, value) {
    setReset({ before: null, resets });
    onSettings(withSetting(settings, defaults, name, value));
  }

  function reset() {
    setReset({ before: before ? null : settings, resets: resets + 1 });
    onSettings(before ?? {});
  }

  return (
    <fieldset className="fields">
      <legend>{say("thisChat")}</legend>
      <Fragment key={resets}>
        <Typed name="system" value={shown.system} hint={say("systemHint")} onValue={change} long />
        <Typed
          name="temperature"
          value={shown.temperature}
          hint={say("temperatureHint", { most: HOTTEST })}
          onValue={change}
        />
        <Typed
          name="max_tokens"
          value={shown.max_tokens}
          hint={say("maxTokensHint", { most: MOST_TOKENS })}
          onValue={change}
        />
      </Fragment>
      <Effort value={shown.reasoning_effort} thinking={thinking} onValue={change} />
      {(before || Object.keys(settings).length > 0) && (
        <button type="button" className="text-button" onClick={reset}>
          {say(before ? "undo" : "useDefaults")}
        </button>
      )}
    </fieldset>
  );
}

/**
 * A value that is typed. While it can't be used the last one that can holds, and it says so.
 * @param {object} props
 * @param {"system" | "temperature" | "max_tokens"} props.name
 * @param {string | number | null | undefined} props.value at first; what is typed follows
 * @param {string} props.hint
 * @param {(name: SettingName, value: string | number | null) => void} props.onValue
 * @param {boolean} [props.long]
 */
function Typed({ name, value, hint, onValue, long = false }) {
  const { say } = useLanguage();
  const id = useId();
  const [text, setText] = useState(() => String(value ?? ""));
  const wrong = readSetting(name, text) === undefined;
  const Box = long ? "textarea" : "input";

  /** @param {string} typed */
  function handle(typed) {
    const next = readSetting(name, typed);
    setText(typed);
    if (next !== undefined) {
      onValue(name, next);
    }
  }

  return (
    <div className="field">
      <label htmlFor={id}>{say(`setting.${name}`)}</label>
      <Box
        id={id}
        value={text}
        rows={long ? 4 : undefined}
        dir="auto"
        inputMode={long ? undefined : "decimal"}
        autoComplete="off"
        aria-invalid={wrong}
        aria-describedby={`${id}-hint`}
        onChange={(event) => handle(event.target.value)}
      />
      <p id={`${id}-hint`} className="small-print" role={wrong ? "alert" : undefined}>
        {hint}
      </p>
    </div>
  );
}

/**
 * @param {object} props
 * @param {ChatSettings["reasoning_effort"]} props.value
 * @param {boolean} props.thinking
 * @param {(name: SettingName, value: string | null) => void} props.onValue
 */
function Effort({ value, thinking, onValue }) {
  const { say } = useLanguage();
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{say("setting.reasoning_effort")}</label>
      <select
        id={id}
        value={value ?? ""}
        aria-describedby={`${id}-hint`}
        onChange={(event) => onValue("reasoning_effort", event.target.value || null)}
      >
        <option value="">{say("effort.default")}</option>
        {EFFORTS.map((effort) => (
          <option key={effort} value={effort}>
            {say(`effort.${effort}`)}
          </option>
        ))}
      </select>
      <p id={`${id}-hint`} className="small-print">
        {say(thinking ? "effortHint" : "effortUnused")}
      </p>
    </div>
  );
}
