const ALLOWED = new Set(["http:", "https:", "mailto:"]);

/**
 * The address of a link in an answer, if a click on it can do no harm.
 * @param {string} href
 * @returns {string | null} null for `javascript:` and all else but http, https and mailto
 */
export function safeLink(href) {
  try {
    const url = new URL(href);
    return ALLOWED.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
