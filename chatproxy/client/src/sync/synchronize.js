/**
 * One round of synchronization: what other devices have written comes in, and what was written here
 * goes out. Pure, but for what it is given: the server, and the outbox.
 *
 * - In first, so that what goes out has been joined with what is there.
 * - A write says which revision it has seen. If another device was first, its copy is joined, and the
 *   write is tried again with both.
 * - A round that fails halfway has lost nothing: the next one goes on where it ended.
 * - What fails with one conversation alone keeps no other from being taken in or sent. It is tried
 *   again later. Of what ends a round, nobody knows that: so it comes last in the next one.
 */

import { Unavailable } from "./server.js";

/**
 * @typedef {import("../state/chats/model.js").Conversation} Conversation
 * @typedef {import("../state/kept/outbox.js").Outbox} Outbox
 * @typedef {ReturnType<typeof import("./server.js").createServer>} Server
 *
 * By the stamp of the mark, or by the id and the revision of what was to be taken in: why, and until
 * when it is not tried again, as it may be large.
 * @typedef {Map<string, {outcome: "full" | "large" | "refused", until: number}>} Refused
 *
 * `refused`: the server does not take it or give it, or not in time.
 * @typedef {import("./server.js").Told["outcome"] | "refused"} Outcome
 *
 * @typedef {object} Sides
 * @property {Server} server
 * @property {Outbox} outbox
 * @property {Refused} refused what has failed, from round to round
 * @property {(conversation: Conversation) => void} onTaken what has changed here
 * @property {(id: string) => void} onGone what is deleted here for good
 */

/** How many conversations are fetched at once. */
const AT_ONCE = 3;
/** Milliseconds after which the server is asked again to keep what it has refused. */
const AGAIN_MS = 300_000;
/** How often a write is tried while others write the same conversation. */
const TRIES = 5;
/** What is said of the whole server, or of who asks, and not of one conversation. */
const OF_ALL = new Set([0, 401, 409, 429, 502, 503, 504]);

/**
 * Why the server does not have all: it keeps no more, or not so large a conversation, or not this one.
 * @typedef {"full" | "large" | "refused" | null} Left
 */

/**
 * @param {Sides} sides
 * @returns {Promise<Left>} rejects (`Unavailable`) if the server can't be reached
 */
export async function synchronize(sides) {
  await takeIn(sides);
  return sendOut(sides);
}

/** @param {Sides} sides */
async function takeIn(sides) {
  const { server, outbox } = sides;
  /** @type {Map<string, import("./server.js").Head>} */
  const heads = new Map();
  let seen = await outbox.seen();
  for (let more = true; more; ) {
    const page = await server.list(seen);
    page.conversations.forEach((head) => heads.set(head.id, head));
    ({ revision: seen, more } = page);
  }
  if (heads.size === 0) {
    return;
  }
  const newest = [...heads.values()].sort((a, b) => (b.updatedAt ?? 0) - (a.updatedAt ?? 0));
  const outcomes = new Set();
  for (let from = 0; from < newest.length; from += AT_ONCE) {
    const some = newest.slice(from, from + AT_ONCE).map(async (head) => {
      const key = `${head.id} ${head.revision}`;
      outcomes.add(await attempt(sides, key, () => takeInOne(sides, head)));
    });
    await Promise.all(some);
  }
  if (!outcomes.has("refused")) {
    await outbox.see(seen);
  }
}

/**
 * Do something with one conversation, unless it has failed a short while ago.
 * @param {Sides} sides
 * @param {string} key of `refused`
 * @param {() => Promise<Outcome>} work
 * @returns {Promise<Outcome>}
 */
async function attempt({ refused }, key, work) {
  const before = refused.get(key);
  if (before && before.until > Date.now()) {
    return before.outcome;
  }
  const outcome = await work().catch((error) => {
    refused.set(key, { outcome: "refused", until: 0 });
    if (error instanceof Unavailable && !OF_ALL.has(error.status)) {
      return /** @type {const} */ ("refused");
    }
    throw error;
  });
  if (outcome === "full" || outcome === "large" || outcome === "refused") {
    refused.set(key, { outcome, until: Date.now() + AGAIN_MS });
  }
  return outcome;
}

