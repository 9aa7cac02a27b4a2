/** The page: the list of chats, the conversation, and the box to write in. */

import { useCallback, useRef } from "react";

import { Elsewhere } from "../components/bars/Elsewhere.jsx";
import { KeptOnServer } from "../components/bars/KeptOnServer.jsx";
import { TokenForm } from "../components/bars/TokenForm.jsx";
import { TopBar } from "../components/bars/TopBar.jsx";
import { Composer } from "../components/composer/Composer.jsx";
import { DropTarget } from "../components/composer/DropTarget.jsx";
import { ChatPanel } from "../components/dialogs/ChatPanel.jsx";
import { ChatList } from "../components/list/ChatList.jsx";
import { ConversationView } from "../components/messages/ConversationView.jsx";
import { Announcer } from "../components/parts/Announcer.jsx";
import { Notice } from "../components/parts/Notice.jsx";
import { useAccess } from "../state/asking/use-access.js";
import { useChat } from "../state/asking/use-chat.js";
import { useChoice } from "../state/asking/use-choice.js";
import { useConversation } from "../state/asking/use-conversation.js";
import { useElsewhere } from "../state/asking/use-elsewhere.js";
import { useHow } from "../state/asking/use-how.js";
import {
  currentConversation,
  currentSettings,
  editedPrompt,
  runningAnswer,
  textInBox,
} from "../state/chats/model.js";
import { useDrawer } from "../state/hooks/use-drawer.js";
import { useEscape } from "../state/hooks/use-escape.js";
import { usePanel } from "../state/hooks/use-panel.js";
import { useShortcuts } from "../state/hooks/use-shortcuts.js";
import { usePlace } from "../state/view/use-place.js";
import { useThread } from "../state/view/use-thread.js";
import { useDraft } from "../state/writing/use-draft.js";
import { useFiles } from "../state/writing/use-files.js";
import { useInsert } from "../state/writing/use-insert.js";
import { useMessageBox } from "../state/writing/use-message-box.js";
import { useSync } from "../sync/use-sync.js";

/**
 * @param {object} props
 * @param {import("../lib/page-settings.js").PageSettings} props.settings
 * @param {import("../state/kept/library.js").Library} props.library
 * @param {Storage | null} props.storage what lasts
 * @param {Storage | null} props.tabStorage what goes with the tab
 */
export function ChatPage({ settings, library, storage, tabStorage }) {
  const access = useAccess(tabStorage, settings.authorization);
  const chat = useChat({ library, storage, tabStorage }, access, settings.resume);
  const unsent = useSync(library, access, Boolean(settings.conversations));
  const { state, stop } = chat;
  const notifications = usePlace(chat, storage);
  const elsewhere = useElsewhere(access.token, state.conversations);
  const [choice, choose] = useChoice(chat, storage, settings);
  const listButton = useRef(/** @type {HTMLButtonElement | null} */ (null));
  const list = useDrawer(listButton);
  const tokenBox = useRef(/** @type {HTMLInputElement | null} */ (null));
  const running = runningAnswer(currentConversation(state))?.id;

  const { box: messageBox, write, goHome } = useMessageBox(state.currentId, access.asked);
  const focusTokenBox = useCallback(() => tokenBox.current?.focus(), []);
  const { draft, suggest, edit, leaveEdit } = useDraft(chat, write);
  const how = useHow(choice, currentSettings(state), settings);
  const files = useFiles(state, how, library.draftFiles);
  const ways = useConversation(chat, how, files, access.asked ? focusTokenBox : null);
  const tools = useThread(chat, ways, how.prefix, goHome);
  const insert = useInsert(messageBox, draft);
  const panel = usePanel(goHome);

  /** The text stops now; the server is told, and gives its receipt. See `state/run.js`. */
  const handleStopAI = useCallback(() => {
    if (running !== undefined && stop(running)) {
      goHome();
    } else {
      focusTokenBox();
    }
  }, [running, stop, goHome, focusTokenBox]);

  const editing = editedPrompt(state) !== undefined;

  useShortcuts(storage, {
    help: () => panel.open("help"),
    settings: () => panel.open("settings"),
    search: list.search,
    newChat: () => {
      chat.dispatch({ type: "chatOpened", id: null });
      write();
    },
  });
  useEscape(running !== undefined && !list.open, handleStopAI);
  useEscape(running === undefined && editing && !list.open, leaveEdit);

  return (
    <div className="page">
      <ChatList chat={chat} notifications={notifications} drawer={list} onNew={write} />
      <div className="chat" inert={list.open}>
        <header>
          <Notice text={settings.notice} />
          <TopBar
            ref={listButton}
            settings={settings}
            choice={choice}
            onChoose={choose}
            listOpen={list.open}
            onOpenList={list.show}
            onForget={access.token ? access.forget : undefined}
            onPanel={panel.open}
          />
        </header>
        <main className="main">
          <ConversationView chat={chat} tools={tools} onEdit={edit} onSuggestion={suggest} />
          <KeptOnServer left={unsent} chat={chat} storage={storage} />
          {elsewhere.running && <Elsewhere onStop={elsewhere.stop} />}
          {access.asked && (
            <TokenForm
              ref={tokenBox}
              refused={access.refused}
              onEnter={(text) => access.enter(text) && write()}
            />
          )}
          <Composer
            ref={messageBox}
            draft={textInBox(state)}
            running={running !== undefined}
            editing={editing}
            files={files}
            maxBytes={settings.maxBodyBytes}
            problem={ways.problem}
            onPrompts={() => panel.open("prompts")}
            onDraft={draft}
            onSend={ways.send}
            onStop={handleStopAI}
            onLeaveEdit={leaveEdit}
          />
        </main>
      </div>
      <Announcer text={state.announcement} />
      <DropTarget onFiles={files.add} />
      <ChatPanel chat={chat} how={how} panel={panel} storage={storage} onInsert={insert} />
    </div>
  );
}
