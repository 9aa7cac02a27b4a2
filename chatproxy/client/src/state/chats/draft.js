/**
 * What is in the text box of each conversation. What was written stays there until it is sent or the
 * user gives it up: another conversation that is opened, an edit, a reload change nothing.
 *
 * Drafts are kept in two places: that of the tab, for its reload, and that which lasts, for when it
 * is opened again. Both can be written in the moment in which the page is left.
 */

import { keysWith } from "../../lib/browser-storage.js";
import { currentConversation, currentDraft, editedPrompt } from "./model.js";
import { messageIn } from "./tree.js";

/**
 * @typedef {import("./model.js").ChatState} ChatState
 * @typedef {import("./model.js").Draft} Draft
 *
 * @typedef {{type: "drafted", draft: string}} Drafted
 * @typedef {{type: "editBegun", messageId: string}} EditBegun
 * @typedef {{type: "editDrafted", text: string}} EditDrafted
 * @typedef {{type: "editLeft"}} EditLeft
 * @typedef {{type: "draftsTaken", drafts: Record<string, Draft>}} DraftsTaken
 * @typedef {Drafted | EditBegun | EditDrafted | EditLeft | DraftsTaken} DraftAction
 */

const PREFIX = "chatproxy.draft.";

/**
 * @param {ChatState} state
 * @param {string} text
 * @returns {ChatState}
 */
export function drafted(state, text) {
  return editedPrompt(state)
    ? editDrafted(state, text)
    : withDraft(state, { ...currentDraft(state), text });
}

/**
 * @param {ChatState} state
 * @param {string} text what the message is to be changed to
 * @returns {ChatState}
 */
export function editDrafted(state, text) {
  const draft = currentDraft(state);
  return draft.editedId === undefined
    ? state
    : withDraft(state, { ...draft, edits: { ...draft.edits, [draft.editedId]: text } });
}

/**
 * @param {ChatState} state
 * @param {string} messageId
 * @returns {ChatState} with what it was to be changed to before, if another one was edited meanwhile
 */
export function editBegun(state, messageId) {
  const message = messageIn(currentConversation(state), messageId);
  const draft = currentDraft(state);
  return message
    ? withDraft(state, {
        ...draft,
        editedId: messageId,
        edits: { [messageId]: message.text, ...draft.edits },
      })
    : state;
}

/**
 * @param {ChatState} state
 * @returns {ChatState} without the edit, and with the prompt that was begun before it
 */
export function editLeft(state) {
  const { text, editedId = "", edits } = currentDraft(state);
  const { [editedId]: left, ...others } = edits ?? {};
  return withDraft(state, { text, ...(Object.keys(others).length > 0 && { edits: others }) });
}

/**
 * @param {ChatState} state
 * @param {Draft} draft
 * @returns {ChatState}
 */
function withDraft(state, draft) {
  const { [state.currentId ?? ""]: old, ...drafts } = state.drafts;
  const empty = draft.text === "" && !draft.edits;
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
    const { text, editedId, edits } = JSON.parse(json);
    const sound = Object.entries(edits ?? {}).filter(([, edit]) => typeof edit === "string");
    const known = sound.some(([id]) => id === editedId);
    return typeof text === "string"
      ? {
          text,
          ...(sound.length > 0 && { edits: Object.fromEntries(sound) }),
          ...(known && { editedId }),
        }
      : null;
  } catch {
    return null;
  }
}