/**
 * @param {Sides} sides
 * @param {import("./server.js").Head} head
 * @returns {Promise<Outcome>}
 */
async function takeInOne(sides, { id, revision, deleted }) {
  if ((await sides.outbox.revisionOf(id)) >= revision) {
    return "kept"; // what was sent from here
  }
  await (deleted ? bury(sides, id, revision) : fetchOne(sides, id));
  return deleted ? "deleted" : "kept";
}

/**
 * @param {Sides} sides
 * @param {string} id
 * @param {number} revision
 */
async function bury({ outbox, onGone }, id, revision) {
  if (await outbox.bury(id, revision)) {
    onGone(id);
  }
}

/**
 * Join the server's copy with the one that is here.
 * @param {Sides} sides
 * @param {string} id
 * @returns {Promise<Conversation | null>} the server's, if it has any
 */
async function fetchOne(sides, id) {
  const found = await sides.server.get(id);
  if (found && "deletedAt" in found) {
    await bury(sides, id, found.deletedAt);
    return null;
  }
  if (!found?.conversation) {
    await sides.outbox.sent({ id, stamp: "" }, found?.revision ?? 0);
    return null;
  }
  const changed = await sides.outbox.takeIn(found.conversation, found.revision);
  if (changed) {
    sides.onTaken(changed);
  }
  return found.conversation;
}

/**
 * @param {Sides} sides
 * @returns {Promise<Left>}
 */
async function sendOut(sides) {
  const hasFailed = (/** @type {{stamp: string}} */ { stamp }) => Number(sides.refused.has(stamp));
  const unsent = (await sides.outbox.unsent()).toSorted((a, b) => hasFailed(a) - hasFailed(b));
  /** @type {Set<Outcome>} */
  const outcomes = new Set();
  for (const { id, stamp } of unsent) {
    outcomes.add(await attempt(sides, stamp, () => sendOne(sides, id)));
  }
  return /** @type {const} */ (["full", "large", "refused"]).find((one) => outcomes.has(one)) ?? null;
}

/**
 * @param {Sides} sides
 * @param {string} id
 * @returns {Promise<import("./server.js").Told["outcome"]>}
 */
async function sendOne(sides, id) {
  for (let tries = 0; tries < TRIES; tries += 1) {
    const next = await sides.outbox.next(id);
    const told = next && (await tell(sides, next));
    if (!told) {
      return "kept";
    }
    const { outcome, revision } = told;
    if (outcome === "kept" || outcome === "deleted") {
      await sides.outbox.sent(next.mark, revision);
    }
    if (outcome !== "changed") {
      return outcome;
    }
  }
  return "changed"; // the next round tries again
}

/**
 * @param {Sides} sides
 * @param {import("../state/kept/outbox.js").Next} next
 * @returns {Promise<import("./server.js").Told>}
 */
async function tell(sides, { mark, revision, conversation }) {
  if (mark.purged) {
    return removeOne(sides, mark.id, revision);
  }
  if (!conversation) {
    return { outcome: "kept", revision }; // it is damaged, and nobody can have it
  }
  const told = await sides.server.put(conversation, revision);
  if (told.outcome === "changed") {
    await fetchOne(sides, mark.id);
  }
  return told;
}

/**
 * Delete it for good, unless it has become another meanwhile: a device has taken it out of those that
 * are deleted. Then it comes back.
 * @param {Sides} sides
 * @param {string} id
 * @param {number} seen
 * @returns {Promise<import("./server.js").Told>}
 */
async function removeOne(sides, id, seen) {
  if (!seen) {
    return { outcome: "deleted", revision: 0 }; // the server has never had it
  }
  const told = await sides.server.remove(id, seen);
  if (told.outcome !== "changed") {
    return told;
  }
  const found = await sides.server.get(id);
  if (found && "conversation" in found && found.conversation?.deletedAt) {
    return sides.server.remove(id, found.revision);
  }
  await fetchOne(sides, id);
  return told;
}
