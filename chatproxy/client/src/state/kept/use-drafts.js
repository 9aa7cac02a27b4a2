import { useEffect, useLayoutEffect, useRef } from "react";

import { keepDrafts } from "../chats/draft.js";
import { useLatest } from "../hooks/use-latest.js";

const PAUSE_MS = 500;

/**
 * Keep the drafts, also in the moment in which the page is left.
 * @param {(Storage | null)[]} storages see `draft.js`
 * @param {Record<string, import("../chats/model.js").Draft>} drafts
 */
export function useDrafts(storages, drafts) {
  const latest = useLatest({ storages, drafts });
  const kept = useRef(drafts);
  const timer = useRef(/** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined));

  const save = useRef(() => {
    const { storages, drafts } = latest.current;
    clearTimeout(timer.current);
    timer.current = undefined;
    keepDrafts(storages, kept.current, drafts);
    kept.current = drafts;
  });

  useLayoutEffect(() => {
    if (kept.current !== drafts) {
      timer.current ??= setTimeout(save.current, PAUSE_MS);
    }
  }, [drafts]);

  useEffect(() => {
    const leave = save.current;
    addEventListener("pagehide", leave);
    document.addEventListener("visibilitychange", leave);
    return () => {
      removeEventListener("pagehide", leave);
      document.removeEventListener("visibilitychange", leave);
    };
  }, []);
}
