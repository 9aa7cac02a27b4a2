import { useState } from "react";

import { useLanguage } from "../../i18n/current.js";
import { PlainText } from "../../markdown/PlainText.jsx";
import { Icon } from "../parts/Icon.jsx";

/** @typedef {import("../../lib/attachments.js").Attachment} Attachment */

/**
 * The files that were sent with a message.
 * @param {{attachments: Attachment[]}} props
 */
export function MessageFiles({ attachments }) {
  const { say } = useLanguage();
  return (
    <ul className="message-files" aria-label={say("attachedFiles")}>
      {attachments.map((attachment) => (
        <li key={attachment.id}>
          {attachment.kind === "image" ? (
            <img src={attachment.content} alt={attachment.name} />
          ) : (
            <TextFile attachment={attachment} />
          )}
        </li>
      ))}
    </ul>
  );
}

/**
 * A text that was sent, folded. It is drawn only while it is unfolded.
 * @param {{attachment: Attachment}} props
 */
function TextFile({ attachment }) {
  const { size } = useLanguage();
  const [open, setOpen] = useState(false);
  return (
    <details
      className="message-file"
      open={open}
      onToggle={(event) => setOpen(event.currentTarget.open)}
    >
      <summary>
        <Icon name="file" />
        <bdi className="file-name">{attachment.name}</bdi>
        <span className="small-print">{size(attachment.size)}</span>
      </summary>
      {open && (
        <div className="message-file-text" dir="auto">
          <PlainText text={attachment.content} final />
        </div>
      )}
    </details>
  );
}
