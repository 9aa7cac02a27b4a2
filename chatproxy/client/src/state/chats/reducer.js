/**
 * Everything that can happen on the page, and what follows from it. Pure, but for the language of
 * what is announced.
 */

import { currentLanguage } from "../../i18n/current.js";
import { announcementFor, ended, received, sent, stopKnown, stopped } from "./answer.js";
import { drafted, editBegun, editDrafted, editLeft } from "./draft.js";
import { withSaid } from "./join.js";
import { adopt } from "./merge.js";
import { currentConversation, runningAnswers, titleOf, wordsOf } from "./model.js";
import { newestFirst, reduceShelf } from "./shelf.js";
import { messageIn, pathOf, withAdded, withShown } from "./tree.js";

/**
 * @typedef {import("./model.js").ChatState} ChatState
 * @typedef {import("./model.js").Conversation} Conversation
 * @typedef {import("./model.js").Answer} Answer
 * @typedef {import("./model.js").Message} Message
 *
 * @typedef {{conversationId: string, answerId: string, now: number}} Which
 *
 * A question: `prompt` is new, or there is none and the parent is asked again. `more` is what the
 * answer begins with.
 * @typedef {Which & {type: "sent", model: string, prompt: import("./model.js").UserMessage | null,
 *   parentId: string | null, more?: Partial<Answer>}} Sent
 * @typedef {Which & {type: "received", progress: import("./answer.js").Progress}} Received
 * @typedef {Which & {type: "stopped"}} Stopped
 * @typedef {Which & {type: "stopKnown", stop: import("./model.js").StopState}} StopKnown
 * @typedef {Which & {type: "ended", end: import("../../lib/llm-api.jsx").AnswerEnd}} Ended
 * @typedef {{type: "versionMade", version: Answer}} VersionMade
 * @typedef {{type: "versionChosen", messageId: string, now: number}} VersionChosen
 * @typedef {{type: "chatOpened", id: string | null, messageId?: string}} ChatOpened
 * @typedef {{type: "chatRead", id: string, messages: Message[]}} ChatRead
 * @typedef {{type: "modelChosen", model: string, now: number}} ModelChosen
 * @typedef {{type: "settingsChosen", settings: import("./chat-settings.js").ChatSettings,
 *   now: number}} SettingsChosen
 * @typedef {{type: "keptElsewhere", conversation: Conversation}} KeptElsewhere
 * @typedef {{type: "deletedElsewhere", id: string}} DeletedElsewhere
 *
 * @typedef {Sent | Received | Stopped | StopKnown | Ended} AnswerAction
 * @typedef {VersionMade | VersionChosen | ModelChosen | SettingsChosen | ChatOpened | ChatRead} ChatAction
 * @typedef {KeptElsewhere | DeletedElsewhere} TabAction
 * @typedef {import("./draft.js").DraftAction} DraftAction
 * @typedef {import("./shelf.js").ShelfAction} ShelfAction
 * @typedef {AnswerAction | ChatAction | TabAction | DraftAction | ShelfAction} Action
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
 * @param {ChatAction | DraftAction | ShelfAction} action
 * @returns {ChatState}
 */
function reduceChat(state, action) {
  switch (action.type) {
    case "versionMade":
      return replace(editLeft(state), (conversation) => withAdded(conversation, action.version));
    case "versionChosen":
      return choose(state, action);
    case "modelChosen":
      return replace(state, (one) => withSaid(one, { model: action.model }, action.now));
    case "settingsChosen":
      return chooseSettings(state, action);
    case "chatOpened":
      return open(state, action);
    case "chatRead":
      return read(state, action);
    case "drafted":
      return drafted(state, action.draft);
    case "editBegun":
      return editBegun(state, action.messageId);
    case "editDrafted":
      return editDrafted(state, action.text);
    case "editLeft":
      return editLeft(state);
    case "draftsTaken":
      return { ...state, drafts: { ...action.drafts, ...state.drafts } };
    default:
      return reduceShelf(state, action);
  }
}

/**
 * @param {ChatState} state
 * @param {Sent} action
 * @returns {ChatState}
 */
