import { createContext } from "react";

/**
 * What a text says about its references, wherever it says so: the addresses of its links and the
 * numbers of its footnotes. A block need not be parsed again if a definition comes after it; only
 * what is in brackets is drawn again.
 * @typedef {import("./parse-spans.js").Known & {scope: string}} KnownReferences
 *   `scope` begins the ids of the text's footnotes, so that they are the text's own
 */

/** @type {KnownReferences} */
export const NO_REFERENCES = {
  definitions: {},
  footnotes: new Map(),
  mayBeDefined: false,
  scope: "",
};

export const References = createContext(NO_REFERENCES);
