import { describe, expect, it } from "vitest";

import { currentLanguage } from "../src/i18n/current.js";
import * as answers from "../src/state/chats/answer.js";
import {
  asPayloadMessages,
  currentConversation,
  currentModel,
  currentSettings,
  initialState,
  runningAnswer,
  titleOf,
} from "../src/state/chats/model.js";
import { reducer } from "../src/state/chats/reducer.js";
import { overdue, shelves } from "../src/state/chats/shelf.js";
import { pathOf } from "../src/state/chats/tree.js";

/**
 * @typedef {import("../src/state/chats/reducer.js").Action} Action
 * @typedef {import("../src/state/chats/model.js").Answer} Answer
 * @typedef {import("../src/lib/llm-api.jsx").AnswerEnd} AnswerEnd
 * @typedef {import("../src/lib/llm-api.jsx").Receipt} Receipt
 */

const WHICH = { conversationId: "c1", answerId: "a1" };
/** @type {Receipt} */
const RECEIPT = {
  sessionId: "a1",
  phase: "streaming",
  upstreamClosed: true,
  stopMs: 2.4,
  events: 42,
};

/** @param {Answer} answer */
function closingSentence(answer) {
  return answers.closingSentence(currentLanguage(), answer);
}

/** @param {Action[]} actions */
function after(...actions) {
  return actions.reduce(reducer, initialState([]));
}

/**
 * @param {number} now
 * @returns {Action}
 */
function sent(now = 1000, answerId = "a1", conversationId = "c1") {
  return asked("Hello\nthere", null, { now, answerId, conversationId, id: "u1" });
}

/**
 * @param {string} text
 * @param {string | null} parentId
 * @param {{now?: number, answerId?: string, conversationId?: string, id?: string}} [more]
 * @returns {Action}
 */
function asked(text, parentId, more) {
  const { now = 6000, answerId = "a2", conversationId = "c1", id = "u2" } = more ?? {};
  const prompt = { role: /** @type {const} */ ("user"), id, parentId, at: now, text };
  const model = "deepseek-flash";
  return { type: "sent", conversationId, answerId, now, model, prompt, parentId };
}

/**
 * @param {string} answerId
 * @param {Partial<Answer>} [more]
 * @returns {Action}
 */
function askedAgain(answerId, more) {
  const { conversationId } = WHICH;
  const model = "deepseek-flash";
  return { type: "sent", conversationId, answerId, now: 7000, model, prompt: null, parentId: "u1", ...(more && { more }) };
}

/**
 * @param {Partial<import("../src/state/chats/answer.js").Progress>} progress
 * @param {number} now
 * @returns {Action}
 */
function received(progress, now = 2000, answerId = "a1") {
  return {
    type: "received",
    ...WHICH,
    answerId,
    now,
    progress: { text: "", reasoning: "", told: [], lastEvent: 0, status: null, ...progress },
  };
}

/**
 * @param {Partial<AnswerEnd>} end
 * @returns {Action}
 */
function ended(end, now = 9000, answerId = "a1") {
  return { type: "ended", ...WHICH, answerId, now, end: { outcome: "finished", events: 3, ...end } };
}

/** @type {Action} */
const stopped = { type: "stopped", ...WHICH, now: 5000 };
/** @type {Action} */
const receipted = {
  type: "stopKnown",
  ...WHICH,
  now: 5003,
  stop: { state: "stopped", receipt: RECEIPT },
};

/** @param {import("../src/state/chats/model.js").ChatState} state */
function answerOf(state) {
  return /** @type {Answer} */ (pathOf(currentConversation(state)).at(-1));
}

/** @param {import("../src/state/chats/model.js").ChatState} state */
const shown = (state) => pathOf(currentConversation(state)).map(({ id }) => id);

