/**
 * Everything that can happen on the page, and what follows from it. Pure, but for the language of
 * what is announced.
 */

import { currentLanguage } from "../i18n/current.js";
import { announcementFor, ended, received, sent, stopKnown, stopped } from "./answer.js";
import { adopt } from "./merge.js";
import { MOST_CONVERSATIONS, runningAnswer, titleOf, wordsOf } from "./model.js";

/**
 * @typedef {import("./model.js").ChatState} ChatState
 * @typedef {import("./model.js").Conversation} Conversation
 * @typedef {import("./model.js").Answer} Answer
 * @typedef {import("./model.js").Message} Message
 *
 * @typedef {{conversationId: string, answerId: string, now: number}} Which
 *
 * @typedef {Which & {type: "sent", model: string, messages: Message[]}} Sent
 * @typedef {Which & {type: "received", progress: import("./answer.js").Progress}} Received
 * @typedef {Which & {type: "stopped"}} Stopped
 * @typedef {Which & {type: "stopKnown", stop: import("./model.js").StopState}} StopKnown
 * @typedef {Which & {type: "ended", end: import("../lib/llm-api.jsx").AnswerEnd}} Ended
 * @typedef {{type: "drafted", draft: string}} Drafted
 * @typedef {{type: "editBegun", messageId: string}} EditBegun
 * @typedef {{type: "editLeft"}} EditLeft
 * @typedef {{type: "settingsChosen", settings: import("./chat-settings.js").ChatSettings}} SettingsChosen
 * @typedef {{type: "chatOpened", id: string | null}} ChatOpened
 * @typedef {{type: "chatDeleted", id: string}} ChatDeleted
 * @typedef {{type: "deleteUndone"}} DeleteUndone
 * @typedef {{type: "keptElsewhere", conversation: Conversation}} KeptElsewhere
 * @typedef {{type: "deletedElsewhere", id: string}} DeletedElsewhere
 *
 * @typedef {Sent | Received | Stopped | StopKnown | Ended} AnswerAction
 * @typedef {SettingsChosen | Drafted | EditBegun | EditLeft | ChatOpened | ChatDeleted | DeleteUndone} ChatAction
 * @typedef {KeptElsewhere | DeletedElsewhere} TabAction
 * @typedef {AnswerAction | ChatAction | TabAction} Action
 */

/**
 * @param {ChatState} state
 * @param {Action} action
 * @returns {ChatState}
 */
export function reducer(state, action) {
  switch (action.type) {
    case "sent":
      return begin(state, action);
    case "received":
      return change(state, action, (answer) => received(answer, action.progress, action.now));
    case "stopped":
      return change(state, action, (answer) => stopped(answer, action.now));
    case "stopKnown":
      return change(state, action, (answer) => stopKnown(answer, action.stop));
    case "ended":
      return change(state, action, (answer) => ended(answer, action.end, action.now));
    case "keptElsewhere":
      return takeIn(state, action.conversation);
    case "deletedElsewhere":
      return letGo(state, action.id);
    default:
      return reduceChat(state, action);
  }
}

/**
 * @param {ChatState} state
 * @param {ChatAction} action
 * @returns {ChatState}
 */
function reduceChat(state, action) {
  switch (action.type) {
    case "drafted":
      return { ...state, draft: action.draft };
    case "settingsChosen":
      return chooseSettings(state, action.settings);
    case "editBegun":
      return beginEdit(state, action.messageId);
    case "editLeft":
      return { ...state, editingId: null, draft: "" };
    case "chatOpened":
      return open(state, action.id);
    case "chatDeleted":
      return remove(state, action.id);
    case "deleteUndone":
      return undo(state);
    default:
      return state;
  }
}

/**
 * @param {ChatState} state
 * @param {Sent} action `messages` are all that came before the answer, with the prompt last
 * @returns {ChatState}
 */
function begin(state, { conversationId, answerId, now, model, messages }) {
  const old = state.conversations.find(({ id }) => id === conversationId);
  const answer = sent(answerId, model, now);
  /** @type {Conversation} */
  const conversation = {
    id: conversationId,
    title: titleOf(wordsOf(messages[0])) || old?.title || currentLanguage().say("newChat"),
    updatedAt: now,
    messages: [...messages, answer],
    settings: old ? old.settings : state.newSettings,
  };
  const others = state.conversations.filter((other) => other !== old);
  return {
    ...state,
    conversations: [conversation, ...others].slice(0, MOST_CONVERSATIONS),
    currentId: conversationId,
    editingId: null,
    newSettings: {},
    announcement: announcementFor(currentLanguage(), answer),
  };
}

