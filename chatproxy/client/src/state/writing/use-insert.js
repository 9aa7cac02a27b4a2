import { useCallback } from "react";

/**
 * Puts a text into the box to write in, in place of what is selected there.
 * @param {import("react").RefObject<HTMLTextAreaElement | null>} box
 * @param {(draft: string) => void} onDraft
 */
export function useInsert(box, onDraft) {
  return useCallback(
    (/** @type {string} */ text) => {
      const { current } = box;
      if (current) {
        current.setRangeText(text, current.selectionStart, current.selectionEnd, "end");
        onDraft(current.value);
      }
    },
    [box, onDraft],
  );
}
