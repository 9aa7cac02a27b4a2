/**
 * The files of what is being written, in the browser: in IndexedDB, since they are too large to be kept
 * beside the text of a draft (`draft.js`). They are found again after a reload.
 */

import { soundAttachments } from "../../lib/attachments.js";

/**
 * @typedef {import("../../lib/attachments.js").Attachment} Attachment
 *
 * By the conversation (`""` for a new one), and by the message in it that is being changed (`""` for the
 * next one).
 * @typedef {object} DraftFiles
 * @property {(chatId: string, messageId: string) => Promise<Attachment[] | null>} read null: none are kept
 * @property {(chatId: string, messageId: string, attachments: Attachment[] | null) => Promise<unknown>} keep
 *   these, or none any more
 */

/**
 * @param {import("idb").IDBPDatabase} db
 * @returns {DraftFiles}
 */
export function draftFilesIn(db) {
  return {
    async read(chatId, messageId) {
      const record = await db.get("drafts", [chatId, messageId]);
      return record ? soundAttachments(record.attachments) : null;
    },
    keep: (chatId, messageId, attachments) =>
      attachments
        ? db.put("drafts", { chatId, messageId, attachments })
        : db.delete("drafts", [chatId, messageId]),
  };
}

/**
 * The keys of all that belongs to a conversation: arrays come after everything else.
 * @param {string} chatId
 */
export function allOfChat(chatId) {
  return IDBKeyRange.bound([chatId], [chatId, []]);
}
