/**
 * The conversations in the browser, in IndexedDB: each is a record without its messages, and each
 * message is a record of its own. All tabs write there.
 *
 * - What is kept is merged with what is there, within one transaction: no tab overwrites another's
 *   more with its less. `merge.js` has the rules.
 * - A tab tells the others what it has kept (`tabs.js`), so that they show it.
 * - What an earlier page has left in the journal is taken in first, once.
 * - Nothing is ever removed to make room. A write for which there is no room fails, and says so.
 * - A browser that gives no IndexedDB to the page (some do not in private windows) gets a library
 *   that is not `lasting`: each write fails, so that all is in the memory of the tab, and in the
 *   journal over a reload.
 *
 * If conversations are kept on the server, each owner has a library of their own, with what is to be
 * sent there (`outbox.js`): who uses the same browser after them sees nothing of it.
 *
 * The store `messages` has an index, `pending`, of those that run, or whose Stop is not confirmed:
 * whoever opens the page goes on with them.
 */

import { openDB } from "idb";

import { MOUNT } from "../../lib/mount.js";
import { isSame, joinOutside, SAID } from "../chats/join.js";
import { addMessage, unite } from "../chats/merge.js";
import { statusOf } from "../chats/record.js";
import { newestFirst } from "../chats/shelf.js";
import { inOrder, rooted } from "../chats/tree.js";
import { allOfChat, draftFilesIn } from "./draft-files.js";
import { createJournal, readJournal } from "./journal.js";
import { createOutbox, isNews, makeOutbox, mark, OUTBOX } from "./outbox.js";
import { createTabs } from "./tabs.js";

/**
 * @typedef {import("../chats/model.js").Conversation} Conversation
 * @typedef {import("../chats/model.js").Message} Message
 *
 * @typedef {object} Room
 * @property {number} used bytes
 * @property {number} bound bytes that this page takes at the most
 *
 * @typedef {object} Library
 * @property {boolean} lasting whether it keeps anything
 * @property {Conversation[]} conversations what it had when it was opened; all are shut but those with
 *   something that runs
 * @property {Conversation[]} unkept what was in the journal, if it could not be taken in
 * @property {ReturnType<typeof createJournal>} journal
 * @property {(ids: string[]) => Promise<Message[][]>} read the messages of each
 * @property {(conversations: Conversation[]) => Promise<Conversation[]>} keep these messages; gives
 *   what another tab knows more of. Rejects if there is no room (`QuotaExceededError`), or at a fault
 * @property {(ids: string[]) => Promise<void>} purge
 * @property {() => Promise<Room>} room
 * @property {import("./draft-files.js").DraftFiles} draftFiles
 * @property {(listeners: import("./tabs.js").TabListeners) => () => void} listen to other tabs; gives what ends it
 * @property {string} owner whose it is: their key; empty: nobody's
 * @property {import("./outbox.js").Outbox | null} outbox null: nothing is sent anywhere
 * @property {(news: import("./tabs.js").News) => void} tell all tabs, and this one
 * @property {(hear: () => void) => () => void} onUnsent have it called when there is something to send
 */

const NAME = MOUNT === "/" ? "chatproxy" : `chatproxy@${MOUNT}`;
const VERSION = 2;
/** Milliseconds after which a browser that does not open its storage counts as one without. */
const PATIENCE_MS = 10_000;
/** The most that the page takes, whatever the browser would let it have. */
const MOST_BYTES = 1e9;
/** Milliseconds between two looks at how much it has taken. */
const MEASURE_MS = 30_000;

/**
 * @param {Storage | null} storage which has the journal
 * @param {string | null} [shownId] the conversation that is shown first, null if there is none; the
 *   newest if left out
 * @param {string} [owner] the key of the owner, if they are kept on the server
 * @returns {Promise<Library>}
 */
export async function openLibrary(storage, shownId, owner = "") {
  const { conversations: unkept, entries } = readJournal(storage);
  const journal = createJournal(storage, entries);
  try {
    const db = await inTime(openDatabase(owner));
    const library = createLibrary(db, owner);
    const taken = await library.keep(unkept).then(
      () => true,
      () => false,
    );
    if (taken) {
      journal.clear();
    }
    const left = taken ? [] : unkept;
    const conversations = await listOf(db, library, shownId, left);
    return { ...library, journal, conversations, unkept: left };
  } catch {
    return { ...withoutStorage(), owner, journal, conversations: [], unkept };
  }
}

