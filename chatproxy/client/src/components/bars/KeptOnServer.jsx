import { useCallback } from "react";

import { useLanguage } from "../../i18n/current.js";
import { useTransfer } from "../../state/view/use-transfer.js";
import { useEarlier } from "../../sync/use-earlier.js";
import { TextButton } from "../parts/TextButton.jsx";

/**
 * What there is to say of conversations that are kept on the server: that it does not keep all that is
 * here, and that this browser has some from before.
 * @param {object} props
 * @param {import("../../sync/synchronize.js").Left} props.left
 * @param {ReturnType<typeof import("../../state/asking/use-chat.js").useChat>} props.chat
 * @param {Storage | null} props.storage
 */
export function KeptOnServer({ left, chat, storage }) {
  const { say } = useLanguage();
  const { save } = useTransfer(chat);
  const { dispatch } = chat;
  const onDrafts = useCallback(
    (/** @type {Record<string, import("../../state/chats/model.js").Draft>} */ drafts) =>
      dispatch({ type: "draftsTaken", drafts }),
    [dispatch],
  );
  const earlier = useEarlier(chat.library, storage, onDrafts);
  return (
    <>
      {left && (
        <p className="elsewhere trouble" role="alert">
          <span>{say(`unsent.${left}`)}</span>
          <TextButton name={say("saveAllNow")} onAct={() => save(null, "json")} />
        </p>
      )}
      {earlier.count > 0 && (
        <p className="elsewhere" role={earlier.failed ? "alert" : undefined}>
          <span>{say(earlier.failed ? "earlierFailed" : "earlierChats", { count: earlier.count })}</span>
          <TextButton name={say("takeEarlier")} onAct={earlier.take} />
          <TextButton name={say("leaveEarlier")} onAct={earlier.leave} />
        </p>
      )}
    </>
  );
}
