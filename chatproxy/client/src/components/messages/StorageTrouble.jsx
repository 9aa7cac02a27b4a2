import { useLanguage } from "../../i18n/current.js";
import { useTransfer } from "../../state/view/use-transfer.js";
import { TextButton } from "../parts/TextButton.jsx";

/**
 * That the browser does not keep what is written here, and the way to a file. It is beside the
 * conversation, because the list may be out of sight.
 * @param {{chat: ReturnType<typeof import("../../state/asking/use-chat.js").useChat>}} props
 */
export function StorageTrouble({ chat }) {
  const { say } = useLanguage();
  const { save } = useTransfer(chat);
  const { library, trouble, state } = chat;
  if (library.lasting && !trouble) {
    return null;
  }
  return (
    <p className="elsewhere trouble" role="alert">
      <span>{say(library.lasting ? `trouble.${trouble ?? "failed"}` : "notLasting")}</span>
      {state.conversations.length > 0 && (
        <TextButton name={say("saveAllNow")} onAct={() => save(null, "json")} />
      )}
    </p>
  );
}
