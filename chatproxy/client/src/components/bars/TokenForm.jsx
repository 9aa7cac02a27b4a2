import { useEffect, useId } from "react";

import { useLanguage } from "../../i18n/current.js";
import { tokenSentence } from "../../lib/sentences.js";

/**
 * Asks for the access token. The box to write in stays below it, with what is written there.
 * @param {object} props
 * @param {import("react").RefObject<HTMLInputElement | null>} props.ref where the token is typed
 * @param {boolean} props.refused
 * @param {(text: string) => void} props.onEnter
 */
export function TokenForm({ ref, refused, onEnter }) {
  const language = useLanguage();
  const { say } = language;
  const id = useId();

  useEffect(() => {
    if (!isTyping(document.activeElement)) {
      ref.current?.focus();
    }
  }, [ref]);

  /** @param {import("react").SubmitEvent} event */
  function handleSubmit(event) {
    event.preventDefault();
    onEnter(ref.current?.value ?? "");
  }

  return (
    <form className="token" onSubmit={handleSubmit}>
      <label htmlFor={id}>{say("accessToken")}</label>
      <div className="token-box">
        <input
          ref={ref}
          id={id}
          type="password"
          autoComplete="off"
          autoCapitalize="off"
          spellCheck={false}
          enterKeyHint="done"
          aria-invalid={refused}
          aria-describedby={`${id}-note`}
        />
        <button type="submit" className="button">
          {say("continue")}
        </button>
      </div>
      <p id={`${id}-note`} className="small-print" role={refused ? "alert" : undefined}>
        {tokenSentence(language, refused)}
      </p>
    </form>
  );
}

/**
 * Whether somebody is in the middle of a text, from where the focus must not be taken.
 * @param {Element | null} focused
 */
function isTyping(focused) {
  return focused instanceof HTMLTextAreaElement && focused.value !== "";
}
