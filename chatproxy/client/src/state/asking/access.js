/**
 * The access token of this tab, as pure functions: each takes an access and returns the next one.
 * It lasts no longer than the tab, so that nobody finds it in the browser later.
 */

const KEY = "chatproxy.token";
/** What a header can carry; the server wants fewer characters still. */
const SENDABLE = /^[!-~]+$/;

/**
 * @typedef {object} Access
 * @property {string} token empty if there is none
 * @property {boolean} refused whether the last one was not accepted
 */

/** @type {Access} */
export const NO_ACCESS = { token: "", refused: false };

/**
 * @param {string} text what was typed
 * @returns {Access}
 */
export function entered(text) {
  const token = text.trim();
  return SENDABLE.test(token) ? { token, refused: false } : { token: "", refused: token !== "" };
}

/**
 * The server refused a token, which need not be the present one any more.
 * @param {Access} access
 * @param {string} token
 * @returns {Access}
 */
export function refused(access, token) {
  return access.token === token ? { token: "", refused: token !== "" } : access;
}

/**
 * The headers of a request, and of its Stop.
 * @param {string} token
 * @returns {Record<string, string>}
 */
export function headersFor(token) {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/**
 * @param {Storage | null} storage
 * @returns {Access}
 */
export function loadAccess(storage) {
  return entered(storage?.getItem(KEY) ?? "");
}

/**
 * @param {Storage | null} storage
 * @param {Access} access
 */
export function keepAccess(storage, { token }) {
  try {
    if (token) {
      storage?.setItem(KEY, token);
    } else {
      storage?.removeItem(KEY);
    }
  } catch {
    // A full storage: the token holds for as long as the page does.
  }
}