describe("the model of a chat", () => {
  const OFFERED = ["small", "large", "run:research"];
  const answered = (/** @type {string} */ model, chat = "c1") =>
    /** @type {Action} */ ({ .../** @type {any} */ (sent(1000, `${chat}-a`, chat)), model });
  const open = (/** @type {string | null} */ id) => /** @type {Action} */ ({ type: "chatOpened", id });
  /** @type {Action} */
  const chooses = { type: "modelChosen", model: "large", now: 3000 };

  it.each(/** @type {[string, Action[], string][]} */ ([
    ["the usual one, before anything", [], "small"],
    ["the one that has answered last", [answered("run:research")], "run:research"],
    ["the one that was chosen there", [answered("run:research"), chooses], "large"],
    ["its own in each chat", [answered("run:research"), chooses, answered("small", "c2"), open("c1")], "large"],
    ["and in the other", [answered("large"), answered("run:research", "c2")], "run:research"],
    ["the usual one, if it is offered no more", [answered("gone")], "small"],
  ]))("is %s", (_, actions, model) => {
    expect(currentModel(after(...actions), "small", OFFERED)).toBe(model);
  });
});

describe("an answer", () => {
  it("runs from the moment of sending", () => {
    const state = after(sent());
    expect(runningAnswer(currentConversation(state))).toMatchObject({ id: "a1", status: "waiting" });
    expect(state.announcement).toBe("Sent. Waiting for DeepSeek.");
  });

  it("says that it was not sent yet", () => {
    const state = after(sent(), received({ status: "queued" }));
    expect(state.announcement).toMatch(/^Not sent yet/);
  });

  it("goes from queued at DeepSeek to thinking to answering, and measures its thinking", () => {
    const state = after(
      sent(),
      received({ status: "upstream_queued" }, 1500),
      received({ status: "thinking", reasoning: "Hm" }, 3000),
      received({ status: "answering", reasoning: ".", text: "Hi" }, 7000),
      received({ text: "!" }, 8000),
    );
    expect(answerOf(state)).toMatchObject({
      status: "answering",
      statusSince: 7000,
      reasoning: "Hm.",
      text: "Hi!",
      thinkingMs: 4000,
    });
  });

  it("announces states, and not tokens", () => {
    const before = after(sent(), received({ status: "answering", text: "a" }));
    const next = reducer(before, received({ text: "b" }));
    expect(before.announcement).toBe("Answering.");
    expect(next.announcement).toBe(before.announcement);
  });

  it("is announced only while its chat is in view", () => {
    const state = after(sent(), { type: "chatOpened", id: null }, received({ status: "thinking" }));
    expect(state.announcement).toBe("");
    expect(reducer(state, ended({})).announcement).toBe("");
  });

  it("stalls and recovers", () => {
    const stalled = after(sent(), received({ text: "a", status: "answering" }), received({ status: "stalled" }));
    expect(answerOf(stalled).status).toBe("stalled");
    expect(answerOf(reducer(stalled, received({ status: "answering" }))).status).toBe("answering");
  });

  it("finishes, and then changes no more", () => {
    const state = after(sent(), received({ text: "Hi" }), ended({ finishReason: "stop" }));
    expect(answerOf(state)).toMatchObject({ state: "finished", text: "Hi" });
    expect(closingSentence(answerOf(state))).toBe("");
    for (const late of [received({ text: "!" }), stopped, receipted, ended({ outcome: "failed" })]) {
      expect(reducer(state, late)).toBe(state);
    }
  });

  it("says where it ended early though complete", () => {
    const state = after(sent(), ended({ finishReason: "length" }));
    expect(closingSentence(answerOf(state))).toMatch(/greatest length/);
  });
});

