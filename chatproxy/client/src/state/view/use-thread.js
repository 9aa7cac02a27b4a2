import { createContext, useMemo, useState } from "react";

import { currentConversation, editedMessage, runningAnswer } from "../chats/model.js";
import { versionsIn } from "../chats/tree.js";

/**
 * What a message of the thread may need beside itself, and what can be done with it. It changes when
 * a version is added or chosen, never with the text of an answer.
 * @typedef {object} ThreadTools
 * @property {Map<string, import("../chats/tree.js").Versions>} versions
 * @property {{messageId: string} | null} target the message that is to come into sight
 * @property {string | null} changedAnswerId the answer that is being changed
 * @property {boolean} busy whether an answer runs there; what is shown stays then
 * @property {boolean} prefix whether the upstream can go on with a text
 * @property {(messageId: string) => void} onVersion
 * @property {(answerId: string) => void} onRegenerate
 * @property {(answerId: string) => void} onGoOn
 * @property {(answerId: string) => void} onChange begins to change an answer
 * @property {(text: string) => void} onChangeText
 * @property {() => void} onSaveChange
 * @property {() => void} onLeaveChange
 */

/** @type {ThreadTools} */
const NONE = {
  versions: new Map(),
  target: null,
  changedAnswerId: null,
  busy: false,
  prefix: false,
  onVersion: () => undefined,
  onRegenerate: () => undefined,
  onGoOn: () => undefined,
  onChange: () => undefined,
  onChangeText: () => undefined,
  onSaveChange: () => undefined,
  onLeaveChange: () => undefined,
};

export const ThreadContext = createContext(NONE);

/** What the answer is to be changed to. It changes with each key, so nothing else is told of it. */
export const ChangeContext = createContext("");

/**
 * @param {ReturnType<typeof import("../asking/use-chat.js").useChat>} chat
 * @param {Pick<ReturnType<typeof import("../asking/use-conversation.js").useConversation>, "goOn" | "regenerate" | "saveEdit">} ways
 * @param {boolean} prefix whether the upstream can go on with a text
 * @param {() => void} goHome gives the focus back to the box to write in
 * @returns {ThreadTools}
 */
export function useThread({ state, dispatch }, { goOn, regenerate, saveEdit }, prefix, goHome) {
  const conversation = currentConversation(state);
  const versions = useVersions(conversation);
  const busy = runningAnswer(conversation) !== undefined;
  const edited = editedMessage(state);
  const changedAnswerId = edited?.role === "assistant" ? edited.id : null;
  const { target } = state;

  return useMemo(
    () => ({
      versions,
      target,
      changedAnswerId,
      busy,
      prefix,
      onVersion: (messageId) => dispatch({ type: "versionChosen", messageId, now: Date.now() }),
      onRegenerate(answerId) {
        goHome();
        regenerate(answerId);
      },
      onGoOn(answerId) {
        goHome();
        goOn(answerId);
      },
      onChange: (messageId) => dispatch({ type: "editBegun", messageId }),
      onChangeText: (text) => dispatch({ type: "editDrafted", text }),
      onSaveChange() {
        saveEdit();
        goHome();
      },
      onLeaveChange() {
        dispatch({ type: "editLeft" });
        goHome();
      },
    }),
    [
      versions,
      target,
      changedAnswerId,
      busy,
      prefix,
      dispatch,
      goOn,
      regenerate,
      saveEdit,
      goHome,
    ],
  );
}

/**
 * @param {import("../chats/model.js").Conversation | undefined} conversation
 * @returns {ThreadTools["versions"]} the same, as long as nothing in it has changed
 */
function useVersions(conversation) {
  const [known, setKnown] = useState(NONE.versions);
  const versions = versionsIn(conversation);
  if (isSame(known, versions)) {
    return known;
  }
  setKnown(versions);
  return versions;
}

/**
 * @param {ThreadTools["versions"]} one
 * @param {ThreadTools["versions"]} other
 */
function isSame(one, other) {
  return (
    one.size === other.size &&
    [...one].every(([id, { at, ids }]) => {
      const same = other.get(id);
      return same?.at === at && same.ids.join() === ids.join();
    })
  );
}
