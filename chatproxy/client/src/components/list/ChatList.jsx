import { useCallback, useEffect, useRef, useState } from "react";

import { useLanguage } from "../../i18n/current.js";
import { runningAnswers } from "../../state/chats/model.js";
import { shelves } from "../../state/chats/shelf.js";
import { useSearch } from "../../state/view/use-search.js";
import { useTransfer } from "../../state/view/use-transfer.js";
import { Icon } from "../parts/Icon.jsx";
import { IconButton } from "../parts/IconButton.jsx";
import { TextButton } from "../parts/TextButton.jsx";
import { ChatItem } from "./ChatItem.jsx";
import { ChatListFoot } from "./ChatListFoot.jsx";
import { SearchBox, SearchHits } from "./ChatSearch.jsx";
import { DeletedChats } from "./DeletedChats.jsx";

/** How many chats are listed at first, and with each "Show more". */
const A_PAGE = 100;

/**
 * All conversations: searched, named, pinned, deleted, taken out and in. On small screens it lies
 * over the page, and is opened by a button.
 * @param {object} props
 * @param {ReturnType<typeof import("../../state/asking/use-chat.js").useChat>} props.chat
 * @param {ReturnType<typeof import("../../state/view/use-notifications.js").useNotifications>} props.notifications
 * @param {Pick<ReturnType<typeof import("../../state/hooks/use-drawer.js").useDrawer>,
 *   "open" | "hide" | "searchBox">} props.drawer
 * @param {() => void} props.onNew
 */
export function ChatList({ chat, notifications, drawer, onNew }) {
  const { open, hide, searchBox } = drawer;
  const { say } = useLanguage();
  const { state, dispatch } = chat;
  const newButton = useRef(/** @type {HTMLButtonElement | null} */ (null));
  const [query, setQuery] = useState("");
  const found = useSearch(query, chat);
  const transfer = useTransfer(chat);
  const { deletedId } = state;

  useEffect(() => {
    if (open) {
      newButton.current?.focus();
    }
  }, [open]);

  const openChat = useCallback(
    /**
     * @param {string | null} id
     * @param {string} [messageId]
     */
    (id, messageId) => {
      // First, because that gives the focus back, and the chat takes it.
      if (open) {
        hide();
      }
      dispatch({ type: "chatOpened", id, messageId });
    },
    [dispatch, open, hide],
  );

  const openNew = () => {
    openChat(null);
    onNew();
  };

  return (
    <>
      <nav className={open ? "list list-open" : "list"} aria-label={say("chats")}>
        <div className="list-head">
          <button
            ref={newButton}
            type="button"
            className="button new-chat"
            onClick={openNew}
          >
            <Icon name="plus" /> {say("newChat")}
          </button>
          <IconButton
            icon="close"
            className="only-narrow"
            label={say("closeList")}
            onClick={hide}
          />
        </div>
        {state.conversations.length > 0 && <SearchBox ref={searchBox} query={query} onQuery={setQuery} />}
        {found ? (
          <SearchHits found={found} onOpen={openChat} />
        ) : (
          <Shelves chat={chat} onOpen={openChat} onSave={transfer.save} />
        )}
        {deletedId !== null && (
          <p className="list-undo">
            <span>{say("chatDeleted")}</span>
            <TextButton name={say("undo")} onAct={() => chat.tools.restore(deletedId)} />
          </p>
        )}
        <ChatListFoot chat={chat} transfer={transfer} notifications={notifications} />
      </nav>
      {open && <div className="list-shade" aria-hidden="true" onClick={hide} />}
    </>
  );
}

/**
 * @param {object} props
 * @param {ReturnType<typeof import("../../state/asking/use-chat.js").useChat>} props.chat
 * @param {(id: string) => void} props.onOpen
 * @param {ReturnType<typeof useTransfer>["save"]} props.onSave
 */
function Shelves({ chat, onOpen, onSave }) {
  const { say } = useLanguage();
  const { conversations, currentId } = chat.state;
  const [shown, setShown] = useState(A_PAGE);
  const { listed, deleted } = shelves(conversations);
  return (
    <div className="list-items">
      <ul>
        {listed.slice(0, shown).map((conversation) => (
          <ChatItem
            key={conversation.id}
            id={conversation.id}
            title={conversation.title}
            pinned={conversation.pinned === true}
            running={runningAnswers(conversation).length > 0}
            current={conversation.id === currentId}
            chat={chat.tools}
            onOpen={onOpen}
            onSave={onSave}
          />
        ))}
      </ul>
      {listed.length > shown && (
        <p className="list-more">
          <TextButton name={say("showMore")} onAct={() => setShown(shown + A_PAGE)} />
        </p>
      )}
      <DeletedChats deleted={deleted} chat={chat} />
    </div>
  );
}
