/**
 * What is in the text box of each conversation. What was written stays there until it is sent or the
 * user gives it up: another conversation that is opened, an edit, a reload change nothing.
 *
 * Drafts are kept in two places: that of the tab, for its reload, and that which lasts, for when it
 * is opened again. Both can be written in the moment in which the page is left.
 */

import { keysWith } from "../lib/browser-storage.js";
import { currentConversation, currentDraft, editedMessage } from "./model.js";
import { messageIn } from "./tree.js";

/**
 * @typedef {import("./model.js").ChatState} ChatState
 * @typedef {import("./model.js").Draft} Draft
 *
 * @typedef {{type: "drafted", draft: string}} Drafted
 * @typedef {{type: "editBegun", messageId: string}} EditBegun
 * @typedef {{type: "editDrafted", text: string}} EditDrafted
 * @typedef {{type: "editLeft"}} EditLeft
 * @typedef {Drafted | EditBegun | EditDrafted | EditLeft} DraftAction
 */

const PREFIX = "chatproxy.draft.";

/**
 * @param {ChatState} state
 * @param {string} text
 * @returns {ChatState}
 */
export function drafted(state, text) {
  const draft = currentDraft(state);
  return editedMessage(state)?.role === "user"
    ? editDrafted(state, text)
    : withDraft(state, { ...draft, text });
}

/**
 * @param {ChatState} state
 * @param {string} text what the message is to be changed to
 * @returns {ChatState}
 */
export function editDrafted(state, text) {
  const { edit, ...draft } = currentDraft(state);
  return edit ? withDraft(state, { ...draft, edit: { ...edit, text } }) : state;
}

/**
 * @param {ChatState} state
 * @param {string} messageId
 * @returns {ChatState}
 */
export function editBegun(state, messageId) {
  const message = messageIn(currentConversation(state), messageId);
  const { text } = currentDraft(state);
  return message ? withDraft(state, { text, edit: { messageId, text: message.text } }) : state;
}

/**
 * @param {ChatState} state
 * @returns {ChatState} with the draft that was there before the edit
 */
export function editLeft(state) {
  const { text } = currentDraft(state);
  return withDraft(state, { text });
}

/**
 * @param {ChatState} state
 * @param {Draft} draft
 * @returns {ChatState}
 */
function withDraft(state, draft) {
  const { [state.currentId ?? ""]: _old, ...drafts } = state.drafts;
  const empty = draft.text === "" && !draft.edit;
  return { ...state, drafts: empty ? drafts : { ...drafts, [state.currentId ?? ""]: draft } };
}

/**
 * @param {(Storage | null)[]} storages the one that counts more, last
 * @returns {Record<string, Draft>}
 */
export function loadDrafts(storages) {
  const drafts = storages.flatMap((storage) =>
    keysWith(storage, PREFIX).map((key) => [
      key.slice(PREFIX.length),
      parse(storage?.getItem(key) ?? ""),
    ]),
  );
  return Object.fromEntries(drafts.filter(([, draft]) => draft !== null));
}

/**
 * @param {(Storage | null)[]} storages
 * @param {Record<string, Draft>} before
 * @param {Record<string, Draft>} drafts
 */
export function keepDrafts(storages, before, drafts) {
  const changed = new Set([...Object.keys(before), ...Object.keys(drafts)]);
  for (const id of changed) {
    if (before[id] !== drafts[id]) {
      storages.forEach((storage) => keep(storage, PREFIX + id, drafts[id]));
    }
  }
}

/**
 * @param {Storage | null} storage
 * @param {string} key
 * @param {Draft | undefined} draft
 */
function keep(storage, key, draft) {
  try {
    if (draft) {
      storage?.setItem(key, JSON.stringify(draft));
    } else {
      storage?.removeItem(key);
    }
  } catch {
    // A full storage: the draft is there for as long as the page is.
  }
}

/**
 * @param {string} json
 * @returns {Draft | null}
 */
function parse(json) {
  try {
    const { text, edit } = JSON.parse(json);
    const sound = typeof edit?.messageId === "string" && typeof edit.text === "string";
    return typeof text === "string" ? { text, ...(sound && { edit }) } : null;
  } catch {
    return null;
  }
}
