/**
 * What the server tells the page: a line to show at the top, the models to choose from, whether it
 * wants an access token, and what becomes of an answer that nobody reads.
 * @typedef {object} PageSettings
 * @property {string} notice empty where there is nothing to say
 * @property {string} model the default
 * @property {string[]} models
 * @property {boolean} authorization whether every request needs an access token
 * @property {number} onDisconnect seconds for which an answer without a reader goes on; 0: not at all
 * @property {boolean} prefix whether the model can go on with the text of an answer (DeepSeek's chat
 *   prefix completion)
 * @property {unknown} [simulate] how a simulation is to behave, for trying things out
 */

const PATIENCE_MS = 3000;

/** @type {PageSettings} */
const DEFAULTS = {
  notice: "",
  model: "deepseek-flash",
  models: ["deepseek-flash", "deepseek-v4-pro"],
  authorization: false,
  onDisconnect: 0,
  prefix: false,
};

/**
 * Never fails: without the server's word, the defaults are used.
 * @returns {Promise<PageSettings>}
 */
export async function loadPageSettings() {
  try {
    const response = await fetch("/page.json", { signal: AbortSignal.timeout(PATIENCE_MS) });
    const told = await response.json();
    const settings = { ...DEFAULTS, ...told };
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
