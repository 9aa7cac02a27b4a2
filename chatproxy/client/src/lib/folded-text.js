/**
 * Text made comparable for a search: without case, diacritics and differences of width, so that
 * "Ａ", "à" and "a" are the same. Words need not be told apart, which Chinese does not do either:
 * what is searched for is found anywhere.
 *
 * Marks that make another letter are left where they are, such as the vowels of Indian scripts and
 * the ring of が: only those of Latin, Greek, Cyrillic, Hebrew and Arabic are taken for diacritics.
 */

const MARKS = /[\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u064b-\u0652\u0670]/g;
/** Letters that Unicode does not take apart. */
const LETTERS = /[øłđßæœıς]/g;
/** @type {Record<string, string>} */
const PLAIN = { ø: "o", ł: "l", đ: "d", ß: "ss", æ: "ae", œ: "oe", ı: "i", ς: "σ" };
/** UTF-16 units. */
const PIECE = 1000;
const ASCII = /^[\0-\x7f]*$/;

/** @param {string} text */
export function folded(text) {
  const small = text.toLowerCase();
  if (ASCII.test(small)) {
    return small;
  }
  return small
    .normalize("NFKD")
    .replace(MARKS, "")
    .replace(LETTERS, (letter) => PLAIN[letter] ?? letter);
}

/**
 * Where something is in a text that is not folded.
 * @param {string} text
 * @param {string} wanted folded
 * @returns {[number, number] | null} its beginning and end in `text`
 */
export function findFolded(text, wanted) {
  const at = folded(text).indexOf(wanted);
  if (at < 0) {
    return null;
  }
  let [place, seen] = pieceWith(text, at);
  let begin = -1;
  for (const character of text.slice(place)) {
    const { length } = folded(character);
    if (begin < 0 && seen + length > at) {
      begin = place;
    }
    seen += length;
    place += character.length;
    if (seen >= at + wanted.length) {
      break;
    }
  }
  return [begin, place];
}

/**
 * Where the piece of a text begins that has what is at a place in the folded text: a long text need
 * not be gone through by the character.
 * @param {string} text
 * @param {number} at
 * @returns {[number, number]} its place in the text, and in the folded one
 */
function pieceWith(text, at) {
  let seen = 0;
  for (let place = 0; ; place += PIECE) {
    const { length } = folded(text.slice(place, place + PIECE));
    if (seen + length > at) {
      return [place, seen];
    }
    seen += length;
  }
}
