/**
 * The list of conversations: their names, pins, deletions. A deletion can be undone for a month, in
 * any tab; only then, or when the user says so, a conversation is deleted for good. Pure, but for
 * the language of what is announced.
 */

import { currentLanguage } from "../../i18n/current.js";
import { withSaid } from "./join.js";
import { DELETED_FOR_GOOD_AFTER_MS } from "./model.js";
import { withMissing } from "./transfer.js";

/**
 * @typedef {import("./model.js").ChatState} ChatState
 * @typedef {import("./model.js").Conversation} Conversation
 *
 * @typedef {{type: "chatNamed", id: string, title: string, now: number}} ChatNamed
 * @typedef {{type: "chatPinned", id: string, pinned: boolean, now: number}} ChatPinned
 * @typedef {{type: "chatDeleted", id: string, now: number}} ChatDeleted
 * @typedef {{type: "chatRestored", id: string, now: number}} ChatRestored
 * @typedef {{type: "chatsPurged", ids: string[]}} ChatsPurged for good
 * @typedef {{type: "chatsImported", conversations: Conversation[], now: number}} ChatsImported
 * @typedef {ChatNamed | ChatPinned | ChatDeleted | ChatRestored | ChatsPurged | ChatsImported} ShelfAction
 */

const LONGEST_NAME = 200;

/**
 * @param {ChatState} state
 * @param {ShelfAction} action
 * @returns {ChatState}
 */
export function reduceShelf(state, action) {
  switch (action.type) {
    case "chatNamed": {
      const title = action.title.trim().slice(0, LONGEST_NAME);
      return title ? shelve(state, action, { title, named: true }) : state;
    }
    case "chatPinned":
      return shelve(state, action, { pinned: action.pinned });
    case "chatDeleted":
      return remove(state, action);
    case "chatRestored":
      return {
        ...shelve(state, action, { deletedAt: 0 }),
        currentId: action.id,
        deletedId: null,
        announcement: currentLanguage().say("chatRestored"),
      };
    case "chatsPurged":
      return purge(state, new Set(action.ids));
    case "chatsImported":
      return { ...state, conversations: newestFirst(withImported(state, action)) };
    default:
      return state;
  }
}

/** @param {Conversation[]} conversations */
export function newestFirst(conversations) {
  return conversations.toSorted((a, b) => b.updatedAt - a.updatedAt);
}

/**
 * The conversations as they are listed, those first that are pinned.
 * @param {Conversation[]} conversations
 */
export function shelves(conversations) {
  const there = conversations.filter(({ deletedAt }) => !deletedAt);
  return {
    listed: [...there.filter(({ pinned }) => pinned), ...there.filter(({ pinned }) => !pinned)],
    deleted: conversations
      .filter(({ deletedAt }) => deletedAt)
      .toSorted((a, b) => (b.deletedAt ?? 0) - (a.deletedAt ?? 0)),
  };
}

/**
 * Those whose time to be restored is over.
 * @param {Conversation[]} conversations
 * @param {number} now
 */
export function overdue(conversations, now) {
  return conversations.filter(
    ({ deletedAt }) => deletedAt && deletedAt + DELETED_FOR_GOOD_AFTER_MS < now,
  );
}

/**
 * @param {ChatState} state
 * @param {{id: string, now: number}} which
 * @param {Partial<Conversation>} change
 * @returns {ChatState}
 */
function shelve(state, { id, now }, change) {
  const conversations = state.conversations.map((one) =>
    one.id === id ? withSaid(one, change, now) : one,
  );
  return { ...state, conversations };
}

/**
 * @param {ChatState} state
 * @param {ChatDeleted} action
 * @returns {ChatState}
 */
function remove(state, action) {
  const { id, now } = action;
  return {
    ...shelve(state, action, { deletedAt: now }),
    currentId: state.currentId === id ? null : state.currentId,
    deletedId: id,
    announcement: currentLanguage().say("chatDeleted"),
  };
}

/**
 * @param {ChatState} state
 * @param {Set<string>} ids
 * @returns {ChatState}
 */
function purge(state, ids) {
  const drafts = Object.entries(state.drafts).filter(([id]) => !ids.has(id));
  return {
    ...state,
    conversations: state.conversations.filter(({ id }) => !ids.has(id)),
    currentId: ids.has(state.currentId ?? "") ? null : state.currentId,
    deletedId: ids.has(state.deletedId ?? "") ? null : state.deletedId,
    drafts: Object.fromEntries(drafts),
  };
}

/**
 * Who imports a conversation that is deleted here wants it back.
 * @param {ChatState} state
 * @param {ChatsImported} action
 * @returns {Conversation[]}
 */
function withImported(state, { conversations, now }) {
  const imported = new Map(conversations.map((one) => [one.id, one]));
  const here = state.conversations.map((mine) => {
    const theirs = imported.get(mine.id);
    imported.delete(mine.id);
    const whole = theirs ? withMissing(mine, theirs) : mine;
    return theirs && mine.deletedAt ? withSaid(whole, { deletedAt: 0 }, now) : whole;
  });
  return [...imported.values(), ...here];
}
