import { useLanguage } from "../../i18n/current.js";
import { currentConversation, editedMessage, textOfEdit } from "../../state/chats/model.js";
import { pathOf } from "../../state/chats/tree.js";
import { ChangeContext, ThreadContext } from "../../state/view/use-thread.js";
import { TextButton } from "../parts/TextButton.jsx";
import { EmptyChat } from "./EmptyChat.jsx";
import { StorageTrouble } from "./StorageTrouble.jsx";
import { Thread } from "./Thread.jsx";

/**
 * The conversation that the page's address leads to.
 * @param {object} props
 * @param {ReturnType<typeof import("../../state/asking/use-chat.js").useChat>} props.chat
 * @param {import("../../state/view/use-thread.js").ThreadTools} props.tools
 * @param {(messageId: string) => void} props.onEdit
 * @param {(text: string) => void} props.onSuggestion
 */
export function ConversationView({ chat, tools, onEdit, onSuggestion }) {
  const { say } = useLanguage();
  const { state } = chat;
  const conversation = currentConversation(state);
  if (!conversation) {
    return (
      <>
        <h1 className="visually-hidden">{say("newChat")}</h1>
        <EmptyChat onSuggestion={onSuggestion} />
        <StorageTrouble chat={chat} />
        {state.astray && (
          <p className="elsewhere" role="status">
            {say("noChatHere")}
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
      <h1 className="visually-hidden">{conversation.title}</h1>
      <ThreadContext value={tools}>
        <ChangeContext value={textOfEdit(state)}>
          <Thread
            key={conversation.id}
            messages={pathOf(conversation)}
            editingId={editedMessage(state)?.id ?? null}
            onEdit={onEdit}
            onRegenerate={tools.onRegenerate}
          />
        </ChangeContext>
      </ThreadContext>
      <StorageTrouble chat={chat} />
      {conversation.deletedAt && (
        <p className="elsewhere">
          <span>{say("chatIsDeleted")}</span>
          <TextButton name={say("restore")} onAct={() => chat.tools.restore(conversation.id)} />
        </p>
      )}
    </>
  );
}
