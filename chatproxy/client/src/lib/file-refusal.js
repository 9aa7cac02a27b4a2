/** @typedef {import("../i18n/language.js").SentenceName} SentenceName */

/** Why a file can't be attached, as the name of a sentence. */
export class FileRefusal extends Error {
  /** @param {SentenceName} sentence it gets the file's `name`, and the `size` that it may have */
  constructor(sentence) {
    super(sentence);
    this.sentence = sentence;
  }
}
