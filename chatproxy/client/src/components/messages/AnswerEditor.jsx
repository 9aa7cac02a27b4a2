import { use, useEffect, useRef } from "react";

import { useLanguage } from "../../i18n/current.js";
import { composes } from "../../state/hooks/use-escape.js";
import { ChangeContext, ThreadContext } from "../../state/view/use-thread.js";

/** The text of an answer, to be changed in its place. What is written there is kept as a draft. */
export function AnswerEditor() {
  const { say } = useLanguage();
  const { onChangeText, onSaveChange, onLeaveChange } = use(ThreadContext);
  const text = use(ChangeContext);
  const box = useRef(/** @type {HTMLTextAreaElement | null} */ (null));

  useEffect(() => box.current?.focus(), []);

  /** @param {import("react").KeyboardEvent} event */
  function handleKey(event) {
    if (event.key === "Escape" && !composes(event.nativeEvent)) {
      event.preventDefault();
      onLeaveChange();
    }
  }

  return (
    <div className="answer-editor">
      <textarea
        ref={box}
        aria-label={say("answerText")}
        aria-describedby="answer-editor-explained"
        rows={Math.min(20, Math.max(4, text.split("\n").length + 1))}
        value={text}
        onChange={(event) => onChangeText(event.target.value)}
        onKeyDown={handleKey}
      />
      <div className="actions">
        <button type="button" className="button small" onClick={onSaveChange}>
          {say("saveAnswer")}
        </button>
        <button type="button" className="button small" onClick={onLeaveChange}>
          {say("cancel")}
        </button>
        <span id="answer-editor-explained" className="small-print">
          {say("answerEditorHint")}
        </span>
      </div>
    </div>
  );
}