describe("a Stop", () => {
  /** @type {Action[]} */
  const begun = [sent(), received({ text: "Half", status: "answering" })];
  /** @type {[string, Action[]][]} */
  const orders = [
    ["receipt, then the stream's end", [stopped, receipted, ended({ outcome: "aborted" })]],
    ["the stream's end, then the receipt", [stopped, ended({ outcome: "aborted" }), receipted]],
    ["the server's word first", [stopped, ended({ outcome: "stopped", reason: "user" }), receipted]],
    ["a late failure", [stopped, ended({ outcome: "failed" }), receipted]],
    ["late text", [stopped, received({ text: " more" }), receipted]],
    ["twice", [stopped, stopped, receipted]],
  ];

  it("is not confirmed until the server has answered it", () => {
    const state = after(...begun, stopped);
    expect(answerOf(state)).toMatchObject({ state: "stopped", reason: "user", stop: "unconfirmed" });
    for (const stop of /** @type {const} */ ([
      { state: "unconfirmed" },
      { state: "nothing-to-stop" },
      { state: "refused", status: 401, message: "Who?" },
    ])) {
      const known = answerOf(reducer(state, { ...receipted, stop }));
      expect(known.stop).toBe(stop.state);
      expect(known.stopRefusal).toBe("message" in stop ? "Who?" : undefined);
      expect(known.receipt).toBeUndefined();
      expect(closingSentence(known)).toBe("AI response stopped by user.");
    }
  });

  it.each(orders)("ends in the same calm state: %s", (_name, order) => {
    const answer = answerOf(after(...begun, ...order));
    expect(answer).toMatchObject({
      state: "stopped",
      reason: "user",
      text: "Half",
      stop: "stopped",
      receipt: { stopMs: 2.4, events: 42, upstreamClosed: true },
    });
    expect(answer.error).toBeUndefined();
    expect(closingSentence(answer)).toBe("AI response stopped by user.");
  });

  it("needs no receipt", () => {
    const answer = answerOf(after(...begun, stopped));
    expect(closingSentence(answer)).toBe("AI response stopped by user.");
    expect(answer.receipt).toBeUndefined();
  });

  it("ends the thinking", () => {
    const state = after(sent(), received({ reasoning: "Hm", status: "thinking" }, 3000), stopped);
    expect(answerOf(state).thinkingMs).toBe(2000);
  });

  it("from elsewhere is shown with its reason", () => {
    const reasons = ["user", "deadline", "idle", "shutdown", "disconnect", "lost", "replaced", "budget"];
    const sentences = reasons.map((reason) =>
      closingSentence(answerOf(after(...begun, ended({ outcome: "stopped", reason })))),
    );
    expect(new Set(sentences).size).toBe(reasons.length);
    expect(sentences[0]).toBe("AI response stopped by user.");
  });

  it.each(["lost", "disconnect", "idle", "a reason to come", undefined])(
    "is never said to be the user's, unless the server says so: %s",
    (reason) => {
      const end = ended({ outcome: "stopped", ...(reason && { reason }) });
      const sentence = closingSentence(answerOf(after(...begun, end)));
      expect(sentence).toMatch(/stopped\.$/);
      expect(sentence).not.toMatch(/user/);
    },
  );
});

