const HEADING = (/** @type {number} */ count) => `Deleted (${count})`;
const EXPLAINED = "Deleted chats are kept for 30 days.";
const RESTORE = "Restore";
const RESTORE_CHAT = (/** @type {string} */ title) => `Restore chat: ${title}`;
const PURGE = "Delete all of them now";

/**
 * The conversations that are deleted, each of which can still be had back.
 * @param {object} props
 * @param {import("../state/model.js").Conversation[]} props.deleted
 * @param {ReturnType<typeof import("../state/use-chat.js").useChat>} props.chat
 */
export function DeletedChats({ deleted, chat }) {
  if (deleted.length === 0) {
    return null;
  }
  return (
    <details className="list-deleted">
      <summary>{HEADING(deleted.length)}</summary>
      <p className="small-print">{EXPLAINED}</p>
      <ul>
        {deleted.map(({ id, title }) => (
          <li key={id} className="list-item">
            <div className="list-row">
              <span className="list-title">{title}</span>
              <button
                type="button"
                className="text-button"
                aria-label={RESTORE_CHAT(title)}
                onClick={() => chat.tools.restore(id)}
              >
                {RESTORE}
              </button>
            </div>
          </li>
        ))}
      </ul>
      <button
        type="button"
        className="text-button"
        onClick={() => chat.tools.purge(deleted.map(({ id }) => id))}
      >
        {PURGE}
      </button>
    </details>
  );
}
