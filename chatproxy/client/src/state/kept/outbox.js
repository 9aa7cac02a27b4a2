/**
 * What the browser knows of the server's copies: at which revision it has seen each conversation, up
 * to which one it has seen all, and what the server does not have yet. In IndexedDB, in the database
 * of the library, so that a change and the note that it is to be sent are one transaction.
 *
 * The store `unsent` has a mark for each conversation that was changed here, with a stamp that is new
 * each time: what is changed again while it is being sent stays marked. The text of an answer that
 * runs makes none; how it ends does.
 */

import { createSessionId } from "../../lib/llm-api.jsx";
import { asConversation } from "../chats/record.js";
import { isSame, join, joinOutside, withTimes } from "../chats/join.js";

/**
 * @typedef {import("../chats/model.js").Conversation} Conversation
 * @typedef {import("../chats/model.js").Message} Message
 *
 * @typedef {object} Mark
 * @property {string} id
 * @property {string} stamp
 * @property {boolean} [purged] whether it was deleted for good
 *
 * @typedef {object} Next what is to be sent
 * @property {Mark} mark
 * @property {number} revision the one that has been seen
 * @property {Conversation | null} conversation null: it was deleted for good, or is damaged
 *
 * @typedef {object} Written what is written of a conversation
 * @property {boolean} said whether the user has said anything of it
 * @property {Message[]} messages
 * @property {Set<string>} known the ids of those that were there before
 *
 * @typedef {ReturnType<typeof createOutbox>} Outbox
 */

/** The stores, beside those of the library. */
export const OUTBOX = ["unsent", "synced"];
const ALL = ["chats", "messages", "drafts", ...OUTBOX];
/** What stands for all conversations. */
const EACH = "";

/**
 * How the library keeps messages.
 * @typedef {object} Records
 * @property {(chatId: string) => IDBKeyRange} messagesOf
 * @property {(chatId: string, message: Message) => object} recordOf
 * @property {(record: any) => Message} messageOf
 */

/** @param {import("idb").IDBPDatabase} db that is being made */
export function makeOutbox(db) {
  OUTBOX.forEach((name) => db.createObjectStore(name, { keyPath: "id" }));
}

/**
 * Note that a conversation is to be sent; does nothing if there is nobody to send it to.
 * @param {import("idb").IDBPTransaction<unknown, string[], "readwrite">} tx
 * @param {string} id
 * @param {boolean} [purged]
 */
export async function mark(tx, id, purged) {
  if (tx.db.objectStoreNames.contains("unsent")) {
    const made = { id, stamp: createSessionId(), ...(purged && { purged }) };
    await tx.objectStore("unsent").put(made);
  }
}

/**
 * Whether what is written is to be sent soon.
 * @param {Written} written
 */
export function isNews({ said, messages, known }) {
  return (
    said ||
    messages.some(
      (message) => message.role === "user" || message.state !== "running" || !known.has(message.id),
    )
  );
}

/**
 * @param {import("idb").IDBPDatabase} db
 * @param {Records} records
 */
export function createOutbox(db, { messagesOf, recordOf, messageOf }) {
  /** @param {string} id */
  const revisionOf = async (id) => /** @type {number} */ ((await db.get("synced", id))?.revision ?? 0);

  /**
   * @param {import("idb").IDBPTransaction<unknown, string[], "readwrite" | "readonly">} tx
   * @param {string} id
   * @returns {Promise<Conversation | null>}
   */
  async function wholeIn(tx, id) {
    const outside = await tx.objectStore("chats").get(id);
    const records = outside ? await tx.objectStore("messages").getAll(messagesOf(id)) : [];
    return outside ? { ...outside, messages: records.map(messageOf) } : null;
  }

  return {
    revisionOf,
    /** The revision up to which all has been seen. */
    seen: () => revisionOf(EACH),
    /** @param {number} revision */
    see: (revision) => db.put("synced", { id: EACH, revision }),
    /** @returns {Promise<Mark[]>} */
    unsent: () => db.getAll("unsent"),

    /**
     * A conversation as it is to be sent.
     * @param {string} id
     * @returns {Promise<Next | null>} null if there is nothing to send
     */
    async next(id) {
      const tx = db.transaction(ALL);
      /** @type {Mark | undefined} */
      const noted = await tx.objectStore("unsent").get(id);
      const synced = await tx.objectStore("synced").get(id);
      const whole = await wholeIn(tx, id);
      return noted
        ? { mark: noted, revision: synced?.revision ?? 0, conversation: whole && sound(whole) }
        : null;
    },

    /**
     * The server has this.
     * @param {Mark} mark what was sent
     * @param {number} revision 0: it has none, and has heard of none
     */
    async sent({ id, stamp }, revision) {
      const tx = db.transaction(OUTBOX, "readwrite");
      const now = await tx.objectStore("unsent").get(id);
      await Promise.all([
        tx.objectStore("synced").put({ id, revision }),
        now?.stamp === stamp && tx.objectStore("unsent").delete(id),
        tx.done,
      ]);
    },

    /**
     * Join the server's copy with what is here. If that has more, it is marked to be sent.
     * @param {Conversation} theirs
     * @param {number} revision
     * @returns {Promise<Conversation | null>} what has changed here; null if nothing has
     */
    async takeIn(theirs, revision) {
      const { id } = theirs;
      const tx = db.transaction(ALL, "readwrite");
      /** @type {Mark | undefined} */
      const noted = await tx.objectStore("unsent").get(id);
      if (noted?.purged && theirs.deletedAt) {
        await Promise.all([tx.objectStore("synced").put({ id, revision }), tx.done]);
        return null; // it is still to be deleted for good
      }
      const mine = await wholeIn(tx, id);
      const { messages, ...outside } = mine ? join(mine, theirs) : theirs;
      const before = new Map(mine?.messages.map((message) => [message.id, message]));
      const news = messages.filter((message) => !isSame(before.get(message.id), message));
      const moved = !mine || joinOutside(mine, theirs) !== mine;
      const isAll = isSame(sound({ ...outside, messages }), sound(theirs));
      await Promise.all([
        moved && tx.objectStore("chats").put(outside),
        ...news.map((message) => tx.objectStore("messages").put(recordOf(id, message))),
        tx.objectStore("synced").put({ id, revision }),
        isAll ? tx.objectStore("unsent").delete(id) : mark(tx, id),
        tx.done,
      ]);
      return moved || news.length > 0 ? { ...outside, messages: news } : null;
    },

    /**
     * It was deleted for good elsewhere. What was changed here meanwhile stays, and is sent anew.
     * @param {string} id
     * @param {number} revision of the deletion
     * @returns {Promise<boolean>} whether it is gone
     */
    async bury(id, revision) {
      const tx = db.transaction(ALL, "readwrite");
      /** @type {Mark | undefined} */
      const noted = await tx.objectStore("unsent").get(id);
      const stays = noted !== undefined && !noted.purged;
      await Promise.all([
        tx.objectStore("synced").put({ id, revision }),
        !stays && tx.objectStore("unsent").delete(id),
        !stays && tx.objectStore("chats").delete(id),
        !stays && tx.objectStore("messages").delete(messagesOf(id)),
        !stays && tx.objectStore("drafts").delete(messagesOf(id)),
        tx.done,
      ]);
      return !stays;
    },
  };
}

/**
 * @param {Conversation} conversation
 * @returns {Conversation | null} null if it is damaged
 */
function sound(conversation) {
  const checked = asConversation(conversation);
  return checked && withTimes(checked);
}