function begin(state, { conversationId, answerId, now, model, prompt, parentId, more }) {
  const old = state.conversations.find(({ id }) => id === conversationId);
  const before = old ?? newConversation(state, conversationId);
  const answer = sent(answerId, model, now, { parentId: prompt?.id ?? parentId, ...more });
  const grown = withAdded(before, ...(prompt ? [prompt] : []), answer);
  const title = before.named ? "" : titleOf(wordsOf(pathOf(grown)[0]));
  const conversation = {
    ...(before.deletedAt ? withSaid(grown, { deletedAt: 0 }, now) : grown),
    title: title || before.title,
    updatedAt: now,
  };
  const others = state.conversations.filter((other) => other !== old);
  return {
    ...state,
    conversations: [conversation, ...others],
    currentId: conversationId,
    astray: false,
    newSettings: {},
    announcement: announcementFor(currentLanguage(), answer),
  };
}

/**
 * @param {ChatState} state
 * @param {string} id
 * @returns {Conversation}
 */
function newConversation({ newSettings }, id) {
  const title = currentLanguage().say("newChat");
  return { id, title, updatedAt: 0, messages: [], chosen: [], settings: newSettings };
}

/**
 * Change one answer; nothing else gets a new identity, so that nothing else is drawn again. Its
 * conversation keeps its place in the list, which must not move under a pointer.
 * @param {ChatState} state
 * @param {Which} which
 * @param {(answer: Answer) => Answer} to
 * @returns {ChatState}
 */
function change(state, { conversationId, answerId }, to) {
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
    conversations: state.conversations.with(at, { ...conversation, messages }),
    announcement: heard ? announcementFor(currentLanguage(), after) : state.announcement,
  };
}

/**
 * Change the conversation that is shown.
 * @param {ChatState} state
 * @param {(conversation: Conversation) => Conversation} to
 * @returns {ChatState}
 */
function replace(state, to) {
  const conversations = state.conversations.map((one) =>
    one.id === state.currentId ? to(one) : one,
  );
  return { ...state, conversations };
}

/**
 * @param {ChatState} state
 * @param {VersionChosen} action
 * @returns {ChatState}
 */
function choose(state, { messageId, now }) {
  const chosen = replace(state, (conversation) =>
    withSaid(conversation, { chosen: withShown(conversation, messageId).chosen }, now),
  );
  return { ...chosen, target: { messageId } };
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
  return { ...state, conversations: newestFirst([next, ...others]) };
}

/**
 * Another tab has deleted a conversation for good, which is not taken from under anybody's eyes.
 * @param {ChatState} state
 * @param {string} goneId
 * @returns {ChatState}
 */
function letGo(state, goneId) {
  const conversations = state.conversations.filter(
    (one) => one.id !== goneId || one.id === state.currentId || runningAnswers(one).length > 0,
  );
  return conversations.length < state.conversations.length ? { ...state, conversations } : state;
}

/**
 * @param {ChatState} state
 * @param {ChatOpened} action
 * @returns {ChatState}
 */
function open(state, { id, messageId }) {
  const astray = id !== null && !state.conversations.some((one) => one.id === id);
  const opened = {
    ...state,
    currentId: astray ? null : id,
    astray,
    deletedId: null,
    target: messageId === undefined ? null : { messageId },
    announcement: "",
  };
  return messageId === undefined ? opened : showTarget(opened);
}

/**
 * @param {ChatState} state
 * @returns {ChatState}
 */
function showTarget(state) {
  const { target } = state;
  const shown = target && messageIn(currentConversation(state), target.messageId);
  return shown ? replace(state, (conversation) => withShown(conversation, shown.id)) : state;
}

/**
/**
 * Settings of the chat in view, which may be a new one.
 * @param {ChatState} state
 * @param {SettingsChosen} action
 * @returns {ChatState}
 */
function chooseSettings(state, { settings, now }) {
  return state.currentId === null
    ? { ...state, newSettings: settings }
    : replace(state, (conversation) => withSaid(conversation, { settings }, now));
}

/**
 * The messages of a conversation have been read from the browser's storage.
 * @param {ChatState} state
 * @param {ChatRead} action
 * @returns {ChatState}
 */
function read(state, { id, messages }) {
  const at = state.conversations.findIndex((one) => one.id === id);
  const conversation = state.conversations[at];
  if (!conversation?.shut) {
    return state;
  }
  const { shut, needed, ...whole } = { ...conversation, messages };
  const next = { ...state, conversations: state.conversations.with(at, whole) };
  return id === state.currentId ? showTarget(next) : next;
}
