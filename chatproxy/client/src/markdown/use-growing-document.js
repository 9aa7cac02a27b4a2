import { useState } from "react";

import { grow } from "./growing-document.js";

/** @typedef {import("./growing-document.js").GrowingDocument} GrowingDocument */

/**
 * The blocks of a text that grows; what has settled keeps its identity.
 * @param {string} text
 * @param {boolean} final
 * @param {GrowingDocument} empty
 * @returns {GrowingDocument}
 */
export function useGrowingDocument(text, final, empty) {
  const [document, setDocument] = useState(() => grow(empty, text, final, empty));
  if (document.text === text && document.final === final) {
    return document;
  }
  const grown = grow(document, text, final, empty);
  setDocument(grown);
  return grown;
}