describe("an answer that is read on", () => {
  it("keeps its place together with its text", () => {
    const broken = after(
      sent(),
      received({ text: "Half", status: "answering", lastEvent: 4 }),
      received({ status: "reconnecting" }),
    );
    expect(answerOf(broken)).toMatchObject({ text: "Half", lastEvent: 4, status: "reconnecting" });
    const state = reducer(broken, received({ text: " more", status: "answering", lastEvent: 6 }));
    expect(answerOf(state)).toMatchObject({ text: "Half more", lastEvent: 6, status: "answering" });
  });

  it("is stopped while it reconnects like any other", () => {
    const state = after(sent(), received({ text: "Half", status: "reconnecting" }), stopped);
    expect(state.announcement).toBe("Stopped.");
    expect(closingSentence(answerOf(state))).toBe("AI response stopped by user.");
  });

  it.each(["not_found", "events_gone", "nothing_left", "answer_lost"])(
    "says in one sentence that the rest is lost, and how much is there: %s",
    (code) => {
      const outcome = code === "answer_lost" ? "failed" : "cut_off";
      const end = ended({ outcome, error: { code, message: "raw" } });
      expect(closingSentence(answerOf(after(sent(), received({ text: "x".repeat(1234) }), end)))).toBe(
        "The rest of this answer was lost: the 1,234 characters above are all that came.",
      );
      expect(closingSentence(answerOf(after(sent(), end)))).toMatch(/before any of its text came/);
    },
  );

  it("was stopped by the page that went away, if nobody read it", () => {
    const left = { outcome: /** @type {const} */ ("stopped"), reason: "disconnect", events: 3 };
    const error = { code: "not_found", message: "raw" };
    const gone = { outcome: /** @type {const} */ ("cut_off"), error, events: 3 };
    const reload = { outcome: "stopped", reason: "reload", events: 3 };
    expect(answers.endOfTakenUp(left, false)).toEqual(reload);
    expect(answers.endOfTakenUp(gone, true)).toEqual(reload);
    expect(answers.endOfTakenUp(gone, false)).toBe(gone);
    expect(answers.endOfTakenUp({ ...left, reason: "user" }, true)).toMatchObject({ reason: "user" });
    const unsent = { outcome: "failed", error: { code: "not_sent" } };
    expect(answers.endOfTakenUp(gone, true, "queued")).toMatchObject(unsent);
    expect(answers.endOfTakenUp(left, true, "queued")).toEqual(reload);
  });
});

describe("another tab", () => {
  const mine = after(sent(), received({ text: "Half", lastEvent: 4 }));
  const theirs = after(sent(), received({ text: "Whole", lastEvent: 9 }), ended({}));
  const conversation = /** @type {import("../src/state/chats/model.js").Conversation} */ (
    theirs.conversations[0]
  );

  it("brings the end of an answer that runs here, and no announcement", () => {
    const state = reducer(mine, { type: "keptElsewhere", conversation });
    expect(answerOf(state)).toMatchObject({ state: "finished", text: "Whole" });
    expect(state.announcement).toBe(mine.announcement);
    expect(reducer(state, { type: "keptElsewhere", conversation })).toBe(state);
  });

  it("adds its new conversations, and does not open them", () => {
    const other = { ...conversation, id: "c2", updatedAt: 1 };
    const state = reducer(mine, { type: "keptElsewhere", conversation: other });
    expect(state.conversations.map(({ id }) => id)).toEqual(["c1", "c2"]);
    expect(state.currentId).toBe("c1");
    const { messages } = other;
    const read = reducer(state, { type: "chatRead", id: "c2", messages });
    expect(read.conversations[1]).toMatchObject({ messages });
    expect(read.conversations[1]?.shut).toBeUndefined();
    expect(reducer(read, { type: "chatRead", id: "c2", messages: [] })).toBe(read);
  });

  it("does not move the list, whatever comes of its answers", () => {
    const sentTwice = [sent(1000), asked("Again", null, { conversationId: "c2" })];
    const grown = after(...sentTwice, received({ text: "More", lastEvent: 1 }, 9000));
    const older = { ...conversation, id: "c3", updatedAt: 1 };
    const state = reducer(grown, { type: "keptElsewhere", conversation: older });
    expect(state.conversations.map(({ id }) => id)).toEqual(["c2", "c1", "c3"]);
  });

  it("takes away what it deletes, but not from under one's eyes", () => {
    const gone = /** @type {const} */ ({ type: "deletedElsewhere", id: "c1" });
    expect(reducer(mine, gone)).toBe(mine);
    const away = reducer(theirs, { type: "chatOpened", id: null });
    expect(reducer(away, gone).conversations).toEqual([]);
  });
});

