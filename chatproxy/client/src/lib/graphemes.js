const CHARACTERS = new Intl.Segmenter(undefined, { granularity: "grapheme" });
/** UTF-16 units: hardly any character has more, and a few hostile ones have thousands. */
const LONGEST = 16;

/**
 * A text of at most so many characters, as a reader counts them. One that was longer ends with an
 * ellipsis.
 * @param {string} text
 * @param {number} most
 */
export function shorten(text, most) {
  const head = text.slice(0, most * LONGEST);
  const ends = [...CHARACTERS.segment(head)].slice(0, most + 1).map(({ index }) => index);
  const isWhole = head.length === text.length && ends.length <= most;
  return isWhole ? text : `${head.slice(0, ends[most - 1]).trimEnd()}…`;
}
