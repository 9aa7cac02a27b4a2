import { useCallback, useEffect, useRef, useState } from "react";

import { currentLanguage } from "../../i18n/current.js";
import { useLatest } from "../hooks/use-latest.js";

const KEY = "chatproxy.notify";

/** @typedef {import("../chats/model.js").Conversation} Conversation */

/**
 * Tells of an answer that has ended here while the page was out of sight, if the user wants that.
 * The browser is asked for its permission when the user switches it on, and never otherwise.
 * @param {Storage | null} storage
 * @param {Conversation[]} conversations
 * @param {(id: string) => void} open
 */
export function useNotifications(storage, conversations, open) {
  const [on, setOn] = useState(() => isPossible() && storage?.getItem(KEY) === "on" && isAllowed());
  const latest = useLatest({ on, open });
  const running = useRef(/** @type {Set<string>} */ (new Set()));

  useEffect(() => {
    /** @type {Set<string>} */
    const runs = new Set();
    for (const conversation of conversations) {
      for (const message of conversation.messages) {
        if (message.role === "user") {
          continue;
        }
        if (message.state === "running") {
          runs.add(message.id);
        } else if (running.current.has(message.id) && message.reason !== "user") {
          tell(conversation, message, latest.current);
        }
      }
    }
    running.current = runs;
  }, [conversations, latest]);

  const toggle = useCallback(
    async (/** @type {boolean} */ wanted) => {
      const allowed = wanted && (isAllowed() || (await Notification.requestPermission()) === "granted");
      setOn(allowed);
      try {
        storage?.setItem(KEY, allowed ? "on" : "off");
      } catch {
        // A full storage: the choice holds for as long as the page does.
      }
    },
    [storage],
  );

  return { possible: isPossible(), on, toggle };
}

/**
 * @param {Conversation} conversation
 * @param {import("../chats/model.js").Answer} answer
 * @param {{on: boolean, open: (id: string) => void}} how
 */
function tell({ id, title }, { id: answerId, state }, { on, open }) {
  if (!on || document.visibilityState === "visible") {
    return;
  }
  try {
    // Of two tabs that read the same answer one is heard: the tag is the same.
    const body = currentLanguage().say(state === "finished" ? "heard.finished" : "endedEarly");
    const notification = new Notification(title, { body, tag: answerId });
    notification.onclick = () => {
      focus();
      open(id);
      notification.close();
    };
  } catch {
    // Some browsers have them for service workers alone.
  }
}

function isPossible() {
  return "Notification" in globalThis && isSecureContext;
}

function isAllowed() {
  return Notification.permission === "granted";
}
