import { memo } from "react";

import { useLanguage } from "../../i18n/current.js";

/**
 * A message in a chat that has just been opened, for which there was no time yet: its text as it was
 * written, which can be found and read out already.
 * @param {{message: import("../../state/chats/model.js").Message}} props
 */
function Undrawn({ message }) {
  const { say } = useLanguage();
  return (
    <article className="message undrawn" data-role={message.role}>
      <h2 className="visually-hidden">{say(message.role === "user" ? "you" : "assistant")}</h2>
      <p className="plain">{message.text}</p>
    </article>
  );
}

export const UndrawnMessage = memo(Undrawn);
