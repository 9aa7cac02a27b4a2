import { useState } from "react";

import { useLanguage } from "../../i18n/current.js";
import { LOCAL_SHORTCUTS, SHORTCUTS } from "../../lib/shortcuts.js";
import { bareHelp, setBareHelp } from "../../state/hooks/use-shortcuts.js";
import { Dialog } from "../parts/Dialog.jsx";

const ALL = [...LOCAL_SHORTCUTS, ...SHORTCUTS];

/**
 * What the keys do.
 * @param {{storage: Storage | null, onClose: () => void}} props
 */
export function HelpDialog({ storage, onClose }) {
  const { say } = useLanguage();
  const [bare, setBare] = useState(() => bareHelp(storage));

  /** @param {boolean} on */
  function choose(on) {
    setBare(on);
    setBareHelp(storage, on);
  }

  return (
    <Dialog title={say("shortcuts")} onClose={onClose}>
      <dl className="shortcuts">
        {ALL.map(([name, keys]) => (
          <div key={name}>
            <dt>{say(`keys.${name}`)}</dt>
            <dd>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dd>
          </div>
        ))}
      </dl>
      <label className="check">
        <input
          type="checkbox"
          checked={bare}
          onChange={(event) => choose(event.target.checked)}
        />
        <span>{say("bareHelp")}</span>
      </label>
    </Dialog>
  );
}
