/**
 * An id for one answer: `session_<milliseconds>_<random>`, with more than 120 bits from the
 * browser's cryptographic source. (`crypto.randomUUID` is missing if a page comes over plain HTTP.)
 */
export function createSessionId(): string {
  const random = crypto.getRandomValues(new Uint32Array(4));
  const digits = Array.from(random, (word) => word.toString(36).padStart(7, "0"));
  return `session_${Date.now()}_${digits.join("")}`;
}
