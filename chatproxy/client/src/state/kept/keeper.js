/**
 * Keeps conversations in the library: what changed is written once a second at the most, and never
 * twice at once. What is not written yet when the page is left goes into the journal.
 *
 * A message has a new identity whenever it changes, so a set of those that the library has tells
 * what it has not. If a write fails, the page goes on: it is told, and the write is tried again.
 */

/**
 * @typedef {import("../chats/model.js").Conversation} Conversation
 * @typedef {"full" | "failed" | null} Trouble why the last write failed
 */

const PAUSE_MS = 1000;
/** Milliseconds until the next try after a write has failed. */
const RETRY_MS = 5000;

/**
 * @param {object} options
 * @param {Pick<import("./library.js").Library, "keep" | "journal">} options.library
 * @param {Conversation[]} options.loaded what the library has
 * @param {(conversation: Conversation) => void} options.onFound what another tab knows more of
 * @param {(trouble: Trouble) => void} options.onTrouble
 */
export function createKeeper({ library, loaded, onFound, onTrouble }) {
  const { journal } = library;
  /** @type {WeakSet<object>} */
  const had = new WeakSet();
  let wanted = loaded;
  let savedAt = -Infinity;
  let pause = PAUSE_MS;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {Promise<void> | null} */
  let writing = null;

  loaded.forEach(mark);

  /**
   * The library has this.
   * @param {Conversation} conversation
   */
  function mark(conversation) {
    had.add(conversation);
    markMessages(conversation.messages);
  }

  /** @param {import("../chats/model.js").Message[]} messages */
  function markMessages(messages) {
    messages.forEach((message) => had.add(message));
  }

  /**
   * The library has lost this; it is kept again as a whole if it changes.
   * @param {string} id
   */
  function forget(id) {
    const lost = wanted.find((conversation) => conversation.id === id);
    lost?.messages.forEach((message) => had.delete(message));
  }

  /** The conversations that have changed, with their messages that have. */
  function changes() {
    return wanted
      .filter((conversation) => !had.has(conversation))
      .map((conversation) => ({
        whole: conversation,
        part: { ...conversation, messages: conversation.messages.filter((one) => !had.has(one)) },
      }));
  }

  function wake() {
    if (!writing) {
      timer ??= setTimeout(save, Math.max(0, savedAt + pause - performance.now()));
    }
  }

  /** Write now what has changed. */
  function save() {
    clearTimeout(timer);
    timer = undefined;
    writing ??= write().finally(() => {
      writing = null;
      if (changes().length > 0) {
        wake();
      }
    });
    return writing;
  }

  async function write() {
    const changed = changes();
    if (changed.length === 0) {
      journal.clear();
      return;
    }
    savedAt = performance.now();
    try {
      const found = await library.keep(changed.map(({ part }) => part));
      changed.forEach(({ whole }) => mark(whole));
      pause = PAUSE_MS;
      if (changes().length === 0) {
        journal.clear();
      }
      onTrouble(null);
      found.forEach((one) => onFound(one));
    } catch (error) {
      pause = RETRY_MS;
      const full = error instanceof DOMException && error.name === "QuotaExceededError";
      onTrouble(full ? "full" : "failed");
    }
  }

  /** @param {Conversation[]} conversations */
  function keep(conversations) {
    wanted = conversations;
    wake();
  }

  /** The page is left, or may be soon. */
  function leave() {
    journal.write(changes().map(({ part }) => part));
    void save();
  }

  return { keep, save, leave, mark, markMessages, forget };
}
