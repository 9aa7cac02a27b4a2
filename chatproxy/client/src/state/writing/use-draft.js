import { useCallback } from "react";

/**
 * What can be done with the draft. All of it keeps its identity.
 * @param {ReturnType<typeof import("../asking/use-chat.js").useChat>} chat
 * @param {() => void} focusMessageBox
 */
export function useDraft({ dispatch }, focusMessageBox) {
  const draft = useCallback(
    (/** @type {string} */ draft) => dispatch({ type: "drafted", draft }),
    [dispatch],
  );

  const suggest = useCallback(
    (/** @type {string} */ text) => {
      draft(text);
      focusMessageBox();
    },
    [draft, focusMessageBox],
  );

  const edit = useCallback(
    (/** @type {string} */ messageId) => {
      dispatch({ type: "editBegun", messageId });
      focusMessageBox();
    },
    [dispatch, focusMessageBox],
  );

  const leaveEdit = useCallback(() => dispatch({ type: "editLeft" }), [dispatch]);

  return { draft, suggest, edit, leaveEdit };
}
