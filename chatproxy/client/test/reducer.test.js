import { describe, expect, it } from "vitest";

import { closingSentence, endOfTakenUp } from "../src/state/answer.js";
import {
  asPayloadMessages,
  currentConversation,
  initialState,
  MOST_CONVERSATIONS,
  runningAnswer,
  titleOf,
} from "../src/state/model.js";
import { reducer } from "../src/state/reducer.js";

/**
 * @typedef {import("../src/state/reducer.js").Action} Action
 * @typedef {import("../src/state/model.js").Answer} Answer
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

/** @param {Action[]} actions */
function after(...actions) {
  return actions.reduce(reducer, initialState([]));
}

/**
 * @param {number} now
 * @returns {Action}
 */
function sent(now = 1000, answerId = "a1", conversationId = "c1") {
  const messages = [{ role: /** @type {const} */ ("user"), id: "u1", text: "Hello\nthere" }];
  return { type: "sent", conversationId, answerId, now, model: "deepseek-flash", messages };
}

/**
 * @param {Partial<import("../src/state/answer.js").Progress>} progress
 * @param {number} now
 * @returns {Action}
 */
function received(progress, now = 2000) {
  return {
    type: "received",
    ...WHICH,
    now,
    progress: { text: "", reasoning: "", lastEvent: 0, status: null, ...progress },
  };
}

/**
 * @param {Partial<AnswerEnd>} end
 * @returns {Action}
 */
function ended(end, now = 9000) {
  return { type: "ended", ...WHICH, now, end: { outcome: "finished", events: 3, ...end } };
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

/** @param {import("../src/state/model.js").ChatState} state */
function answerOf(state) {
  return /** @type {Answer} */ (currentConversation(state)?.messages.at(-1));
}

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
    const reasons = ["user", "deadline", "idle", "shutdown", "disconnect", "lost", "replaced"];
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

  it("was stopped by the page that went away, where nobody read it", () => {
    const left = { outcome: /** @type {const} */ ("stopped"), reason: "disconnect", events: 3 };
    const error = { code: "not_found", message: "raw" };
    const gone = { outcome: /** @type {const} */ ("cut_off"), error, events: 3 };
    const reload = { outcome: "stopped", reason: "reload", events: 3 };
    expect(endOfTakenUp(left, false)).toEqual(reload);
    expect(endOfTakenUp(gone, true)).toEqual(reload);
    expect(endOfTakenUp(gone, false)).toBe(gone);
    expect(endOfTakenUp({ ...left, reason: "user" }, true)).toMatchObject({ reason: "user" });
    const unsent = { outcome: "failed", error: { code: "not_sent" } };
    expect(endOfTakenUp(gone, true, "queued")).toMatchObject(unsent);
    expect(endOfTakenUp(left, true, "queued")).toEqual(reload);
  });
});

describe("another tab", () => {
  const mine = after(sent(), received({ text: "Half", lastEvent: 4 }));
  const theirs = after(sent(), received({ text: "Whole", lastEvent: 9 }), ended({}));
  const conversation = /** @type {import("../src/state/model.js").Conversation} */ (
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

  it("can be deleted, and brought back", () => {
    const state = after(sent(), { type: "chatDeleted", id: "c1" });
    expect(state).toMatchObject({ conversations: [], currentId: null });
    const back = reducer(state, { type: "deleteUndone" });
    expect(back).toMatchObject({ conversations: [{ id: "c1" }], currentId: "c1", deleted: null });
  });

  it("are bounded in number", () => {
    const many = Array.from({ length: MOST_CONVERSATIONS + 5 }, (_, n) => sent(n, `a${n}`, `c${n}`));
    const state = after(...many);
    expect(state.conversations).toHaveLength(MOST_CONVERSATIONS);
    expect(state.conversations[0]?.id).toBe(`c${MOST_CONVERSATIONS + 4}`);
  });

  it("take a prompt back into the box, to be changed", () => {
    const state = after(sent(), stopped, { type: "editBegun", messageId: "u1" });
    expect(state).toMatchObject({ draft: "Hello\nthere", editingId: "u1" });
    expect(reducer(state, { type: "editLeft" })).toMatchObject({ draft: "", editingId: null });
    expect(reducer(state, sent(6000, "a2"))).toMatchObject({ editingId: null });
  });
});

describe("asPayloadMessages", () => {
  it("sends roles and texts, leaving out thinking and answers without text", () => {
    const state = after(sent(), received({ reasoning: "Hm", text: "Half" }), stopped);
    const failed = after(sent(), ended({ outcome: "failed" }));
    const prompt = { role: "user", content: "Hello\nthere" };
    const messagesOf = (/** @type {typeof state} */ one) => currentConversation(one)?.messages ?? [];
    expect(asPayloadMessages(messagesOf(state))).toEqual([
      prompt,
      { role: "assistant", content: "Half" },
    ]);
    expect(asPayloadMessages(messagesOf(failed))).toEqual([prompt]);
  });
});
