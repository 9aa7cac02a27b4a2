/**
 * A language: its sentences, and how it writes numbers, times and lists. Pure.
 *
 * A sentence is a text with `{names}` where its values go, or one text for each plural category that
 * the language has (`one`, `other`, …), chosen by the value `count`. Numbers among the values are
 * written as the language does.
 */

/**
 * @typedef {keyof typeof import("./en.js").en} SentenceName
 * @typedef {string | (Partial<Record<Intl.LDMLPluralRule, string>> & {other: string})} Sentence
 * @typedef {Record<string, string | number>} Values
 * @typedef {ReturnType<typeof createLanguage>} Language
 */

const VALUE = /\{(\w+)\}/g;
/** @type {Intl.DateTimeFormatOptions} */
const WHOLE_DATE = { dateStyle: "medium", timeStyle: "short" };
/** Milliseconds from 1970 on that a date can have; an imported one may have any. */
const LAST_DATE = 8.64e15;

/**
 * @param {string} tag such as `zh-CN`: what `<html lang>` and `Intl` take
 * @param {Record<SentenceName, Sentence>} sentences
 */
export function createLanguage(tag, sentences) {
  const plurals = once(() => new Intl.PluralRules(tag));
  const numbers = once(() => new Intl.NumberFormat(tag));
  const dates = once(() => new Intl.DateTimeFormat(tag, WHOLE_DATE));
  const lists = once(() => new Intl.ListFormat(tag, { type: "conjunction" }));
  const spans = once(() => new Intl.ListFormat(tag, { type: "unit", style: "narrow" }));

  /**
   * @param {string} name
   * @returns {name is SentenceName}
   */
  function has(name) {
    return Object.hasOwn(sentences, name);
  }

  /**
   * @param {SentenceName} name
   * @param {Values} [values]
   * @returns {string}
   */
  function say(name, values = {}) {
    const sentence = sentences[name];
    const text =
      typeof sentence === "string"
        ? sentence
        : (sentence[plurals().select(Number(values.count))] ?? sentence.other);
    return text.replace(VALUE, (_, key) => {
      const value = values[key] ?? "";
      return typeof value === "number" ? numbers().format(value) : value;
    });
  }

  /**
   * @param {number} value
   * @param {"millisecond" | "second" | "minute" | "byte" | "kilobyte" | "megabyte"} unit
   * @param {"short" | "long"} [unitDisplay]
   * @returns {string} such as `3 ms`
   */
  function quantity(value, unit, unitDisplay = "short") {
    const maximumFractionDigits = value < 10 ? 1 : 0;
    const style = { style: /** @type {const} */ ("unit"), unit, unitDisplay, maximumFractionDigits };
    return new Intl.NumberFormat(tag, style).format(value);
  }

  /**
   * @param {number} ms
   * @returns {string} such as `12 sec` or `2 min 5 sec`
   */
  function duration(ms) {
    const seconds = Math.max(0, Math.round(ms / 1000));
    const minutes = quantity(Math.floor(seconds / 60), "minute");
    const rest = quantity(seconds % 60, "second");
    return seconds < 60 ? rest : spans().format([minutes, rest]);
  }

  /**
   * @param {number} ms how long something took
   * @returns {string} such as `812 ms`, `1.2 sec` or `2 min 5 sec`
   */
  function span(ms) {
    if (ms < 1000) {
      return quantity(Math.round(ms), "millisecond");
    }
    return ms < 60_000 ? quantity(ms / 1000, "second") : duration(ms);
  }

  /**
   * @param {number} value
   * @param {number} [digits] how many of them matter; all if left out
   * @returns {string}
   */
  function number(value, digits) {
    return digits === undefined
      ? numbers().format(value)
      : new Intl.NumberFormat(tag, { maximumSignificantDigits: digits }).format(value);
  }

  /**
   * @param {number} amount
   * @param {string} currency three letters
   * @returns {string} such as `$0.00021`: of less than a whole one, two digits that matter
   */
  function money(amount, currency) {
    const digits = amount > 0 && amount < 1 && { maximumSignificantDigits: 2 };
    return new Intl.NumberFormat(tag, { style: "currency", currency, ...digits }).format(amount);
  }

  /**
   * @param {number} bytes
   * @returns {string} such as `320 kB`
   */
  function size(bytes) {
    if (bytes < 1000) {
      return quantity(bytes, "byte", "long");
    }
    return bytes < 1e6 ? quantity(bytes / 1000, "kilobyte") : quantity(bytes / 1e6, "megabyte");
  }

  return {
    tag,
    has,
    say,
    quantity,
    duration,
    span,
    number,
    money,
    size,
    /** @param {number} ms since 1970; nothing is written of one that is not known */
    date: (ms) => (ms > 0 && ms <= LAST_DATE ? dates().format(ms) : ""),
    /** @param {string[]} items */
    list: (items) => lists().format(items),
  };
}

/**
 * What is made when it is first needed. A phone takes 30 ms for all that `Intl` has to load for a
 * language, and the page begins without any of it.
 * @template T
 * @param {() => T} make
 * @returns {() => T}
 */
function once(make) {
  /** @type {T | undefined} */
  let made;
  return () => (made ??= make());
}
