/** What others have written, read without trust. */

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- each field is checked where it is used
export type Unchecked = any;

/** The value that a text stands for; undefined if it is no JSON. */
export function parse(text: string): Unchecked {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function asText(value: unknown): string {
  return typeof value === "string" ? value : "";
}
