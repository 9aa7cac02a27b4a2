import { memo } from "react";

import { useArrival } from "../state/use-arrival.js";
import { CopyButton } from "./CopyButton.jsx";
import { Icon } from "./Icon.jsx";
import { PlainText } from "./PlainText.jsx";
import { Versions } from "./Versions.jsx";

/**
 * @param {object} props
 * @param {import("../state/model.js").UserMessage} props.message
 * @param {boolean} props.editing
 * @param {boolean} props.canEdit
 * @param {(messageId: string) => void} props.onEdit
 */
function Prompt({ message, editing, canEdit, onEdit }) {
  const element = useArrival(message.id);
  return (
    <article ref={element} className="message prompt" data-role="user" data-editing={editing}>
      <h2 className="visually-hidden">You</h2>
      <div className="bubble">
        <PlainText text={message.text} final />
      </div>
      <div className="actions">
        <Versions messageId={message.id} />
        <CopyButton text={message.text} label="Copy message" />
        {canEdit && (
          <button
            type="button"
            className="icon-button"
            aria-label="Edit message"
            title="Edit and send again"
            onClick={() => onEdit(message.id)}
          >
            <Icon name="edit" />
          </button>
        )}
      </div>
    </article>
  );
}

export const UserMessage = memo(Prompt);
