/** The page's state, and the runs that change it. */

import { useCallback, useEffect, useMemo, useReducer, useState } from "react";

import { createSessionId } from "../../lib/llm-api.jsx";
import { loadDrafts } from "../chats/draft.js";
import { atRest } from "../chats/join.js";
import { initialState, runningAnswers } from "../chats/model.js";
import { payloadOf } from "../chats/payload.js";
import { reducer } from "../chats/reducer.js";
import { overdue } from "../chats/shelf.js";
import { allOf } from "../kept/library.js";
import { useDrafts } from "../kept/use-drafts.js";
import { usePersistence } from "../kept/use-persistence.js";
import { conversationIn } from "../view/address.js";
import { useShelf } from "../view/use-shelf.js";
import { useRuns } from "./use-runs.js";

/**
 * @typedef {import("../chats/model.js").Conversation} Conversation
 * @typedef {import("../chats/model.js").Message} Message
 *
 * @typedef {object} Places where the page keeps things
 * @property {import("../kept/library.js").Library} library
 * @property {Storage | null} storage what lasts
 * @property {Storage | null} tabStorage what goes with the tab
 */

/**
 * @param {Places} places
 * @param {ReturnType<typeof import("./use-access.js").useAccess>} access
 * @param {import("../../lib/llm-api.jsx").Resume} resume how an answer is read on
 */
export function useChat({ library, storage, tabStorage }, access, resume) {
  const [state, dispatch] = useReducer(reducer, null, () => begin(library, storage, tabStorage));
  const runs = useRuns(dispatch, access, resume);
  const { start, takeUp, stop, stopAgain, leave, show } = runs;
  const { conversations, currentId, drafts } = state;
  const [loaded] = useState(conversations);

  const takeIn = useCallback(
    (/** @type {Conversation} */ conversation) => {
      dispatch({ type: "keptElsewhere", conversation });
      for (const message of conversation.messages) {
        if (message.role === "assistant" && atRest(message)) {
          leave(message.id);
        }
      }
    },
    [leave],
  );
  const letGo = useCallback(
    (/** @type {string} */ id) => dispatch({ type: "deletedElsewhere", id }),
    [],
  );
  const { trouble, read } = usePersistence(library, conversations, {
    onKept: takeIn,
    onDeleted: letGo,
  });
  useDrafts([storage, tabStorage], drafts);

  // Only what is shown needs its connection.
  useEffect(() => show(currentId), [currentId, show]);

  const shutId = conversations.find(
    ({ id, shut, needed }) => shut && (needed || id === currentId),
  )?.id;
  useEffect(() => {
    if (shutId !== undefined) {
      read([shutId]).then(
        ([messages = []]) => dispatch({ type: "chatRead", id: shutId, messages }),
        () => undefined, // the page says already that its storage fails
      );
    }
  }, [shutId, read]);

  const tools = useShelf(state, dispatch, stop, library);
  useEffect(() => {
    const ids = overdue(loaded, Date.now()).map(({ id }) => id);
    if (ids.length > 0) {
      tools.purge(ids);
    }
  }, [tools, loaded]);

  useEffect(() => {
    for (const { id, messages } of access.asked ? [] : loaded) {
      for (const message of messages) {
        if (message.role === "assistant" && message.stop === "unconfirmed") {
          stopAgain(id, message);
        }
      }
    }
  }, [loaded, access.asked, stopAgain]);

  // What runs without being read here: it ran before a reload, or another tab has asked for it.
  useEffect(() => {
    for (const conversation of access.asked ? [] : conversations) {
      for (const answer of runningAnswers(conversation)) {
        takeUp(conversation.id, answer);
      }
    }
  }, [conversations, access.asked, takeUp]);

  const ask = useCallback(
    /**
     * @param {string} conversationId
     * @param {Pick<import("../chats/reducer.js").Sent, "prompt" | "parentId" | "more">} question
     * @param {Message[]} messages that are told: with the prompt last, or the text to go on with
     * @param {import("../chats/payload.js").How} how
     */
    (conversationId, question, messages, how) => {
      const answerId = createSessionId();
      const { model } = how;
      dispatch({ type: "sent", conversationId, answerId, now: Date.now(), model, ...question });
      start(conversationId, answerId, payloadOf(messages, how));
    },
    [start],
  );

  return useMemo(
    () => ({ state, dispatch, ask, stop, tools, library, read, trouble }),
    [state, ask, stop, tools, library, read, trouble],
  );
}

/**
 * What the page shows first: the conversation of its address, or the one that was used last.
 * @param {import("../kept/library.js").Library} library
 * @param {Storage | null} storage
 * @param {Storage | null} tabStorage
 */
function begin(library, storage, tabStorage) {
  const drafts = loadDrafts([storage, tabStorage]);
  const state = initialState(allOf(library), { drafts });
  const id = conversationIn(location);
  return id === undefined ? state : reducer(state, { type: "chatOpened", id });
}
