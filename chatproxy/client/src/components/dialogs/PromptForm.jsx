import { useId, useState } from "react";

import { useLanguage } from "../../i18n/current.js";

/**
 * Where a saved prompt is written: a new one, or one that is there. A new one begins with what stands
 * in the box to write in.
 * @param {object} props
 * @param {import("../../lib/saved-prompts.js").SavedPrompt | null} props.prompt null: a new one
 * @param {string} props.draft
 * @param {(written: {title: string, text: string}) => void} props.onSave
 * @param {() => void} props.onLeave
 */
export function PromptForm({ prompt, draft, onSave, onLeave }) {
  const { say } = useLanguage();
  const id = useId();
  const [title, setTitle] = useState(prompt?.title ?? "");
  const [text, setText] = useState(prompt?.text ?? draft);

  /** @param {import("react").SubmitEvent} event */
  function handleSubmit(event) {
    event.preventDefault();
    if (text.trim() !== "") {
      onSave({ title, text });
    }
  }

  return (
    <form className="fields" onSubmit={handleSubmit}>
      <h3>{say(prompt ? "editPrompt" : "newPrompt")}</h3>
      <div className="field">
        <label htmlFor={`${id}-title`}>{say("promptTitle")}</label>
        <input
          id={`${id}-title`}
          dir="auto"
          autoComplete="off"
          value={title}
          onChange={(event) => setTitle(event.target.value)}
        />
      </div>
      <div className="field">
        <label htmlFor={`${id}-text`}>{say("promptText")}</label>
        <textarea
          id={`${id}-text`}
          dir="auto"
          rows={4}
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
      </div>
      <div className="field-row">
        <button type="submit" className="button" aria-disabled={text.trim() === ""}>
          {say("savePrompt")}
        </button>
        {prompt && (
          <button type="button" className="text-button" onClick={onLeave}>
            {say("cancel")}
          </button>
        )}
      </div>
    </form>
  );
}