/**
 * All that there is when the page is opened, the newest first.
 * @param {Library} library
 * @returns {Conversation[]}
 */
export function allOf({ conversations, unkept }) {
  const all = new Map(conversations.map((conversation) => [conversation.id, conversation]));
  for (const conversation of unkept) {
    const kept = all.get(conversation.id);
    all.set(conversation.id, kept ? unite(conversation, kept) : conversation);
  }
  return newestFirst([...all.values()]);
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @returns {Promise<T>}
 */
function inTime(promise) {
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("the storage does not open")), PATIENCE_MS);
    promise.then(resolve, reject);
  });
}

/** @param {string} owner */
function nameOf(owner) {
  return owner ? `${NAME}.${owner}` : NAME;
}

/** @param {string} owner */
function openDatabase(owner) {
  return openDB(nameOf(owner), VERSION, {
    upgrade(db, version) {
      if (version < 1) {
        db.createObjectStore("chats", { keyPath: "id" });
        const messages = db.createObjectStore("messages", { keyPath: ["chatId", "id"] });
        messages.createIndex("pending", "pending");
        if (owner) {
          makeOutbox(db);
        }
      }
      db.createObjectStore("drafts", { keyPath: ["chatId", "messageId"] });
    },
    // A later version of this page wants it; this one keeps nothing any more until it is reloaded.
    blocking: (_current, _blocked, event) => /** @type {IDBDatabase} */ (event.target).close(),
  });
}

/** @typedef {Omit<Library, "journal" | "conversations" | "unkept">} Opened */

/** @returns {Omit<Opened, "owner">} */
function withoutStorage() {
  return {
    lasting: false,
    read: async (ids) => ids.map(() => []),
    keep: () => Promise.reject(new Error("there is no storage")),
    purge: async () => undefined,
    room: async () => ({ used: 0, bound: 0 }),
    draftFiles: { read: async () => null, keep: async () => undefined },
    listen: () => () => undefined,
    outbox: null,
    tell: () => undefined,
    onUnsent: () => () => undefined,
  };
}

/**
 * @param {import("idb").IDBPDatabase} db
 * @param {string} owner
 * @returns {Opened}
 */
function createLibrary(db, owner) {
  const tabs = createTabs(nameOf(owner));
  const stores = ["chats", "messages", ...(owner ? OUTBOX : [])];
  /** @type {Set<() => void>} */
  const senders = new Set();
  let room = { used: 0, bound: MOST_BYTES };
  let measuredAt = -Infinity;

  async function measure() {
    measuredAt = Date.now();
    room = await roomOfPage();
    return room;
  }

  /** @param {Conversation[]} conversations */
  async function keep(conversations) {
    if (conversations.length === 0) {
      return [];
    }
    // The write begins at once, if there was room: the page may be about to go.
    const full = room.used >= room.bound && (await measure());
    if (full && full.used >= full.bound) {
      throw new DOMException("no room", "QuotaExceededError");
    }
    const tx = db.transaction(stores, "readwrite");
    const work = conversations.map((one) => keepOne(tx, one));
    const [kept] = await Promise.all([Promise.all(work), tx.done]);
    if (kept.some(({ news }) => news)) {
      senders.forEach((hear) => hear());
    }
    for (const { written } of kept) {
      if (written) {
        tabs.tellOthers({ kept: written });
      }
    }
    if (Date.now() > measuredAt + MEASURE_MS) {
      void measure();
    }
    return kept.flatMap(({ found }) => found ?? []);
  }

  return {
    lasting: true,
    keep,
    room: measure,
    draftFiles: draftFilesIn(db),
    async read(ids) {
      const { store } = db.transaction("messages");
      const records = await Promise.all(ids.map((id) => store.getAll(allOfChat(id))));
      return records.map((each) => rooted(inOrder(each.map(messageOf))));
    },
    async purge(ids) {
      const tx = db.transaction([...stores, "drafts"], "readwrite");
      const work = ids.flatMap((id) => [
        tx.objectStore("chats").delete(id),
        tx.objectStore("messages").delete(allOfChat(id)),
        tx.objectStore("drafts").delete(allOfChat(id)),
        mark(tx, id, true),
      ]);
      await Promise.all([...work, tx.done]);
      senders.forEach((hear) => hear());
      ids.forEach((id) => tabs.tellOthers({ gone: id }));
      void measure();
    },
    listen: tabs.listen,
    owner,
    outbox: owner ? createOutbox(db, { messagesOf: allOfChat, recordOf, messageOf }) : null,
    tell: tabs.tellAll,
    onUnsent(hear) {
      senders.add(hear);
      return () => senders.delete(hear);
    },
  };
}

