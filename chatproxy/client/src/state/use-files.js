import { useCallback } from "react";

import { bytesOf } from "../lib/attachments.js";
import { currentConversation } from "./model.js";
import { payloadOf } from "./payload.js";
import { useAttachments } from "./use-attachments.js";

/**
 * The files that go with what is being written in the conversation in view.
 * @param {import("./model.js").ChatState} state
 * @param {import("./payload.js").How} how
 */
export function useFiles(state, how) {
  const conversation = currentConversation(state);
  const edited = conversation?.messages.find(({ id }) => id === state.editingId);
  const limits = useCallback(() => {
    const taken = bytesOf(payloadOf(conversation?.messages ?? [], how));
    return { bytes: Math.max(0, how.maxBytes - taken), images: how.takesImages };
  }, [conversation, how]);

  return useAttachments({
    place: state.editingId ?? state.currentId ?? "",
    before: edited?.role === "user" ? edited.attachments : undefined,
    limits,
  });
}
