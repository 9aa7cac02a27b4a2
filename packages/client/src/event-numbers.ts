/**
 * Sees to it that each event counts once, and none is left out: a text with a hole must not look
 * like a whole one.
 */
export class EventNumbers {
  /** The number of the last event. */
  last: number;
  /** Whether every event had a number. Without that nothing can be read on. */
  allThere = true;

  /** @param after - the number of the last event that is not wanted again */
  constructor(after: number) {
    this.last = after;
  }

  /** @param id - of an event that has come */
  placeOf(id: string | undefined): "next" | "before" | "after a gap" {
    const number = Number(id);
    if (!Number.isInteger(number)) {
      this.allThere = false;
      return "next";
    }
    if (number > this.last + 1) {
      return "after a gap";
    }
    if (number <= this.last) {
      return "before";
    }
    this.last = number;
    return "next";
  }
}
