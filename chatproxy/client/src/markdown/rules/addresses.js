/** What ends an address in Chinese and Japanese, as a space ends it elsewhere. */
const CJK_PUNCTUATION = /[\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff3d\uff5b-\uff65“”‘’…—]/;

/**
 * A bare address ends where the sentence goes on.
 * @param {import("./lines.js").Parser} parser
 */
export function endAddressesAtCjkPunctuation({ linkify }) {
  const { matchAtStart } = linkify;
  linkify.matchAtStart = (text) => {
    const end = text.search(CJK_PUNCTUATION);
    return matchAtStart.call(linkify, end < 0 ? text : text.slice(0, end));
  };
}
