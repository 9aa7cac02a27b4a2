import { useLayoutEffect, useRef } from "react";

import { useLanguage } from "../../i18n/current.js";
import { isTouched } from "../../lib/touch.js";
import { useActivationGuard } from "../../state/hooks/use-activation-guard.js";
import { composes } from "../../state/hooks/use-escape.js";
import { Icon } from "../parts/Icon.jsx";
import { IconButton } from "../parts/IconButton.jsx";
import { AttachButton } from "./AttachButton.jsx";
import { PendingFiles } from "./PendingFiles.jsx";

/**
 * The text box, and the one button that sends and stops.
 * @param {object} props
 * @param {import("react").RefObject<HTMLTextAreaElement | null>} props.ref the text box
 * @param {string} props.draft
 * @param {boolean} props.running
 * @param {boolean} props.editing
 * @param {(draft: string) => void} props.onDraft
 * @param {() => void} props.onSend
 * @param {() => void} props.onStop
 * @param {() => void} props.onLeaveEdit
 * @param {ReturnType<typeof import("../../state/writing/use-attachments.js").useAttachments>} props.files
 * @param {number} props.maxBytes what a question may take
 * @param {{sentence: import("../../i18n/language.js").SentenceName, size: number} | null} props.problem
 *   why it can't be sent as it is
 * @param {() => void} props.onPrompts
 */
export function Composer(props) {
  const { ref, draft, running, editing, files, maxBytes, problem } = props;
  const { onDraft, onSend, onStop, onLeaveEdit, onPrompts } = props;
  const { say, size } = useLanguage();
  const touched = isTouched();

  /**
   * A keyboard on the screen has no Shift + Enter, so its Enter begins a new line.
   * @param {import("react").KeyboardEvent<HTMLTextAreaElement>} event
   */
  function handleKey(event) {
    const sends = touched ? event.ctrlKey || event.metaKey : !event.shiftKey;
    if (event.key === "Enter" && sends && !composes(event.nativeEvent)) {
      event.preventDefault();
      if (!event.repeat) {
        onSend();
      }
    }
  }
  /** @param {import("react").ClipboardEvent} event */
  function handlePaste(event) {
    const { files: pasted, types } = event.clipboardData;
    // What was copied from a document is both: text, and a picture of it.
    if (pasted.length > 0 && !types.includes("text/plain")) {
      event.preventDefault();
      files.add(pasted);
    }
  }
  useHeight(ref, draft);
  const nothing = draft.trim() === "" && files.attachments.length === 0;

  return (
    <div className="composer">
      {editing && (
        <p className="editing">
          <span>{say("editing")}</span>
          <button type="button" className="text-button" onClick={onLeaveEdit}>
            {say("cancel")}
          </button>
        </p>
      )}
      <PendingFiles files={files} />
      {problem && (
        <p role="alert" className="file-problems">
          {say(problem.sentence, { size: size(problem.size), most: size(maxBytes) })}
        </p>
      )}
      <div className="composer-box">
        <AttachButton maxBytes={maxBytes} onFiles={files.add} />
        <IconButton
          icon="prompts"
          label={say("prompts")}
          title={say("prompts")}
          onClick={onPrompts}
        />
        <textarea
          ref={ref}
          rows={1}
          aria-label={say("message")}
          placeholder={say("writeMessage")}
          enterKeyHint={touched ? "enter" : "send"}
          value={draft}
          onChange={(event) => onDraft(event.target.value)}
          onKeyDown={handleKey}
          onPaste={handlePaste}
        />
        <SendOrStop
          running={running}
          empty={nothing || files.reading.length > 0}
          onSend={onSend}
          onStop={onStop}
        />
      </div>
      <p className="small-print composer-hint">{say("composerHint")}</p>
    </div>
  );
}

/**
 * One button, which is the same element throughout, so that it keeps the focus.
 * @param {object} props
 * @param {boolean} props.running
 * @param {boolean} props.empty
 * @param {() => void} props.onSend
 * @param {() => void} props.onStop
 */
function SendOrStop({ running, empty, onSend, onStop }) {
  const isMeant = useActivationGuard(running);
  const { say } = useLanguage();
  const act = running ? onStop : onSend;
  return (
    <button
      type="button"
      className={running ? "send stop" : "send"}
      aria-disabled={!running && empty}
      // A click leaves the focus where it is, which is the text box as a rule.
      onMouseDown={(event) => event.preventDefault()}
      onClick={(event) => isMeant(event) && act()}
      onKeyDown={(event) => event.repeat && event.preventDefault()}
    >
      <Icon name={running ? "stop" : "send"} />
      <span>{say(running ? "stopAI" : "send")}</span>
    </button>
  );
}

/**
 * The box grows with its text, in browsers whose style sheets can't do that yet.
 * @param {import("react").RefObject<HTMLTextAreaElement | null>} ref
 * @param {string} draft
 */
function useHeight(ref, draft) {
  const byStyle = useRef(CSS.supports("field-sizing", "content"));
  useLayoutEffect(() => {
    const box = ref.current;
    if (box && !byStyle.current) {
      box.style.height = "auto";
      box.style.height = `${box.scrollHeight}px`;
    }
  }, [ref, draft]);
}