/**
 * Change one answer; nothing else gets a new identity, so that nothing else is drawn again.
 * @param {ChatState} state
 * @param {Which} which
 * @param {(answer: Answer) => Answer} to
 * @returns {ChatState}
 */
function change(state, { conversationId, answerId, now }, to) {
  const at = state.conversations.findIndex(({ id }) => id === conversationId);
  const conversation = state.conversations[at];
  const place = conversation?.messages.findLastIndex(({ id }) => id === answerId) ?? -1;
  const before = conversation?.messages[place];
  if (!conversation || before?.role !== "assistant") {
    return state;
  }
  const after = to(before);
  if (after === before) {
    return state;
  }
  const messages = conversation.messages.with(place, after);
  const changed = after.state !== before.state || after.status !== before.status;
  const heard = changed && conversationId === state.currentId;
  return {
    ...state,
    conversations: state.conversations.with(at, { ...conversation, messages, updatedAt: now }),
    announcement: heard ? announcementFor(currentLanguage(), after) : state.announcement,
  };
}

/**
 * Another tab has kept a conversation.
 * @param {ChatState} state
 * @param {Conversation} theirs
 * @returns {ChatState}
 */
function takeIn(state, theirs) {
  const mine = state.conversations.find(({ id }) => id === theirs.id);
  const next = adopt(mine, theirs);
  if (next === mine) {
    return state;
  }
  const others = state.conversations.filter((other) => other !== mine);
  const conversations = newestFirst([next, ...others]).slice(0, MOST_CONVERSATIONS);
  return { ...state, conversations };
}

/**
 * Another tab has deleted a conversation, which is not taken from under anybody's eyes.
 * @param {ChatState} state
 * @param {string} goneId
 * @returns {ChatState}
 */
function letGo(state, goneId) {
  const conversations = state.conversations.filter(
    (one) => one.id !== goneId || one.id === state.currentId || runningAnswer(one),
  );
  return conversations.length < state.conversations.length ? { ...state, conversations } : state;
}

/** @param {Conversation[]} conversations */
function newestFirst(conversations) {
  return conversations.toSorted((a, b) => b.updatedAt - a.updatedAt);
}

/**
 * @param {ChatState} state
 * @param {string} messageId
 * @returns {ChatState}
 */
function beginEdit(state, messageId) {
  for (const { messages } of state.conversations) {
    const message = messages.find(({ id }) => id === messageId);
    if (message) {
      return { ...state, editingId: messageId, draft: message.text };
    }
  }
  return state;
}

/**
 * Settings of the chat in view, which may be a new one.
 * @param {ChatState} state
 * @param {import("./chat-settings.js").ChatSettings} settings
 * @returns {ChatState}
 */
function chooseSettings(state, settings) {
  if (state.currentId === null) {
    return { ...state, newSettings: settings };
  }
  const conversations = state.conversations.map((conversation) =>
    conversation.id === state.currentId ? { ...conversation, settings } : conversation,
  );
  return { ...state, conversations };
}

/**
 * @param {ChatState} state
 * @param {string | null} id
 * @returns {ChatState}
 */
function open(state, id) {
  const leftEdit = state.editingId === null ? {} : { editingId: null, draft: "" };
  return { ...state, ...leftEdit, currentId: id, deleted: null, announcement: "" };
}

/**
 * @param {ChatState} state
 * @param {string} id
 * @returns {ChatState}
 */
function remove(state, id) {
  const deleted = state.conversations.find((conversation) => conversation.id === id);
  if (!deleted) {
    return state;
  }
  const conversations = state.conversations.filter((conversation) => conversation !== deleted);
  const opened = state.currentId === id ? open(state, null) : state;
  return { ...opened, conversations, deleted, announcement: currentLanguage().say("chatDeleted") };
}

/**
 * @param {ChatState} state
 * @returns {ChatState}
 */
function undo(state) {
  if (!state.deleted) {
    return state;
  }
  const conversations = newestFirst([...state.conversations, state.deleted]);
  return { ...state, conversations, currentId: state.deleted.id, deleted: null };
}
