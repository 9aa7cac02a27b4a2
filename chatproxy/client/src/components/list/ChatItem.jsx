import { memo, useEffect, useRef, useState } from "react";

import { useLanguage } from "../../i18n/current.js";
import { composes } from "../../state/hooks/use-escape.js";
import { useLatest } from "../../state/hooks/use-latest.js";
import { Icon } from "../parts/Icon.jsx";
import { IconButton } from "../parts/IconButton.jsx";
import { TextButton } from "../parts/TextButton.jsx";
import { ChatLink } from "./ChatLink.jsx";

/**
 * One conversation in the list. Its name is a link to its address, so that it can be opened in
 * another tab.
 * @param {object} props
 * @param {string} props.id
 * @param {string} props.title
 * @param {boolean} props.pinned
 * @param {boolean} props.running
 * @param {boolean} props.current
 * @param {import("../../state/view/use-shelf.js").ShelfTools} props.chat
 * @param {(id: string) => void} props.onOpen
 * @param {(id: string, format: import("../../state/view/use-transfer.js").FileFormat) => void} props.onSave
 */
function Item({ id, title, pinned, running, current, chat, onOpen, onSave }) {
  const { say } = useLanguage();
  const [unfolded, setUnfolded] = useState(false);
  const unfoldedNow = useLatest(unfolded);
  const [naming, setNaming] = useState(false);
  const more = useRef(/** @type {HTMLButtonElement | null} */ (null));

  // A pin moves it in the list, which takes the focus from what is moved.
  useEffect(() => {
    if (document.activeElement === document.body && unfoldedNow.current) {
      more.current?.focus();
    }
  }, [pinned, unfoldedNow]);

  /** @param {string | null} name null: as it was */
  function handleName(name) {
    if (name !== null) {
      chat.rename(id, name);
    }
    setNaming(false);
    more.current?.focus();
  }

  return (
    <li className="list-item" data-current={current}>
      <div className="list-row">
        {naming ? (
          <NameBox title={title} onName={handleName} />
        ) : (
          <ChatLink id={id} className="list-open-chat" current={current} onOpen={onOpen}>
            {running && <span className="pulse" title={say("answerRunsHere")} />}
            {pinned && <Icon name="pin" />}
            {pinned && <span className="visually-hidden">{say("pinned")}</span>}
            <span className="list-title">{title}</span>
          </ChatLink>
        )}
        <IconButton
          ref={more}
          icon="more"
          className="list-tool"
          label={say("moreForChat", { title })}
          title={say("more")}
          aria-expanded={unfolded}
          onClick={() => setUnfolded(!unfolded)}
        />
        <IconButton
          icon="bin"
          className="list-tool"
          label={say("deleteChatNamed", { title })}
          title={say("deleteChat")}
          onClick={() => chat.remove(id)}
        />
      </div>
      {unfolded && (
        <div className="list-actions">
          <TextButton name={say("rename")} onAct={() => setNaming(true)} />
          <TextButton name={say(pinned ? "unpin" : "pin")} onAct={() => chat.pin(id, !pinned)} />
          <TextButton name={say("saveAsMarkdown")} onAct={() => onSave(id, "md")} />
          <TextButton name={say("saveAsJson")} onAct={() => onSave(id, "json")} />
        </div>
      )}
    </li>
  );
}

/**
 * @param {object} props
 * @param {string} props.title
 * @param {(name: string | null) => void} props.onName
 */
function NameBox({ title, onName }) {
  const { say } = useLanguage();
  const [name, setName] = useState(title);
  const box = useRef(/** @type {HTMLInputElement | null} */ (null));
  const over = useRef(false);

  useEffect(() => box.current?.select(), []);

  /** @param {string | null} name */
  function end(name) {
    // The box loses the focus in the end, which is an end of its own otherwise.
    if (!over.current) {
      over.current = true;
      onName(name);
    }
  }

  return (
    <input
      ref={box}
      className="list-name"
      aria-label={say("nameOfChat")}
      value={name}
      maxLength={200}
      onChange={(event) => setName(event.target.value)}
      onBlur={() => end(name)}
      onKeyDown={(event) => {
        const ends = event.key === "Enter" || event.key === "Escape";
        if (ends && !composes(event.nativeEvent)) {
          // Else it would press the button that has the focus then.
          event.preventDefault();
          end(event.key === "Enter" ? name : null);
        }
      }}
    />
  );
}

export const ChatItem = memo(Item);
