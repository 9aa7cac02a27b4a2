/**
 * Two versions of one conversation: the one that this tab shows, and the one that is kept in the
 * browser, where another tab may have written it. Pure.
 *
 * - The messages of a conversation change with a question only, so the later question decides which
 *   messages there are.
 * - An answer that has *come to rest* (the server said how it ended, or the user stopped it) is
 *   always worth more than one that runs, or that somebody could not read to its end.
 * - Of two that have not, the one with more events is worth more.
 * - What runs here changes only by what is read here: otherwise a piece could come twice.
 * - What is known about a Stop is worth more than that nobody knows yet.
 * - The text of an answer never gets shorter. Two tabs have read the same answer, one of them maybe
 *   further than the other: one that has come to rest has the longer text of both.
 */

/**
 * @typedef {import("./model.js").Conversation} Conversation
 * @typedef {import("./model.js").Answer} Answer
 * @typedef {import("./model.js").Message} Message
 */

/**
 * Whether nobody can know more about how this answer ended.
 * @param {Answer} answer
 */
export function atRest({ state, reason }) {
  return (
    state === "finished" || state === "failed" || (state === "stopped" && reason !== "reload")
  );
}

/**
 * What to show, now that another version is known.
 * @param {Conversation | undefined} mine
 * @param {Conversation} theirs
 * @returns {Conversation} `mine` itself where nothing changes
 */
export function adopt(mine, theirs) {
  if (!mine || askedAt(theirs) > askedAt(mine)) {
    return theirs;
  }
  return askedAt(theirs) < askedAt(mine)
    ? mine
    : choose(mine, theirs, (own, other) =>
        atRest(other) && !atRest(own) ? withLonger(other, own) : withStop(own, other),
      );
}

/**
 * What to keep, where this is kept already.
 * @param {Conversation} mine
 * @param {Conversation} kept
 * @returns {Conversation} `kept` itself where there is nothing to add
 */
export function add(mine, kept) {
  if (askedAt(mine) !== askedAt(kept)) {
    return askedAt(mine) > askedAt(kept) ? mine : kept;
  }
  return choose(kept, mine, (old, own) =>
    isFurther(own, old) ? withLonger(own, old) : withStop(withLonger(old, own), own),
  );
}

/**
 * When the last question was asked.
 * @param {Conversation} conversation
 */
function askedAt({ messages }) {
  return messages.findLast((message) => message.role === "assistant")?.startedAt ?? 0;
}

/**
 * @param {Conversation} base
 * @param {Conversation} other
 * @param {(base: Answer, other: Answer) => Answer} better
 * @returns {Conversation}
 */
function choose(base, other, better) {
  const messages = base.messages.map((message) => {
    const same = other.messages.find(({ id }) => id === message.id);
    return message.role === "assistant" && same?.role === "assistant"
      ? better(message, same)
      : message;
  });
  const changed = messages.some((message, at) => message !== base.messages[at]);
  return changed ? { ...base, messages, updatedAt: Math.max(base.updatedAt, other.updatedAt) } : base;
}

/**
 * @param {Answer} one
 * @param {Answer} other
 */
function isFurther(one, other) {
  if (atRest(one) || atRest(other)) {
    return !atRest(other);
  }
  const more = one.lastEvent - other.lastEvent;
  return more > 0 || (more === 0 && one.state !== "running" && other.state === "running");
}

/**
 * @param {Answer} answer
 * @param {Answer} other the same answer, as another tab has read it
 * @returns {Answer} `answer` itself if it runs, or has all that the other has
 */
function withLonger(answer, other) {
  const more =
    other.text.length > answer.text.length || other.reasoning.length > answer.reasoning.length;
  if (!more || !atRest(answer)) {
    return answer;
  }
  return {
    ...answer,
    text: longer(answer.text, other.text),
    reasoning: longer(answer.reasoning, other.reasoning),
    lastEvent: Math.max(answer.lastEvent, other.lastEvent),
  };
}

/**
 * @param {Answer} answer
 * @param {Answer} other the same answer
 * @returns {Answer} `answer` itself if the other knows no more about its Stop
 */
function withStop(answer, { stop = "unconfirmed", receipt }) {
  const more = answer.stop === "unconfirmed" && stop !== "unconfirmed";
  return more ? { ...answer, stop, ...(receipt && { receipt }) } : answer;
}

/**
 * @param {string} one
 * @param {string} other
 */
function longer(one, other) {
  return other.length > one.length ? other : one;
}
