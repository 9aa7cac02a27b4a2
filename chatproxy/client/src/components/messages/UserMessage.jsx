import { memo } from "react";

import { useLanguage } from "../../i18n/current.js";
import { PlainText } from "../../markdown/PlainText.jsx";
import { useArrival } from "../../state/view/use-arrival.js";
import { CopyButton } from "../parts/CopyButton.jsx";
import { IconButton } from "../parts/IconButton.jsx";
import { MessageFiles } from "./MessageFiles.jsx";
import { Versions } from "./Versions.jsx";

/**
 * @param {object} props
 * @param {import("../../state/chats/model.js").UserMessage} props.message
 * @param {boolean} props.editing
 * @param {boolean} props.canEdit
 * @param {(messageId: string) => void} props.onEdit
 */
function Prompt({ message, editing, canEdit, onEdit }) {
  const { say } = useLanguage();
  const element = useArrival(message.id);
  return (
    <article ref={element} className="message prompt" data-role="user" data-editing={editing}>
      <h2 className="visually-hidden">{say("you")}</h2>
      <div className="bubble">
        {message.attachments && <MessageFiles attachments={message.attachments} />}
        <PlainText text={message.text} final />
      </div>
      <div className="actions">
        <Versions messageId={message.id} />
        <CopyButton text={message.text} label={say("copyMessage")} />
        {canEdit && (
          <IconButton
            icon="edit"
            label={say("editMessage")}
            title={say("editAndSendAgain")}
            onClick={() => onEdit(message.id)}
          />
        )}
      </div>
    </article>
  );
}

export const UserMessage = memo(Prompt);
