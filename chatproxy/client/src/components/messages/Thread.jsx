import { useEffect } from "react";

import { useLanguage } from "../../i18n/current.js";
import { useDrawnFrom } from "../../state/hooks/use-drawn-from.js";
import { useStickToEnd } from "../../state/hooks/use-stick-to-end.js";
import { Icon } from "../parts/Icon.jsx";
import { AnswerMessage } from "./AnswerMessage.jsx";
import { SelectionKeeper } from "./SelectionKeeper.jsx";
import { UndrawnMessage } from "./UndrawnMessage.jsx";
import { UserMessage } from "./UserMessage.jsx";

/**
 * The messages of one conversation.
 * @param {object} props
 * @param {import("../../state/chats/model.js").Message[]} props.messages
 * @param {string | null} props.editingId
 * @param {(messageId: string) => void} props.onEdit
 * @param {(answerId: string) => void} props.onRegenerate
 */
export function Thread({ messages, editingId, onEdit, onRegenerate }) {
  const { say } = useLanguage();
  const { box, content, away, jump } = useStickToEnd();
  const from = useDrawnFrom(messages.length);
  const last = messages.at(-1);
  const lastRuns = last?.role === "assistant" && last.state === "running";

  useEffect(jump, [jump, last?.id]);

  return (
    <div className="thread">
      {/* What scrolls must be reachable with the keyboard. */}
      <div ref={box} className="scroller" role="region" aria-label={say("conversation")} tabIndex={0}>
        <div ref={content} className="messages">
          <SelectionKeeper>
            {messages.map((message, at) =>
              at < from ? (
                <UndrawnMessage key={message.id} message={message} />
              ) : message.role === "user" ? (
                <UserMessage
                  key={message.id}
                  message={message}
                  editing={message.id === editingId}
                  canEdit={!lastRuns}
                  onEdit={onEdit}
                />
              ) : (
                <AnswerMessage
                  key={message.id}
                  answer={message}
                  last={message === last}
                  onRegenerate={onRegenerate}
                />
              ),
            )}
          </SelectionKeeper>
        </div>
      </div>
      {away && (
        <button type="button" className="jump" onClick={jump}>
          <Icon name="down" /> {say("jumpToLatest")}
        </button>
      )}
    </div>
  );
}
