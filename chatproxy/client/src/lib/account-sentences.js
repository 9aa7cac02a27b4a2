/** What an answer came to, in a language: its tokens, its cost, and what a Stop has saved. */

/**
 * @typedef {import("./llm-api.jsx").Account} Account
 * @typedef {import("../i18n/language.js").Language} Language
 */

/** An estimate is not shown more exactly than it is known. */
const DIGITS_OF_AN_ESTIMATE = 2;

/**
 * Under an answer: its tokens, and what they cost.
 * @param {Language} language
 * @param {Account} [account]
 * @returns {string} empty if nothing is known
 */
export function accountLine(language, account) {
  const tokens = tokensOf(account);
  if (!account || !tokens) {
    return "";
  }
  const { prompt_tokens: prompt, completion_tokens: completion } = tokens;
  const about = aboutIn(language, account);
  const counts = { prompt: about(prompt), completion: about(completion), count: completion };
  return joined(language, [language.say("account.tokens", counts), costIn(language, account)]);
}

/**
 * After a Stop: what had come by then, and what was saved.
 * @param {Language} language
 * @param {Account} [account]
 * @returns {string} empty if nothing is known
 */
export function savedLine(language, account) {
  const tokens = tokensOf(account);
  if (!account || !tokens) {
    return "";
  }
  const { completion_tokens: count } = tokens;
  const { say, number } = language;
  const { savedAtMost, savedLikely } = account;
  const came = say("account.came", { tokens: aboutIn(language, account)(count), count });
  const most = savedAtMost === undefined ? "" : say("account.savedAtMost", { tokens: number(savedAtMost) });
  const likely = savedLikely
    ? say("account.savedLikely", { tokens: number(savedLikely.tokens, DIGITS_OF_AN_ESTIMATE) })
    : "";
  return joined(language, [came, most, likely]);
}

/** @param {Account} [account] */
function tokensOf(account) {
  return account?.usageSource === "none" ? null : account?.usage;
}

/**
 * How this account's numbers of tokens are written.
 * @param {Language} language
 * @param {Account} account
 * @returns {(count: number) => string}
 */
function aboutIn({ say, number }, { usageSource }) {
  return usageSource === "estimated"
    ? (count) => say("account.about", { value: number(count, DIGITS_OF_AN_ESTIMATE) })
    : (count) => number(count);
}

/**
 * @param {Language} language
 * @param {Account} account
 */
function costIn({ money, say }, { cost, usageSource }) {
  const value = cost ? money(cost.amount, cost.currency) : "";
  return value && usageSource === "estimated" ? say("account.about", { value }) : value;
}

/**
 * @param {Language} language
 * @param {string[]} parts
 */
function joined({ say }, parts) {
  return parts.filter(Boolean).reduce((first, second) => say("joined", { first, second }));
}
