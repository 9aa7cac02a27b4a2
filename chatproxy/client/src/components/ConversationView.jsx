import { currentConversation } from "../state/model.js";
import { pathOf } from "../state/tree.js";
import { ThreadContext } from "../state/use-thread.js";
import { EmptyChat } from "./EmptyChat.jsx";
import { Thread } from "./Thread.jsx";

const ASTRAY = "There is no chat at this address in this browser.";
const DELETED = "This chat is deleted.";
const RESTORE = "Restore";

/**
 * The conversation that the page's address leads to.
 * @param {object} props
 * @param {ReturnType<typeof import("../state/use-chat.js").useChat>} props.chat
 * @param {import("../state/use-thread.js").ThreadTools} props.tools
 * @param {string | null} props.editingId
 * @param {(messageId: string) => void} props.onEdit
 * @param {(answerId: string) => void} props.onRegenerate
 * @param {(text: string) => void} props.onSuggestion
 */
export function ConversationView({ chat, tools, editingId, onEdit, onRegenerate, onSuggestion }) {
  const { state } = chat;
  const conversation = currentConversation(state);
  if (!conversation) {
    return (
      <>
        <EmptyChat onSuggestion={onSuggestion} />
        {state.astray && (
          <p className="elsewhere" role="status">
            {ASTRAY}
          </p>
        )}
      </>
    );
  }
  if (conversation.shut) {
    return <div className="thread" aria-busy="true" />; // for a moment: it is being read
  }
  return (
    <>
      <ThreadContext value={tools}>
        <Thread
          key={conversation.id}
          messages={pathOf(conversation)}
          editingId={editingId}
          onEdit={onEdit}
          onRegenerate={onRegenerate}
        />
      </ThreadContext>
      {conversation.deletedAt && (
        <p className="elsewhere">
          <span>{DELETED}</span>
          <button
            type="button"
            className="text-button"
            onClick={() => chat.tools.restore(conversation.id)}
          >
            {RESTORE}
          </button>
        </p>
      )}
    </>
  );
}
