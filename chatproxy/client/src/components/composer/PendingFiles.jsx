import { useLanguage } from "../../i18n/current.js";
import { Icon } from "../parts/Icon.jsx";
import { IconButton } from "../parts/IconButton.jsx";

/**
 * The files that go with the next message, those that are being read, and why others can't go.
 * @param {{files: ReturnType<typeof import("../../state/writing/use-attachments.js").useAttachments>}} props
 */
export function PendingFiles({ files: { attachments, reading, refused, remove } }) {
  const { say, size } = useLanguage();
  return (
    <>
      {(attachments.length > 0 || reading.length > 0) && (
        <ul className="files" aria-label={say("attachedFiles")}>
          {attachments.map((one) => (
            <File key={one.id} id={one.id} name={one.name} note={size(one.size)} onRemove={remove}>
              {one.kind === "image" && <img src={one.content} alt="" />}
            </File>
          ))}
          {reading.map(({ id, name }) => (
            <File key={id} id={id} name={name} note={say("readingFile")} onRemove={remove}>
              <span className="pulse" />
            </File>
          ))}
        </ul>
      )}
      <div role="alert" className="file-problems">
        {refused.map(({ id, name, sentence, bytes }) => (
          <p key={id}>{say(sentence, { name, size: size(bytes) })}</p>
        ))}
      </div>
    </>
  );
}

/**
 * @param {object} props
 * @param {string} props.id
 * @param {string} props.name
 * @param {string} props.note
 * @param {(id: string) => void} props.onRemove
 * @param {import("react").ReactNode} props.children a small picture
 */
function File({ id, name, note, onRemove, children }) {
  const { say } = useLanguage();
  return (
    <li className="file">
      {children || <Icon name="file" />}
      <bdi className="file-name">{name}</bdi>
      <span className="small-print">{note}</span>
      <IconButton
        icon="close"
        label={say("removeFile", { name })}
        onClick={() => onRemove(id)}
      />
    </li>
  );
}
