import { resumeFor } from "./llm-api.jsx";
import { asModel } from "./models.js";
import { addressAt } from "./mount.js";

/**
 * What the server tells the page: a line to show at the top, the models to choose from, what a chat
 * begins with, whether it wants an access token, how much it takes, and what becomes of an answer.
 * @typedef {object} PageSettings
 * @property {string} notice empty if there is nothing to say
 * @property {string} model the default; empty: the server's
 * @property {string[]} models
 * @property {string[]} runs the application's, as models
 * @property {string[]} visionModels those that take images
 * @property {import("../state/chats/chat-settings.js").ChatSettings} defaults what a chat begins with
 * @property {boolean} [authorization] whether every request needs an access token; left out if the
 *   server could not be asked
 * @property {boolean} prefix whether the model can go on with the text of an answer (DeepSeek's chat
 *   prefix completion)
 * @property {number} maxBodyBytes the largest question that the server takes, with all before it
 * @property {import("./llm-api.jsx").Resume} resume how an answer is read on
 * @property {{owner: string | null} | null} [conversations] whether they are kept on the server, and
 *   the key of whoever asks; left out if the server could not be asked
 * @property {unknown} [simulate] how a simulation is to behave, for trying things out
 */

const PATIENCE_MS = 3000;

/** @type {PageSettings} */
const DEFAULTS = {
  notice: "",
  model: "",
  models: [],
  runs: [],
  visionModels: [],
  defaults: {},
  prefix: false,
  maxBodyBytes: 1 << 20,
  resume: resumeFor(0),
};

/**
 * Never fails: without the server's word, the defaults are used.
 * @returns {Promise<PageSettings>}
 */
export async function loadPageSettings() {
  try {
    const response = await fetch(addressAt("page.json"), { signal: AbortSignal.timeout(PATIENCE_MS) });
    const { onDisconnect, retain, heartbeat, runs, ...told } = await response.json();
    const times = { retainSeconds: retain, heartbeatSeconds: heartbeat };
    const resume = resumeFor(onDisconnect, times);
    const settings = { ...DEFAULTS, ...told, runs: runs.map(asModel), resume };
    return settings.notice ? { ...settings, simulate: readSimulate(location) } : settings;
  } catch {
    return DEFAULTS;
  }
}

/**
 * The object in `?simulate={…}` or `#simulate={…}`.
 * @param {{search: string, hash: string}} location
 * @returns {unknown}
 */
export function readSimulate({ search, hash }) {
  for (const part of [search, hash]) {
    const text = new URLSearchParams(part.slice(1)).get("simulate");
    try {
      if (text) {
        return JSON.parse(text);
      }
    } catch {
      // Mistyped by hand: as if it were not there.
    }
  }
  return undefined;
}
