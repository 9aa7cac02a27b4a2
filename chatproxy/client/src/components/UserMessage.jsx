import { memo } from "react";

import { PlainText } from "../markdown/PlainText.jsx";
import { CopyButton } from "./CopyButton.jsx";
import { Icon } from "./Icon.jsx";

/**
 * @param {object} props
 * @param {import("../state/model.js").UserMessage} props.message
 * @param {boolean} props.editing
 * @param {boolean} props.canEdit
 * @param {(messageId: string) => void} props.onEdit
 */
function Prompt({ message, editing, canEdit, onEdit }) {
  return (
    <article className="message prompt" data-role="user" data-editing={editing}>
      <h2 className="visually-hidden">You</h2>
      <div className="bubble">
        <PlainText text={message.text} final />
      </div>
      <div className="actions">
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
