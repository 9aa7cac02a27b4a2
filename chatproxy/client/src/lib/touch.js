/**
 * Whether the page is used with a finger. Then the keyboard is on the screen, and comes and goes with
 * the focus.
 */
export function isTouched() {
  return matchMedia("(pointer: coarse)").matches;
}
