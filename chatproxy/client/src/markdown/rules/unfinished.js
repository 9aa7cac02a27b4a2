/**
 * Emphasis and code without an end, in a text that grows: its end may still come, so it is shown as what
 * it is going to be, and not with its markup. When the text has ended, what has no end is text.
 */

/**
 * @typedef {import("./lines.js").InlineState} InlineState
 * @typedef {InlineState["delimiters"][number]} Delimiter
 */

/** `*`, `_` and `~`. */
const MARKERS = new Set([42, 95, 126]);
/** What a text may end with that is half of some markup, or all of it: no end is the same as a whole one. */
const HALF = /\\?[*_~]{0,3}$/;
const SPACE = /\s/;
const BACKTICKS = /`+/g;
/** What is outside of code: something escaped, or where code may begin. */
const OUTSIDE = /\\[\s\S]|`+/g;

/** @param {import("./lines.js").Parser} parser */
export function useUnfinished(parser) {
  parser.inline.ruler2.after("balance_pairs", "unfinished", endEmphasis);
}

/**
 * A text that grows, without half of some markup, and with an end for its code.
 * @param {string} text
 * @returns {string}
 */
export function withEnds(text) {
  const code = openCode(text);
  if (code === null) {
    return text.replace(HALF, "");
  }
  const { at, marker } = code;
  return at + marker.length === text.length ? text.slice(0, at) : text + marker;
}

/**
 * The first backticks outside of code that no others answer; a single one before a space is rarely
 * meant to begin code.
 * @param {string} text
 * @returns {{at: number, marker: string} | null}
 */
function openCode(text) {
  /** @type {Map<number, number[]>} when there are so many in a row, the last first */
  const places = new Map();
  for (const { 0: marker, index } of [...text.matchAll(BACKTICKS)].reverse()) {
    const same = places.get(marker.length) ?? [];
    same.push(index);
    places.set(marker.length, same);
  }
  OUTSIDE.lastIndex = 0;
  for (let found; (found = OUTSIDE.exec(text)); ) {
    const { 0: marker, index } = found;
    if (marker.startsWith("`")) {
      const same = places.get(marker.length) ?? [];
      while ((same.at(-1) ?? Infinity) <= index) {
        same.pop();
      }
      const end = same.at(-1);
      if (end !== undefined) {
        OUTSIDE.lastIndex = end + marker.length;
      } else if (marker.length > 1 || !SPACE.test(text.charAt(index + 1))) {
        return { at: index, marker };
      }
    }
  }
  return null;
}

/**
 * Gives the delimiters that nothing has closed an end behind all that has come: the innermost first.
 * @param {InlineState} state
 */
function endEmphasis(state) {
  if (state.env.growing) {
    for (const opener of unclosed(state.delimiters).reverse()) {
      state.push("text", "", 0);
      const token = state.tokens.length - 1;
      opener.end = state.delimiters.length;
      state.delimiters.push({ ...opener, token, end: -1, open: false, close: true });
    }
  }
  return false;
}

/**
 * Those that could open something, and are not within what has an end: spans don't cross.
 * @param {Delimiter[]} delimiters
 */
function unclosed(delimiters) {
  let closedTo = -1;
  return delimiters.filter(({ marker, open, end }, at) => {
    const outside = at > closedTo;
    closedTo = Math.max(closedTo, end);
    return outside && end < 0 && open && MARKERS.has(marker);
  });
}
