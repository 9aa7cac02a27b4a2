import { useLanguage } from "../i18n/current.js";
import { useTransfer } from "../state/use-transfer.js";
import { TextButton } from "./TextButton.jsx";

/**
 * That the server does not keep all that is here, so that other devices don't have it.
 * @param {object} props
 * @param {import("../sync/synchronize.js").Left} props.left
 * @param {ReturnType<typeof import("../state/use-chat.js").useChat>} props.chat
 */
export function SyncTrouble({ left, chat }) {
  const { say } = useLanguage();
  const { save } = useTransfer(chat);
  return left ? (
    <p className="elsewhere trouble" role="alert">
      <span>{say(`unsent.${left}`)}</span>
      <TextButton name={say("saveAllNow")} onAct={() => save(null, "json")} />
    </p>
  ) : null;
}
