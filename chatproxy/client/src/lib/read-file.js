/**
 * Files as attachments: text as it is, the text of a PDF, and images made small enough. What is too
 * large is refused before it is read.
 *
 * @typedef {import("./attachments.js").Attachment} Attachment
 *
 * @typedef {object} Limits
 * @property {number} bytes what an attachment may take in a request
 * @property {boolean} images whether the model takes images
 */

import { bytesOf } from "./attachments.js";
import { FileRefusal } from "./file-refusal.js";
import { imageAsData } from "./image.js";
import { createSessionId } from "./llm-api.jsx";

/** Bytes of a file that is read as a whole before its size as an attachment is known. */
const MOST_TO_READ = 50_000_000;
const IMAGE = /^image\/(?:png|jpeg|webp|gif|avif|bmp)$/;
/**
 * Byte order marks.
 * @type {Record<number, string>}
 */
const MARKS = { 0xfffe: "utf-16le", 0xfeff: "utf-16be" };
/** Control characters that no text has: all but those of lines and pages. */
const NO_TEXT = /[^\P{Cc}\t\n\v\f\r\u0085]/u;
/** What colours the output of a terminal, which is text too. */
const ESCAPE = String.fromCharCode(27);

/**
 * @param {File} file
 * @param {Limits} limits
 * @param {AbortSignal} signal ends the reading
 * @returns {Promise<Attachment>}
 * @throws {FileRefusal}
 */
export async function readFile(file, limits, signal) {
  const { kind, content } = await readAs(file, limits, signal);
  const size = bytesOf(content);
  if (size > limits.bytes) {
    throw new FileRefusal("fileTooLarge");
  }
  return { id: createSessionId(), name: nameOf(file), kind, content, size };
}

/**
 * @param {File} file
 * @param {Limits} limits
 * @param {AbortSignal} signal
 * @returns {Promise<Pick<Attachment, "kind" | "content">>}
 */
async function readAs(file, { bytes, images }, signal) {
  if (IMAGE.test(file.type)) {
    if (!images) {
      throw new FileRefusal("fileNoImages");
    }
    return { kind: "image", content: await imageAsData(within(file, MOST_TO_READ), bytes) };
  }
  if (file.type === "application/pdf" || /\.pdf$/i.test(file.name)) {
    const { pdfText } = await import("./pdf-text.js").catch(() => {
      throw new FileRefusal("notLoadedHint");
    });
    const data = await within(file, MOST_TO_READ).arrayBuffer();
    return { kind: "text", content: await pdfText(data, bytes, signal) };
  }
  // In UTF-16 it may have twice the bytes.
  return { kind: "text", content: decode(await within(file, 2 * bytes).arrayBuffer()) };
}

/**
 * @param {File} file
 * @param {number} bytes
 */
function within(file, bytes) {
  if (file.size > bytes) {
    throw new FileRefusal("fileTooLarge");
  }
  return file;
}

/**
 * The file's name on one line.
 * @param {File} file
 */
function nameOf({ name }) {
  return name.replaceAll(/\p{Cc}+/gu, " ");
}

/**
 * @param {ArrayBuffer} data
 * @returns {string}
 * @throws {FileRefusal} if it is no text
 */
export function decode(data) {
  const text = textOf(data);
  if (NO_TEXT.test(text.replaceAll(ESCAPE, ""))) {
    throw new FileRefusal("fileNoText");
  }
  return text;
}

/** @param {ArrayBuffer} data */
function textOf(data) {
  const [first = 0, second = 0] = new Uint8Array(data);
  const mark = MARKS[(first << 8) | second];
  if (mark) {
    return new TextDecoder(mark).decode(data);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(data);
  } catch {
    const latin = new TextDecoder("windows-1252").decode(data);
    return isPaired(latin) ? new TextDecoder("gb18030").decode(data) : latin;
  }
}

/**
 * Whether the bytes beyond ASCII come in pairs, as those of Chinese text do, and not alone, as the
 * accented letters of other languages.
 * @param {string} latin
 */
function isPaired(latin) {
  const runs = latin.match(/\P{ASCII}+/gu) ?? [];
  const even = runs.filter((run) => run.length % 2 === 0);
  return 2 * even.length > runs.length;
}
