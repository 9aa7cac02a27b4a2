import { useState } from "react";

import { useLanguage } from "../../i18n/current.js";
import { keepPrompts, loadPrompts, withPrompt } from "../../lib/saved-prompts.js";
import { Dialog } from "../parts/Dialog.jsx";
import { IconButton } from "../parts/IconButton.jsx";
import { PromptForm } from "./PromptForm.jsx";

/** @typedef {import("../../lib/saved-prompts.js").SavedPrompt} SavedPrompt */

/**
 * The texts that the user keeps: one is put into the box to write in with a click.
 * @param {object} props
 * @param {Storage | null} props.storage
 * @param {string} props.draft what is in that box now
 * @param {(text: string) => void} props.onInsert
 * @param {() => void} props.onClose
 */
export function PromptsDialog({ storage, draft, onInsert, onClose }) {
  const { say } = useLanguage();
  const [prompts, setPrompts] = useState(() => loadPrompts(storage));
  const [kept, setKept] = useState(true);
  const [deleted, setDeleted] = useState(/** @type {SavedPrompt[] | null} */ (null));
  const [edited, setEdited] = useState(/** @type {SavedPrompt | null} */ (null));

  /**
   * @param {SavedPrompt[]} next
   * @param {SavedPrompt[] | null} [before] what an undo brings back
   */
  function change(next, before = null) {
    setPrompts(next);
    setDeleted(before);
    setKept(keepPrompts(storage, next));
    setEdited(null);
  }

  return (
    <Dialog title={say("prompts")} onClose={onClose}>
      {prompts.length === 0 && <p className="small-print">{say("noPrompts")}</p>}
      <form method="dialog">
        <ul className="prompts">
          {prompts.map((prompt) => (
            <li key={prompt.id} className="prompt-item">
              <button
                type="submit"
                className="prompt-insert"
                title={say("insertPrompt")}
                onClick={() => onInsert(prompt.text)}
              >
                <b>{prompt.title}</b>
                <span className="small-print">{prompt.text}</span>
              </button>
              <IconButton
                icon="edit"
                label={say("editPromptNamed", { title: prompt.title })}
                onClick={() => setEdited(prompt)}
              />
              <IconButton
                icon="bin"
                label={say("deletePromptNamed", { title: prompt.title })}
                onClick={() => change(prompts.filter((one) => one !== prompt), prompts)}
              />
            </li>
          ))}
        </ul>
      </form>
      {deleted && (
        <p className="list-undo" role="status">
          <span>{say("promptDeleted")}</span>
          <button type="button" className="text-button" onClick={() => change(deleted)}>
            {say("undo")}
          </button>
        </p>
      )}
      {!kept && <p role="alert">{say("promptsNotKept")}</p>}
      <PromptForm
        key={edited?.id ?? `new${prompts.length}`}
        prompt={edited}
        draft={prompts.some(({ text }) => text === draft) ? "" : draft}
        onSave={(written) => change(withPrompt(prompts, edited?.id ?? null, written))}
        onLeave={() => setEdited(null)}
      />
    </Dialog>
  );
}