/**
 * @param {import("idb").IDBPTransaction<unknown, string[], "readwrite">} tx
 * @param {Conversation} conversation with those messages that are to be kept
 * @returns {Promise<{written: Conversation | null, found: Conversation | null, news: boolean}>} what
 *   has been written, what was there and is more than this tab knows, and whether to send something
 */
async function keepOne(tx, { messages, shut, needed, ...outside }) {
  const chats = tx.objectStore("chats");
  const store = tx.objectStore("messages");
  const there = await chats.get(outside.id);
  const best = there ? joinOutside(there, { ...outside }) : outside;
  const both = await Promise.all(
    messages.map(async (own) => {
      const record = await store.get([outside.id, own.id]);
      const kept = record && messageOf(record);
      return { own, kept, best: kept ? addMessage(own, kept) : own };
    }),
  );
  const written = both.filter(({ kept, best }) => best !== kept).map(({ best }) => best);
  const found = both.filter(({ own, best }) => best !== own).map(({ best }) => best);
  const changed = best !== there;
  const news = isNews({
    said: SAID.some((name) => !isSame(best[name], there?.[name])),
    messages: written,
    known: new Set(both.flatMap(({ kept }) => kept?.id ?? [])),
  });
  await Promise.all([
    news && mark(tx, outside.id),
    changed && chats.put(best),
    ...written.map((message) => store.put(recordOf(outside.id, message))),
  ]);
  return {
    written: changed || written.length > 0 ? { ...best, messages: written } : null,
    found: found.length > 0 ? { ...best, messages: found } : null,
    news,
  };
}

/**
 * @param {import("idb").IDBPDatabase} db
 * @param {Pick<Library, "read">} library
 * @param {string | null | undefined} shownId
 * @param {Conversation[]} left whose messages are needed, too
 * @returns {Promise<Conversation[]>}
 */
async function listOf(db, library, shownId, left) {
  const chats = newestFirst(await db.getAll("chats"));
  const pending = await db.getAllFromIndex("messages", "pending");
  const first = shownId === undefined ? chats.find(({ deletedAt }) => !deletedAt)?.id : shownId;
  const wanted = [first, ...pending.map(({ chatId }) => chatId), ...left.map(({ id }) => id)];
  const ids = [...new Set(wanted)].filter((id) => typeof id === "string");
  const read = await library.read(ids);
  return chats.map((chat) => {
    const at = ids.indexOf(chat.id);
    return at < 0 ? { ...chat, messages: [], shut: true } : { ...chat, messages: read[at] ?? [] };
  });
}

/**
 * @param {string} chatId
 * @param {Message} message
 */
function recordOf(chatId, message) {
  const pending =
    message.role === "assistant" && (message.state === "running" || message.stop === "unconfirmed");
  return { ...message, chatId, ...(pending && { pending: 1 }) };
}

/**
 * @param {any} record
 * @returns {Message}
 */
function messageOf({ chatId, pending, ...message }) {
  return message.state === "running"
    ? { ...message, status: statusOf(message, message.status) }
    : message;
}

/** @returns {Promise<Room>} */
async function roomOfPage() {
  const { usage = 0, quota = MOST_BYTES } = (await navigator.storage?.estimate?.()) ?? {};
  return { used: usage, bound: Math.min(quota, MOST_BYTES) };
}
