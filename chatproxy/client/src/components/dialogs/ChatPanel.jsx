import { currentSettings, textInBox } from "../../state/chats/model.js";
import { Panel } from "./Panel.jsx";

/**
 * What lies over the page, if anything does, with what it needs of the chat in view.
 * @param {object} props
 * @param {ReturnType<typeof import("../../state/asking/use-chat.js").useChat>} props.chat
 * @param {import("../../state/chats/payload.js").How} props.how
 * @param {ReturnType<typeof import("../../state/hooks/use-panel.js").usePanel>} props.panel
 * @param {Storage | null} props.storage
 * @param {(text: string) => void} props.onInsert
 */
export function ChatPanel({ chat: { state, dispatch }, how, panel, storage, onInsert }) {
  /** @param {import("../../state/chats/chat-settings.js").ChatSettings} settings */
  function handleSettings(settings) {
    dispatch({ type: "settingsChosen", settings, now: Date.now() });
  }
  return (
    panel.name && (
      <Panel
        name={panel.name}
        onClose={panel.close}
        storage={storage}
        settings={currentSettings(state)}
        defaults={how.defaults}
        thinking={how.thinking}
        onSettings={handleSettings}
        draft={textInBox(state)}
        onInsert={onInsert}
      />
    )
  );
}
