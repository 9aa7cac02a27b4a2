import { useEffect, useState } from "react";

import { search } from "../chats/search.js";
import { useLatest } from "../hooks/use-latest.js";

/** Milliseconds without a key after which the search begins. */
const PAUSE_MS = 120;

/**
 * @typedef {import("../chats/search.js").Hit} Hit
 * @typedef {{query: string, hits: Hit[], over: boolean}} Found
 */

/**
 * What a query finds, as it is found.
 * @param {string} query
 * @param {ReturnType<typeof import("../asking/use-chat.js").useChat>} chat
 * @returns {Found | null} null without a query
 */
export function useSearch(query, { state, library }) {
  const latest = useLatest({ conversations: state.conversations, library });
  const [found, setFound] = useState(/** @type {Found} */ ({ query: "", hits: [], over: true }));
  const wanted = query.trim();

  useEffect(() => {
    const ending = new AbortController();
    const begin = async () => {
      const { conversations, library } = latest.current;
      const there = conversations.filter(({ deletedAt }) => !deletedAt);
      /** @type {Hit[]} */
      let hits = [];
      const tell = (/** @type {boolean} */ over) =>
        ending.signal.aborted || setFound({ query: wanted, hits, over });
      for await (const more of search(wanted, there, library.read, ending.signal)) {
        if (more.length > 0) {
          hits = [...hits, ...more];
          tell(false);
        }
      }
      tell(true);
    };
    const timer = wanted === "" ? undefined : setTimeout(begin, PAUSE_MS);
    return () => {
      clearTimeout(timer);
      ending.abort();
    };
  }, [wanted, latest]);

  if (wanted === "") {
    return null;
  }
  return found.query === wanted ? found : { query: wanted, hits: [], over: false };
}
