import { useEffect, useRef } from "react";

import { useLanguage } from "../../i18n/current.js";
import { currentConversation } from "../chats/model.js";
import { pathOf } from "../chats/tree.js";

/** What stands before the title of the conversation. */
const RUNS = "● ";
const DONE = "✓ ";
const ENDED_EARLY = "! ";

/**
 * The title of the browser's tab: the conversation's, and before it whether its answer runs, or has
 * ended while nobody looked.
 * @param {import("../chats/model.js").ChatState} state
 */
export function useTabTitle(state) {
  const conversation = currentConversation(state);
  const { say } = useLanguage();
  const title = conversation?.title ?? say("newChat");
  const last = pathOf(conversation).at(-1);
  const [id, is] = last?.role === "assistant" ? [last.id, last.state] : [undefined, undefined];
  /** The answer that has been running since somebody looked. */
  const followed = useRef(/** @type {string | undefined} */ (undefined));

  useEffect(() => {
    const show = () => {
      if (is === "running") {
        followed.current = id;
      } else if (document.visibilityState === "visible" || followed.current !== id) {
        followed.current = undefined;
      }
      const over = is === "finished" ? DONE : ENDED_EARLY;
      const sign = is === "running" ? RUNS : over;
      document.title = followed.current === undefined ? title : `${sign}${title}`;
    };
    show();
    document.addEventListener("visibilitychange", show);
    return () => document.removeEventListener("visibilitychange", show);
  }, [id, is, title]);
}
