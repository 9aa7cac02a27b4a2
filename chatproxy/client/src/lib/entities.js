/** Character references in Markdown, such as `&amp;` and `&#8364;`, as the characters they mean. */

/** @type {Record<string, string>} */
const NAMED = {
  amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", copy: "©", reg: "®",
  trade: "™", hellip: "…", mdash: "—", ndash: "–", lsquo: "‘", rsquo: "’", ldquo: "“", rdquo: "”",
  laquo: "«", raquo: "»", bull: "•", middot: "·", times: "×", divide: "÷", deg: "°", plusmn: "±",
  le: "≤", ge: "≥", ne: "≠", asymp: "≈", infin: "∞", larr: "←", rarr: "→", uarr: "↑", darr: "↓",
  harr: "↔", euro: "€", pound: "£", yen: "¥", cent: "¢", sect: "§", para: "¶", micro: "µ",
  frac12: "½", frac14: "¼", frac34: "¾", sup2: "²", sup3: "³", alpha: "α", beta: "β", gamma: "γ",
  delta: "δ", pi: "π", sigma: "σ", omega: "ω", mu: "μ", lambda: "λ",
};

const REFERENCE = /&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|([a-zA-Z][a-zA-Z\d]{1,31}));/g;

/** @param {string} text */
export function decodeEntities(text) {
  if (!text.includes("&")) {
    return text;
  }
  return text.replace(REFERENCE, (whole, decimal, hexadecimal, name) => {
    if (name) {
      return Object.hasOwn(NAMED, name) ? /** @type {string} */ (NAMED[name]) : whole;
    }
    return character(decimal ? Number(decimal) : parseInt(hexadecimal, 16));
  });
}

/** @param {number} point */
function character(point) {
  const valid = point > 0 && point <= 0x10ffff && !(point >= 0xd800 && point <= 0xdfff);
  return valid ? String.fromCodePoint(point) : "\ufffd";
}
