import { useCallback, useEffect, useState } from "react";

import { listRunning, stopChat } from "../../lib/llm-api.jsx";
import { API } from "../../lib/mount.js";
import { headersFor } from "./access.js";

/** Milliseconds between two looks at an answer that is known to run. */
const AGAIN_MS = 5000;

/** @typedef {import("../chats/model.js").Conversation} Conversation */

/**
 * Whether the user has an answer running that this browser knows nothing of. Looked at when the
 * page opens, and whenever it comes into sight again.
 * @param {string} token empty if owners are not known, and nobody can tell
 * @param {Conversation[]} conversations
 */
export function useElsewhere(token, conversations) {
  const [found, setFound] = useState({ token, ids: /** @type {string[]} */ ([]) });

  const look = useCallback(async () => {
    if (token && document.visibilityState === "visible") {
      const ids = await listRunning({ baseUrl: API, headers: headersFor(token) });
      setFound({ token, ids });
    }
  }, [token]);

  useEffect(() => {
    const soon = setTimeout(look);
    document.addEventListener("visibilitychange", look);
    return () => {
      clearTimeout(soon);
      document.removeEventListener("visibilitychange", look);
    };
  }, [look]);

  const unknown = found.token === token ? found.ids.filter((id) => !knows(conversations, id)) : [];

  const running = unknown.length > 0;

  useEffect(() => {
    const timer = running ? setInterval(look, AGAIN_MS) : undefined;
    return () => clearInterval(timer);
  }, [running, look]);

  const stop = async () => {
    const server = { baseUrl: API, headers: headersFor(token) };
    await Promise.all(unknown.map((id) => stopChat(id, server)));
    await look();
  };

  return { running, stop };
}

/**
 * @param {Conversation[]} conversations
 * @param {string} answerId
 */
function knows(conversations, answerId) {
  return conversations.some(({ messages }) => messages.some(({ id }) => id === answerId));
}