describe("a failure", () => {
  it.each([
    ["upstream_balance", "balance is used up"],
    ["upstream_busy", "too busy"],
    ["upstream_auth", "key"],
    ["upstream_unreachable", "cannot be reached"],
    ["too_many_sessions", "Too many answers"],
    ["body_too_large", "too long"],
    ["shutting_down", "restart"],
    ["session_active", "already"],
  ])("has a sentence for people: %s", (code, part) => {
    const error = { code, message: "raw" };
    const answer = answerOf(after(sent(), ended({ outcome: "failed", error })));
    expect(closingSentence(answer)).toContain(part);
  });

  it("of an unknown kind shows the server's sentence", () => {
    const error = { code: "no_such", message: "One clear sentence." };
    const answer = answerOf(after(sent(), ended({ outcome: "failed", error })));
    expect(closingSentence(answer)).toBe("One clear sentence.");
  });

  it("in mid-answer keeps the text", () => {
    const state = after(sent(), received({ text: "Half" }), ended({ outcome: "cut_off" }));
    expect(answerOf(state)).toMatchObject({ state: "cut_off", text: "Half" });
    expect(closingSentence(answerOf(state))).toMatch(/broke off/);
  });

  /** @param {import("../src/state/chats/model.js").ChatState} state */
  const announced = (state) => answers.announcementFor(currentLanguage(), answerOf(state));

  it("of a connection that there never was is not said to be a lost one", () => {
    const error = { code: "connection_lost", message: "raw" };
    const unreached = after(sent(), received({ status: "reconnecting" }));
    expect(announced(unreached)).not.toMatch(/lost/);
    expect(announced(after(sent(), received({ status: "reconnecting", lastEvent: 4 })))).toMatch(/lost/);
    const over = reducer(unreached, ended({ outcome: "cut_off", error }));
    expect(closingSentence(answerOf(over))).toMatch(/no connection/);
    expect(closingSentence(answerOf(over))).not.toMatch(/lost|broke/);
  });
});

describe("versions", () => {
  const done = after(sent(), received({ text: "Hi" }), ended({}));

  it("are what an answer that is asked for again, and a prompt that is changed, become", () => {
    const again = reducer(done, askedAgain("a2"));
    expect(shown(again)).toEqual(["u1", "a2"]);
    const changed = reducer(again, asked("Hello you", null, { answerId: "a3" }));
    expect(shown(changed)).toEqual(["u2", "a3"]);
    expect(changed.conversations[0]?.title).toBe("Hello you");
    expect(changed.conversations[0]?.messages).toHaveLength(5);
    const back = reducer(changed, { type: "versionChosen", messageId: "a1", now: 8000 });
    expect(shown(back)).toEqual(["u1", "a1"]);
    expect(back.target).toEqual({ messageId: "a1" });
    expect(back.conversations[0]?.shelvedAt).toBe(8000);
  });

  it("run beside each other, and each ends for itself", () => {
    const again = reducer(done, askedAgain("a2"));
    const back = reducer(again, { type: "versionChosen", messageId: "a1", now: 8000 });
    expect(runningAnswer(currentConversation(back))).toBeUndefined();
    const over = reducer(back, ended({}, 9000, "a2"));
    expect(currentConversation(over)?.messages.at(-1)).toMatchObject({ id: "a2", state: "finished" });
  });

  it("begin with the text that they go on with", () => {
    const more = { text: "Hi", reasoning: "Hm", made: /** @type {const} */ ("continued") };
    const state = reducer(done, askedAgain("a2", more));
    const grown = reducer(state, received({ text: " there", lastEvent: 1 }, 2000, "a2"));
    expect(answerOf(grown)).toMatchObject({ text: "Hi there", reasoning: "Hm", lastEvent: 1 });
    expect(done.conversations[0]?.messages[1]).toMatchObject({ text: "Hi" });
  });

  it("may be the user's own", () => {
    const version = answers.edited(answerOf(done), { id: "e1", text: "Ho", now: 8000 });
    const begun = reducer(done, { type: "editBegun", messageId: "a1" });
    const state = reducer(begun, { type: "versionMade", version });
    expect(shown(state)).toEqual(["u1", "e1"]);
    expect(answerOf(state)).toMatchObject({ text: "Ho", made: "edited", state: "finished" });
    expect(state.drafts).toEqual({});
  });

  it("can be gone on with if they need not end where they do", () => {
    const half = [sent(), received({ text: "Half" })];
    expect(answers.canGoOn(answerOf(done))).toBe(false);
    expect(answers.canGoOn(answerOf(after(...half)))).toBe(false);
    expect(answers.canGoOn(answerOf(after(sent(), stopped)))).toBe(false);
    for (const end of [stopped, ended({ outcome: "cut_off" }), ended({ finishReason: "length" })]) {
      expect(answers.canGoOn(answerOf(after(...half, end)))).toBe(true);
    }
    expect(answers.canGoOn(answers.edited(answerOf(done), { id: "e1", text: "Ho", now: 1 }))).toBe(true);
  });
});

