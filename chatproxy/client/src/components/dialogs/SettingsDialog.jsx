import { useLanguage } from "../../i18n/current.js";
import { Dialog } from "../parts/Dialog.jsx";
import { ChatSettingsForm } from "./ChatSettingsForm.jsx";
import { PagePreferences } from "./PagePreferences.jsx";

/**
 * What this chat asks with, and how the page looks and speaks. A change holds at once, so that none
 * is lost however the dialog is closed.
 * @param {object} props
 * @param {import("../../state/chats/chat-settings.js").ChatSettings} props.settings those of the chat
 * @param {import("../../state/chats/chat-settings.js").ChatSettings} props.defaults the server's
 * @param {boolean} props.thinking whether the chat thinks first
 * @param {(settings: import("../../state/chats/chat-settings.js").ChatSettings) => void} props.onSettings
 * @param {Storage | null} props.storage
 * @param {() => void} props.onClose
 */
export function SettingsDialog({ settings, defaults, thinking, onSettings, storage, onClose }) {
  const { say } = useLanguage();
  return (
    <Dialog title={say("settings")} onClose={onClose}>
      <ChatSettingsForm
        settings={settings}
        defaults={defaults}
        thinking={thinking}
        onSettings={onSettings}
      />
      <PagePreferences storage={storage} />
    </Dialog>
  );
}
