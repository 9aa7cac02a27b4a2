import { useLanguage } from "../../i18n/current.js";
import { TextButton } from "../parts/TextButton.jsx";

/**
 * The conversations that are deleted, each of which can still be had back.
 * @param {object} props
 * @param {import("../../state/chats/model.js").Conversation[]} props.deleted
 * @param {ReturnType<typeof import("../../state/asking/use-chat.js").useChat>} props.chat
 */
export function DeletedChats({ deleted, chat }) {
  const { say } = useLanguage();
  if (deleted.length === 0) {
    return null;
  }
  return (
    <details className="list-deleted">
      <summary>{say("deletedChats", { count: deleted.length })}</summary>
      <p className="small-print">{say("deletedChatsKept")}</p>
      <ul>
        {deleted.map(({ id, title }) => (
          <li key={id} className="list-item">
            <div className="list-row">
              <span className="list-title">{title}</span>
              <button
                type="button"
                className="text-button"
                aria-label={say("restoreChat", { title })}
                onClick={() => chat.tools.restore(id)}
              >
                {say("restore")}
              </button>
            </div>
          </li>
        ))}
      </ul>
      <TextButton
        name={say("purgeDeleted")}
        onAct={() => chat.tools.purge(deleted.map(({ id }) => id))}
      />
    </details>
  );
}
