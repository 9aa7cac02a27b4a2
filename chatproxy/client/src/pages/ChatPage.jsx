/** The page: the list of chats, the conversation, and the box to write in. */

import { useCallback, useRef } from "react";

import { Announcer } from "../components/Announcer.jsx";
import { ChatList } from "../components/ChatList.jsx";
import { Composer } from "../components/Composer.jsx";
import { EmptyChat } from "../components/EmptyChat.jsx";
import { Notice } from "../components/Notice.jsx";
import { Thread } from "../components/Thread.jsx";
import { TopBar } from "../components/TopBar.jsx";
import { currentConversation, runningAnswer } from "../state/model.js";
import { useChat } from "../state/use-chat.js";
import { useChoice } from "../state/use-choice.js";
import { useConversation } from "../state/use-conversation.js";
import { useDrawer } from "../state/use-drawer.js";
import { useEscape } from "../state/use-escape.js";

/**
 * @param {object} props
 * @param {import("../lib/page-settings.js").PageSettings} props.settings
 * @param {Storage | null} props.storage
 */
export function ChatPage({ settings, storage }) {
  const chat = useChat(storage);
  const { state, dispatch, stop } = chat;
  const [choice, choose] = useChoice(storage, settings);
  const listButton = useRef(/** @type {HTMLButtonElement | null} */ (null));
  const list = useDrawer(listButton);
  const messageBox = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const conversation = currentConversation(state);
  const running = runningAnswer(conversation)?.id;

  const focusMessageBox = useCallback(() => messageBox.current?.focus(), []);
  const { send, regenerate } = useConversation(chat, { ...choice, simulate: settings.simulate });

  /** The text stops now; the server is told, and gives its receipt. See `state/run.js`. */
  const handleStopAI = useCallback(() => {
    if (running !== undefined) {
      stop(running);
      focusMessageBox();
    }
  }, [running, stop, focusMessageBox]);

  const handleEdit = useCallback(
    (/** @type {string} */ messageId) => {
      dispatch({ type: "editBegun", messageId });
      focusMessageBox();
    },
    [dispatch, focusMessageBox],
  );

  const handleRegenerate = useCallback(
    (/** @type {string} */ answerId) => {
      regenerate(answerId);
      focusMessageBox();
    },
    [regenerate, focusMessageBox],
  );

  const handleDraft = useCallback(
    (/** @type {string} */ draft) => dispatch({ type: "drafted", draft }),
    [dispatch],
  );

  const handleSuggestion = useCallback(
    (/** @type {string} */ draft) => {
      handleDraft(draft);
      focusMessageBox();
    },
    [handleDraft, focusMessageBox],
  );

  const leaveEdit = useCallback(() => dispatch({ type: "editLeft" }), [dispatch]);
  const editing = state.editingId !== null;

  useEscape(running !== undefined && !list.open, handleStopAI);
  useEscape(running === undefined && editing && !list.open, leaveEdit);

  return (
    <div className="page">
      <ChatList chat={chat} open={list.open} onClose={list.hide} onNew={focusMessageBox} />
      <div className="chat" inert={list.open}>
        <header>
          <Notice text={settings.notice} />
          <TopBar
            ref={listButton}
            models={settings.models}
            choice={choice}
            onChoose={choose}
            listOpen={list.open}
            onOpenList={list.show}
          />
        </header>
        <main className="main">
          <h1 className="visually-hidden">{conversation?.title ?? "New chat"}</h1>
          {conversation ? (
            <Thread
              key={conversation.id}
              messages={conversation.messages}
              editingId={state.editingId}
              onEdit={handleEdit}
              onRegenerate={handleRegenerate}
            />
          ) : (
            <EmptyChat onSuggestion={handleSuggestion} />
          )}
          <Composer
            ref={messageBox}
            draft={state.draft}
            running={running !== undefined}
            editing={editing}
            onDraft={handleDraft}
            onSend={send}
            onStop={handleStopAI}
            onLeaveEdit={leaveEdit}
          />
        </main>
      </div>
      <Announcer text={state.announcement} />
    </div>
  );
}
