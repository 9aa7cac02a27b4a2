/**
 * When a resume has found nothing, the AI SDK's `useChat` is `ready`, whatever else is under way. So if
 * a question is sent while a resume waits for its reply, the resume is over only when the question is,
 * and just before that becomes known: what the question sets then is to be the last word.
 */

export class QuestionEnd {
  readonly #over = new AbortController();
  #isAwaited = false;

  get isOver(): boolean {
    return this.#over.signal.aborted;
  }

  /** Resolves at the end, or after the signal; neither is there yet. */
  async wait(signal = this.#over.signal): Promise<void> {
    this.#isAwaited = true;
    const either = AbortSignal.any([this.#over.signal, signal]);
    await new Promise((resolve) => either.addEventListener("abort", resolve));
  }

  /** It is about to be known. Resolves when who has waited has gone on. */
  async come(): Promise<void> {
    this.#over.abort();
    if (this.#isAwaited) {
      await new Promise((resolve) => setTimeout(resolve));
    }
  }
}

/**
 * Waits until no question is under way, or for the signal.
 * @param current - the end of the chat's present question, if it has one
 * @returns whether there was one
 */
export async function outlast(
  current: () => QuestionEnd | null | undefined,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  for (let waited = false; ; waited = true) {
    const end = current();
    if (!end || end.isOver || signal?.aborted) {
      return waited;
    }
    await end.wait(signal);
  }
}
