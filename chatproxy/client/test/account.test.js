import { describe, expect, it } from "vitest";

import { en } from "../src/i18n/en.js";
import { createLanguage } from "../src/i18n/language.js";
import { zhCN } from "../src/i18n/zh-CN.js";
import { accountLine, savedLine } from "../src/lib/account-sentences.js";
import { ended, sent, stopKnown, stopped } from "../src/state/chats/answer.js";
import { asConversation } from "../src/state/chats/record.js";
import { chatOf, lastOf } from "./chats.js";

/** @typedef {import("../src/lib/llm-api.jsx").Account} Account */

const ENGLISH = createLanguage("en", en);
const CHINESE = createLanguage("zh-CN", zhCN);
/** @type {Account} */
const ACCOUNT = {
  usage: { prompt_tokens: 12, completion_tokens: 1163 },
  usageSource: "provider",
  cost: { amount: 0.0002146, currency: "USD" },
};
const RECEIPT = {
  ...{ sessionId: "a", phase: /** @type {const} */ ("streaming"), upstreamClosed: true, stopMs: 2, events: 3 },
};

/** @param {Partial<Account>} more */
const but = (more) => ({ ...ACCOUNT, ...more });

describe("what an answer came to", () => {
  it.each(/** @type {[Account | undefined, string, string][]} */ ([
    [ACCOUNT, "question 12, answer 1,163 tokens, $0.00021", "问题 12、回答 1,163 个 token，US$0.00021"],
    [but({ usageSource: "counted", cost: null }), "question 12, answer 1,163 tokens", "问题 12、回答 1,163 个 token"],
    [
      but({ usageSource: "estimated" }),
      "question about 12, answer about 1,200 tokens, about $0.00021",
      "问题 约 12、回答 约 1,200 个 token，约 US$0.00021",
    ],
    [but({ cost: { amount: 12.5, currency: "CNY" } }), "question 12, answer 1,163 tokens, CN¥12.50", "问题 12、回答 1,163 个 token，¥12.50"],
    [but({ cost: { amount: 0, currency: "USD" } }), "question 12, answer 1,163 tokens, $0.00", "问题 12、回答 1,163 个 token，US$0.00"],
    [
      but({ usage: { prompt_tokens: 4, completion_tokens: 1 }, cost: null }),
      "question 4, answer 1 token",
      "问题 4、回答 1 个 token",
    ],
    [but({ usageSource: "none", usage: null }), "", ""],
    [undefined, "", ""],
  ]))("is said under it: %j", (account, english, chinese) => {
    expect(accountLine(ENGLISH, account)).toBe(english);
    expect(accountLine(CHINESE, account)).toBe(chinese);
  });

  it.each(/** @type {[Account | undefined, string][]} */ ([
    [but({ usageSource: "counted", savedAtMost: 6837 }), "1,163 tokens came, at most 6,837 more were saved"],
    [
      but({ usageSource: "estimated", savedAtMost: 6837, savedLikely: { tokens: 512, from: 1, to: 900 } }),
      "about 1,200 tokens came, at most 6,837 more were saved, probably about 510",
    ],
    [ACCOUNT, "1,163 tokens came"],
    [undefined, ""],
  ]))("says what a Stop has saved: %j", (account, english) => {
    expect(savedLine(ENGLISH, account)).toBe(english);
  });

  it("is learnt at the end of an answer, or from DeepSeek's last chunk, and kept", () => {
    const end = { outcome: /** @type {const} */ ("finished"), events: 3 };
    const answer = sent("a", "m", 1);
    expect(ended(answer, { ...end, account: ACCOUNT }, 2).account).toEqual(ACCOUNT);
    const { usage } = ACCOUNT;
    const told = ended(answer, { ...end, usage: { ...usage } }, 2).account;
    expect(told).toEqual({ usage, usageSource: "provider", cost: null });
    expect(ended(answer, end, 2).account).toBeUndefined();
    const kept = JSON.parse(JSON.stringify(chatOf("c", { account: ACCOUNT })));
    expect(lastOf(asConversation(kept) ?? undefined).account).toEqual(ACCOUNT);
    kept.messages[1].account = { usage: { prompt_tokens: "<b>" }, usageSource: "guessed" };
    expect(lastOf(asConversation(kept) ?? undefined).account).toBeUndefined();
  });

  it("is learnt from the receipt of a Stop", () => {
    const pressed = stopped(sent("a", "m", 1), 2);
    const receipt = { ...RECEIPT, ...ACCOUNT, savedAtMost: 7 };
    expect(stopKnown(pressed, { state: "stopped", receipt }).account).toEqual(but({ savedAtMost: 7 }));
    expect(stopKnown(pressed, { state: "stopped", receipt: RECEIPT }).account).toBeUndefined();
  });
});
