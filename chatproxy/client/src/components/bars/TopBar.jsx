import { memo } from "react";

import { useLanguage } from "../../i18n/current.js";
import { Icon } from "../parts/Icon.jsx";
import { IconButton } from "../parts/IconButton.jsx";
import { ModelPicker } from "./ModelPicker.jsx";

/**
 * Which model answers, and whether it thinks first; the ways to the settings and to the help, and
 * one to be rid of the access token.
 * @param {object} props
 * @param {import("../../lib/page-settings.js").PageSettings} props.settings
 * @param {import("../../state/asking/use-choice.js").Choice} props.choice
 * @param {(change: Partial<import("../../state/asking/use-choice.js").Choice>) => void} props.onChoose
 * @param {boolean} props.listOpen
 * @param {() => void} props.onOpenList
 * @param {() => void} [props.onForget] if there is a token to forget
 * @param {(panel: "settings" | "help") => void} props.onPanel
 * @param {import("react").Ref<HTMLButtonElement>} props.ref the button that opens the list
 */
function Bar({ settings, choice, onChoose, listOpen, onOpenList, onForget, onPanel, ref }) {
  const { say } = useLanguage();
  return (
    <div className="topbar">
      <IconButton
        ref={ref}
        icon="menu"
        className="only-narrow"
        label={say("chats")}
        aria-expanded={listOpen}
        onClick={onOpenList}
      />
      <ModelPicker
        models={settings.models}
        runs={settings.runs}
        model={choice.model}
        onModel={(model) => onChoose({ model })}
      />
      <label className="switch">
        <input
          type="checkbox"
          role="switch"
          checked={choice.thinking}
          onChange={(event) => onChoose({ thinking: event.target.checked })}
        />
        <span>{say("thinking")}</span>
      </label>
      <div className="topbar-end">
        {onForget && (
          <button
            type="button"
            className="button small forget"
            title={say("forgetToken")}
            onClick={onForget}
          >
            <Icon name="key" />
            <span>{say("forgetToken")}</span>
          </button>
        )}
        <IconButton
          icon="settings"
          data-button="settings"
          label={say("settings")}
          title={say("settings")}
          onClick={() => onPanel("settings")}
        />
        <IconButton
          icon="help"
          data-button="help"
          label={say("shortcuts")}
          title={say("shortcuts")}
          onClick={() => onPanel("help")}
        />
      </div>
    </div>
  );
}

export const TopBar = memo(Bar);
