/**
 * What a chat asks its answers with: DeepSeek's own names and values. A chat keeps only what it has
 * otherwise than the server's defaults; what neither has is left to DeepSeek. Pure.
 *
 * @typedef {object} ChatSettings null if the default is not wanted, and nothing in its place
 * @property {string | null} [system] what stands before the conversation
 * @property {number | null} [temperature]
 * @property {number | null} [max_tokens]
 * @property {Effort | null} [reasoning_effort] matters in thinking mode only
 *
 * @typedef {"low" | "high" | "max"} Effort
 * @typedef {keyof ChatSettings} SettingName
 */

/** @type {Effort[]} */
export const EFFORTS = ["low", "high", "max"];
export const HOTTEST = 2;
export const MOST_TOKENS = 393_216;

/** @type {Record<SettingName, (value: any) => boolean>} */
const SOUND = {
  system: (value) => typeof value === "string",
  temperature: (value) => typeof value === "number" && value >= 0 && value <= HOTTEST,
  max_tokens: (value) => Number.isInteger(value) && value >= 1 && value <= MOST_TOKENS,
  reasoning_effort: (value) => EFFORTS.includes(value),
};

/** @type {SettingName[]} */
const NAMES = ["system", "temperature", "max_tokens", "reasoning_effort"];

/**
 * What of `settings` can be used: they may come from a file, or from another version of the page.
 * @param {any} settings
 * @returns {ChatSettings}
 */
export function soundSettings(settings) {
  const sound = NAMES.filter((name) => {
    const value = settings?.[name];
    return value === null || (value !== undefined && SOUND[name](value));
  });
  return Object.fromEntries(sound.map((name) => [name, settings[name]]));
}

/**
 * The value of a setting that was typed.
 * @param {SettingName} name
 * @param {string} text
 * @returns {string | number | null | undefined} null for nothing; undefined for what can't be used
 */
export function readSetting(name, text) {
  if (text.trim() === "") {
    return null;
  }
  const isNumber = name === "temperature" || name === "max_tokens";
  const value = isNumber ? Number(text.trim().replace(",", ".")) : text;
  return SOUND[name](value) ? value : undefined;
}

/**
 * The settings with one of them changed.
 * @param {ChatSettings} settings
 * @param {ChatSettings} defaults
 * @param {SettingName} name
 * @param {string | number | null} value
 * @returns {ChatSettings}
 */
export function withSetting(settings, defaults, name, value) {
  const next = { ...settings, [name]: value };
  if (value === (defaults[name] ?? null)) {
    delete next[name];
  }
  return next;
}

/**
 * What a question has besides its messages.
 * @param {ChatSettings} settings
 * @param {boolean} thinking
 * @returns {Record<string, unknown>}
 */
export function payloadFields({ temperature, max_tokens, reasoning_effort }, thinking) {
  const effort = thinking ? reasoning_effort : null;
  const fields = { temperature, max_tokens, reasoning_effort: effort };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => (value ?? null) !== null));
}

/**
 * The message before all others.
 * @param {ChatSettings} settings
 * @returns {{role: "system", content: string}[]}
 */
export function systemMessages({ system }) {
  return system ? [{ role: "system", content: system }] : [];
}
