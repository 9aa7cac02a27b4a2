import { useId, useState } from "react";

import { chooseLanguage, LANGUAGES, useChosenLanguage, useLanguage } from "../../i18n/current.js";
import { chooseTheme, keptTheme, THEMES } from "../../lib/theme.js";

/**
 * How the page looks and speaks, in this browser.
 * @param {{storage: Storage | null}} props
 */
export function PagePreferences({ storage }) {
  const { say } = useLanguage();
  const id = useId();
  const tag = useChosenLanguage();
  const [theme, setTheme] = useState(() => keptTheme(storage));

  return (
    <fieldset className="fields">
      <legend>{say("thisBrowser")}</legend>
      <div className="field">
        <label htmlFor={`${id}-language`}>{say("language")}</label>
        <select
          id={`${id}-language`}
          value={tag}
          onChange={(event) => chooseLanguage(storage, event.target.value)}
        >
          <option value="">{say("languageOfBrowser")}</option>
          {[...LANGUAGES].map(([tag, { name }]) => (
            <option key={tag} value={tag} lang={tag}>
              {name}
            </option>
          ))}
        </select>
      </div>
      <div className="field">
        <label htmlFor={`${id}-theme`}>{say("theme")}</label>
        <select
          id={`${id}-theme`}
          value={theme}
          onChange={(event) => setTheme(chooseTheme(storage, event.target.value))}
        >
          {THEMES.map((theme) => (
            <option key={theme} value={theme}>
              {say(`theme.${theme}`)}
            </option>
          ))}
        </select>
      </div>
    </fieldset>
  );
}
