/**
 * The address of a conversation in the page: what follows the `#`, since the server has one page.
 * Nothing there is sent to anybody.
 *
 *     (nothing)       the conversation that was used last, or a new one if there is none
 *     #/              a new one
 *     #/chat/<id>
 */

const CHAT = "#/chat/";

/**
 * @param {string | null} id null: a new conversation
 * @returns {string}
 */
export function addressOf(id) {
  return id === null ? "#/" : `${CHAT}${encodeURIComponent(id)}`;
}

/**
 * @param {{hash: string}} location
 * @returns {string | null | undefined} undefined if it names neither a conversation nor a new one
 */
export function conversationIn({ hash }) {
  if (hash === "#/") {
    return null;
  }
  try {
    return hash.startsWith(CHAT) ? decodeURIComponent(hash.slice(CHAT.length)) : undefined;
  } catch {
    return undefined;
  }
}