describe("an address", () => {
  const state = after(sent(), ended({}));
  const open = (/** @type {string | null} */ id, /** @type {string} */ messageId = "") =>
    reducer(state, { type: "chatOpened", id, ...(messageId && { messageId }) });

  it("leads to its conversation, to a new one, or nowhere, and says so", () => {
    expect(open("c1")).toMatchObject({ currentId: "c1", astray: false });
    expect(open(null)).toMatchObject({ currentId: null, astray: false });
    expect(open("gone")).toMatchObject({ currentId: null, astray: true });
    expect(reducer(open("gone"), sent(1, "a9", "c9"))).toMatchObject({ astray: false });
  });

  it("leads to a message, on whichever version it is, also of a conversation that is read later", () => {
    const forked = reducer(reducer(state, askedAgain("a2")), ended({}, 9000, "a2"));
    const found = /** @type {const} */ ({ type: "chatOpened", id: "c1", messageId: "a1" });
    expect(shown(reducer(forked, found))).toEqual(["u1", "a1"]);
    const [whole] = forked.conversations;
    const messages = whole?.messages ?? [];
    const shut = initialState([{ .../** @type {any} */ (whole), messages: [], shut: true }]);
    const read = reducer(reducer(shut, found), { type: "chatRead", id: "c1", messages });
    expect(shown(read)).toEqual(["u1", "a1"]);
  });
});

describe("conversations", () => {
  it("begin with their first prompt, and are called after it", () => {
    const state = after(sent());
    expect(state.conversations).toMatchObject([{ id: "c1", title: "Hello" }]);
    expect(titleOf("x".repeat(100))).toHaveLength(60);
  });

  it("keep the identity of every message but the one that changes", () => {
    const before = after(sent(), received({ text: "a" }));
    const next = reducer(before, received({ text: "b" }));
    const [prompt] = currentConversation(before)?.messages ?? [];
    expect(currentConversation(next)?.messages[0]).toBe(prompt);
    expect(answerOf(next)).not.toBe(answerOf(before));
  });

  it("go on while another one is open", () => {
    const state = after(sent(), { type: "chatOpened", id: null }, received({ text: "Hi" }));
    expect(state.currentId).toBeNull();
    expect(state.conversations[0]?.messages.at(-1)).toMatchObject({ text: "Hi" });
  });

  it("can be deleted, and each brought back, for a month", () => {
    const gone = (/** @type {string} */ id, now = 2000) =>
      /** @type {const} */ ({ type: "chatDeleted", id, now });
    const state = after(sent(), sent(2, "a2", "c2"), sent(3, "a3", "c3"), gone("c3"), gone("c1", 3000));
    expect(state).toMatchObject({ currentId: null, deletedId: "c1" });
    expect(shelves(state.conversations).deleted.map(({ id }) => id)).toEqual(["c1", "c3"]);
    const back = reducer(state, { type: "chatRestored", id: "c3", now: 4000 });
    expect(back).toMatchObject({ currentId: "c3", deletedId: null });
    expect(shelves(back.conversations).listed.map(({ id }) => id)).toEqual(["c3", "c2"]);
    const month = 30 * 24 * 3600 * 1000;
    expect(overdue(state.conversations, 2000 + month)).toEqual([]);
    expect(overdue(state.conversations, 2001 + month)).toMatchObject([{ id: "c3" }]);
    const purged = reducer(state, { type: "chatsPurged", ids: ["c1", "c3"] });
    expect(purged.conversations.map(({ id }) => id)).toEqual(["c2"]);
  });

  it("come back when something is asked in them", () => {
    const state = after(sent(), ended({}), { type: "chatDeleted", id: "c1", now: 2000 });
    const back = reducer(state, asked("More", "a1"));
    expect(shelves(back.conversations).listed).toMatchObject([{ id: "c1", shelvedAt: 6000 }]);
  });

  it("are as many as there are", () => {
    const many = Array.from({ length: 200 }, (_, n) => sent(n, `a${n}`, `c${n}`));
    expect(after(...many).conversations).toHaveLength(200);
  });

  it("can be named and pinned, and keep their name", () => {
    const state = after(
      sent(),
      ended({}),
      { type: "chatNamed", id: "c1", title: "  My chat ", now: 2000 },
      { type: "chatNamed", id: "c1", title: "   ", now: 2001 },
      { type: "chatPinned", id: "c1", pinned: true, now: 2002 },
      asked("Another first prompt", null),
    );
    expect(shelves(state.conversations).listed).toMatchObject([{ pinned: true, title: "My chat", shelvedAt: 2002 }]);
  });

  it("take a prompt back into the box, to be changed", () => {
    const state = after(sent(), stopped, { type: "editBegun", messageId: "u1" });
    expect(state.drafts.c1).toEqual({ text: "", editedId: "u1", edits: { u1: "Hello\nthere" } });
    expect(reducer(state, { type: "editLeft" }).drafts).toEqual({});
  });
});

