/**
 * The text of a PDF. This file, the library and its worker are loaded when the first PDF is attached.
 */

import { getDocument, GlobalWorkerOptions, PasswordException } from "pdfjs-dist";
import workerAddress from "pdfjs-dist/build/pdf.worker.min.mjs?url";

import { FileRefusal } from "./file-refusal.js";

GlobalWorkerOptions.workerSrc = workerAddress;

/**
 * The tables for simplified Chinese that a PDF may do without, because every reader has them. Of
 * other scripts most PDFs bring their own.
 * @type {Record<string, string>}
 */
const MAPS = import.meta.glob(
  "../../node_modules/pdfjs-dist/cmaps/{GB,UniGB,Adobe-GB1}*.bcmap",
  { query: "?url", import: "default", eager: true },
);

/** Where the library gets what a PDF does not bring. */
class Tables {
  /** @param {{kind: string, filename: string}} wanted */
  async fetch({ filename }) {
    const address = MAPS[`../../node_modules/pdfjs-dist/cmaps/${filename}`];
    const response = address && (await fetch(address));
    if (!response || !response.ok) {
      throw new Error(filename);
    }
    return new Uint8Array(await response.arrayBuffer());
  }
}

/**
 * @param {ArrayBuffer} data
 * @param {number} most characters to read
 * @param {AbortSignal} signal ends the reading
 * @returns {Promise<string>} pages with an empty line between them
 * @throws {FileRefusal}
 */
export async function pdfText(data, most, signal) {
  const task = getDocument({ data, BinaryDataFactory: Tables, cMapPacked: true, verbosity: 0 });
  signal.addEventListener("abort", () => task.destroy(), { once: true });
  try {
    const text = await textOf(await task.promise, most);
    if (text.trim() === "") {
      throw new FileRefusal("fileScanned");
    }
    return text;
  } catch (error) {
    if (error instanceof FileRefusal) {
      throw error;
    }
    throw new FileRefusal(error instanceof PasswordException ? "fileLocked" : "fileDamaged");
  } finally {
    task.destroy();
  }
}

/**
 * @param {import("pdfjs-dist").PDFDocumentProxy} pdf
 * @param {number} most
 */
async function textOf(pdf, most) {
  const pages = [];
  let length = 0;
  for (let number = 1; number <= pdf.numPages; number += 1) {
    const page = await pdf.getPage(number);
    const { items } = await page.getTextContent();
    const text = items.map((item) => ("str" in item ? item.str + (item.hasEOL ? "\n" : "") : ""));
    page.cleanup();
    pages.push(text.join("").trimEnd());
    length += pages.at(-1)?.length ?? 0;
    if (length > most) {
      throw new FileRefusal("fileTooLarge");
    }
  }
  return pages.join("\n\n");
}
