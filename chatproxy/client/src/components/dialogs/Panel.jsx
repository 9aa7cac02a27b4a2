import { useEffect, useState } from "react";

import { useLanguage } from "../../i18n/current.js";
import { Dialog } from "../parts/Dialog.jsx";

/**
 * The parts of the page that are loaded when they are first asked for.
 * @type {Record<string, () => Promise<import("react").ComponentType<any>>>}
 */
const PARTS = {
  settings: async () => (await import("./SettingsDialog.jsx")).SettingsDialog,
  prompts: async () => (await import("./PromptsDialog.jsx")).PromptsDialog,
  help: async () => (await import("./HelpDialog.jsx")).HelpDialog,
};

/**
 * @typedef {Parameters<typeof import("./SettingsDialog.jsx").SettingsDialog>[0]} OfSettings
 * @typedef {Parameters<typeof import("./PromptsDialog.jsx").PromptsDialog>[0]} OfPrompts
 */

/**
 * One of these parts, as soon as it is there; or that it could not be loaded.
 * @param {{name: string} & OfSettings & OfPrompts} props
 */
export function Panel({ name, ...props }) {
  const { say } = useLanguage();
  const [loaded, setLoaded] = useState({
    name: "",
    part: /** @type {import("react").ComponentType<any>} */ (missing),
  });

  useEffect(() => {
    let wanted = true;
    PARTS[name]?.()
      .catch(() => missing)
      .then((part) => wanted && setLoaded({ name, part }));
    return () => {
      wanted = false;
    };
  }, [name]);

  if (loaded.name !== name) {
    return null;
  }
  if (loaded.part === missing) {
    return (
      <Dialog title={say("notLoaded")} onClose={props.onClose}>
        <p>{say("notLoadedHint")}</p>
      </Dialog>
    );
  }
  return <loaded.part {...props} />;
}

/** What stands for a part that could not be loaded. */
function missing() {
  return null;
}