describe("the settings of a chat", () => {
  /** @type {(temperature: number, now?: number) => Action} */
  const chosen = (temperature, now = 1) => ({ type: "settingsChosen", settings: { temperature }, now });
  const opened = (/** @type {string | null} */ id) => ({ type: /** @type {const} */ ("chatOpened"), id });

  it("are chosen before there is one, for that one alone", () => {
    const state = after(chosen(1), sent(), opened(null));
    expect(state.conversations[0]?.settings).toEqual({ temperature: 1 });
    expect(currentSettings(state)).toEqual({});
  });

  it("stay with it, and are those of the chat in view", () => {
    const first = after(sent(), chosen(1), opened(null), asked("Hi", null, { conversationId: "c2" }));
    const both = reducer(first, chosen(2));
    expect(currentSettings(both)).toEqual({ temperature: 2 });
    expect(currentSettings(reducer(both, opened("c1")))).toEqual({ temperature: 1 });
    expect(reducer(both, asked("Then?", "a2", { conversationId: "c2" })).conversations[0]?.settings).toEqual({
      temperature: 2,
    });
  });
});

describe("asPayloadMessages", () => {
  it("sends roles and texts, leaving out thinking and answers without text", () => {
    const state = after(sent(), received({ reasoning: "Hm", text: "Half" }), stopped);
    const failed = after(sent(), ended({ outcome: "failed" }));
    const prompt = { role: "user", content: "Hello\nthere" };
    const messagesOf = (/** @type {typeof state} */ one) => pathOf(currentConversation(one));
    expect(asPayloadMessages(messagesOf(state))).toEqual([
      prompt,
      { role: "assistant", content: "Half" },
    ]);
    expect(asPayloadMessages(messagesOf(failed))).toEqual([prompt]);
  });

  it("has no two prompts in a row: what is shown without an answer is told with the next", () => {
    const state = after(sent(), stopped, asked("And then?", "a1"));
    const path = pathOf(currentConversation(state));
    expect(asPayloadMessages(path)).toEqual([{ role: "user", content: "Hello\nthere\n\nAnd then?" }]);
    expect(path[0]?.text).toBe("Hello\nthere");
  });
});
