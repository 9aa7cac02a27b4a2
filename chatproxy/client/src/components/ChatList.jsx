import { memo, useCallback, useEffect, useRef } from "react";

import { useLanguage } from "../i18n/current.js";
import { runningAnswer } from "../state/model.js";
import { Icon } from "./Icon.jsx";

/** @typedef {import("../state/model.js").Conversation} Conversation */

/**
 * All conversations. On small screens it lies over the page, and is opened by a button.
 * @param {object} props
 * @param {ReturnType<typeof import("../state/use-chat.js").useChat>} props.chat
 * @param {boolean} props.open
 * @param {() => void} props.onClose
 * @param {() => void} props.onNew
 */
export function ChatList({ chat, open, onClose, onNew }) {
  const { say } = useLanguage();
  const { state, dispatch, stop } = chat;
  const newButton = useRef(/** @type {HTMLButtonElement | null} */ (null));

  useEffect(() => {
    if (open) {
      newButton.current?.focus();
    }
  }, [open]);

  const openChat = useCallback(
    (/** @type {string | null} */ id) => {
      // First, because that gives the focus back, and the chat takes it.
      if (open) {
        onClose();
      }
      dispatch({ type: "chatOpened", id });
    },
    [dispatch, open, onClose],
  );

  const deleteChat = useCallback(
    (/** @type {string} */ id, /** @type {string | undefined} */ runningId) => {
      if (runningId !== undefined) {
        stop(runningId);
      }
      dispatch({ type: "chatDeleted", id });
    },
    [dispatch, stop],
  );

  const openNew = () => {
    openChat(null);
    onNew();
  };

  return (
    <>
      <nav className={open ? "list list-open" : "list"} aria-label={say("chats")}>
        <div className="list-head">
          <button ref={newButton} type="button" className="button new-chat" onClick={openNew}>
            <Icon name="plus" /> {say("newChat")}
          </button>
          <button
            type="button"
            className="icon-button only-narrow"
            aria-label={say("closeList")}
            onClick={onClose}
          >
            <Icon name="close" />
          </button>
        </div>
        <ul className="list-items">
          {state.conversations.map((conversation) => (
            <ChatItem
              key={conversation.id}
              id={conversation.id}
              title={conversation.title}
              runningId={runningAnswer(conversation)?.id}
              current={conversation.id === state.currentId}
              onOpen={openChat}
              onDelete={deleteChat}
            />
          ))}
        </ul>
        {state.deleted && (
          <p className="list-undo">
            <span>{say("chatDeleted")}</span>
            <button
              type="button"
              className="text-button"
              onClick={() => dispatch({ type: "deleteUndone" })}
            >
              {say("undo")}
            </button>
          </p>
        )}
        {state.conversations.length > 0 && (
          <p className="small-print list-foot">{say("chatsKeptHere")}</p>
        )}
      </nav>
      {open && <div className="list-shade" aria-hidden="true" onClick={onClose} />}
    </>
  );
}

/**
 * @param {object} props
 * @param {string} props.id
 * @param {string} props.title
 * @param {string | undefined} props.runningId
 * @param {boolean} props.current
 * @param {(id: string) => void} props.onOpen
 * @param {(id: string, runningId: string | undefined) => void} props.onDelete
 */
function Item({ id, title, runningId, current, onOpen, onDelete }) {
  const { say } = useLanguage();
  return (
    <li className="list-item" data-current={current}>
      <button
        type="button"
        className="list-open-chat"
        aria-current={current ? "page" : undefined}
        onClick={() => onOpen(id)}
      >
        {runningId !== undefined && <span className="pulse" title={say("answerRunsHere")} />}
        <span className="list-title">{title}</span>
      </button>
      <button
        type="button"
        className="icon-button list-delete"
        aria-label={say("deleteChatNamed", { title })}
        title={say("deleteChat")}
        onClick={() => onDelete(id, runningId)}
      >
        <Icon name="bin" />
      </button>
    </li>
  );
}

const ChatItem = memo(Item);
