import { useLayoutEffect, useRef } from "react";

import { isTouched } from "../lib/touch.js";
import { composes } from "../state/use-escape.js";
import { useActivationGuard } from "../state/use-activation-guard.js";
import { Icon } from "./Icon.jsx";

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
 */
export function Composer({ ref, draft, running, editing, onDraft, onSend, onStop, onLeaveEdit }) {
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
  useHeight(ref, draft);

  return (
    <div className="composer">
      {editing && (
        <p className="editing">
          <span>You are changing an earlier message. It is kept beside the new one.</span>
          <button type="button" className="text-button" onClick={onLeaveEdit}>
            Cancel
          </button>
        </p>
      )}
      <div className="composer-box">
        <textarea
          ref={ref}
          rows={1}
          aria-label="Message"
          placeholder="Write a message"
          enterKeyHint={touched ? "enter" : "send"}
          value={draft}
          onChange={(event) => onDraft(event.target.value)}
          onKeyDown={handleKey}
        />
        <SendOrStop
          running={running}
          empty={draft.trim() === ""}
          onSend={onSend}
          onStop={onStop}
        />
      </div>
      <p className="small-print composer-hint">
        Enter sends, Shift + Enter begins a new line, Escape stops. Answers can be wrong.
      </p>
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
  const label = running ? "Stop AI" : "Send";
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
      <span>{label}</span>
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
