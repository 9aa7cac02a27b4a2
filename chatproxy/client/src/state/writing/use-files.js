import { useCallback } from "react";

import { bytesOf } from "../../lib/attachments.js";
import { currentConversation, editedPrompt } from "../chats/model.js";
import { payloadOf } from "../chats/payload.js";
import { pathOf } from "../chats/tree.js";
import { useAttachments } from "./use-attachments.js";

/**
 * The files that go with what is being written in the conversation in view.
 * @param {import("../chats/model.js").ChatState} state
 * @param {import("../chats/payload.js").How} how
 * @param {import("../kept/draft-files.js").DraftFiles} kept
 */
export function useFiles(state, how, kept) {
  const conversation = currentConversation(state);
  const edited = editedPrompt(state);
  const limits = useCallback(() => {
    const taken = bytesOf(payloadOf(pathOf(conversation), how));
    return { bytes: Math.max(0, how.maxBytes - taken), images: how.takesImages };
  }, [conversation, how]);

  return useAttachments({
    chatId: state.currentId ?? "",
    messageId: edited?.id ?? "",
    kept,
    before: edited?.attachments,
    limits,
  });
}
