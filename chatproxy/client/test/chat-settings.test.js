import { describe, expect, it } from "vitest";

import {
  payloadFields,
  readSetting,
  soundSettings,
  systemMessages,
  withSetting,
} from "../src/state/chats/chat-settings.js";

describe("a setting that was typed", () => {
  it.each(
    /** @type {[import("../src/state/chats/chat-settings.js").SettingName, string, unknown][]} */ ([
      ["temperature", " 0,7 ", 0.7],
      ["temperature", "0", 0],
      ["temperature", "2", 2],
      ["temperature", "2.01", undefined],
      ["temperature", "-1", undefined],
      ["temperature", "warm", undefined],
      ["temperature", "NaN", undefined],
      ["max_tokens", "1", 1],
      ["max_tokens", "393216", 393_216],
      ["max_tokens", "393217", undefined],
      ["max_tokens", "0", undefined],
      ["max_tokens", "1.5", undefined],
      ["reasoning_effort", "max", "max"],
      ["reasoning_effort", "none", undefined],
      ["system", " Be brief.", " Be brief."],
      ["system", "  ", null],
      ["temperature", "", null],
    ]),
  )("%s %j is %j", (name, text, value) => expect(readSetting(name, text)).toBe(value));
});

describe("the settings of a chat", () => {
  const defaults = { temperature: 0.5, system: "Be kind." };

  it("keep only what is not the default", () => {
    const warm = withSetting({}, defaults, "temperature", 1);
    expect(warm).toEqual({ temperature: 1 });
    expect(withSetting(warm, defaults, "temperature", 0.5)).toEqual({});
    expect(withSetting({}, defaults, "max_tokens", null)).toEqual({});
  });

  it("can do without a default", () => {
    const own = withSetting({}, defaults, "system", null);
    expect(systemMessages({ ...defaults, ...own })).toEqual([]);
    const fields = payloadFields({ ...defaults, ...withSetting({}, defaults, "temperature", null) }, true);
    expect(fields).toEqual({});
  });

  it("become fields of the question, and the message before all others", () => {
    const all = /** @type {const} */ ({
      system: "Be brief.", temperature: 0, max_tokens: 10, reasoning_effort: "low",
    });
    const { system, ...fields } = all;
    expect(payloadFields(all, true)).toEqual(fields);
    expect(payloadFields(all, false)).toEqual({ temperature: 0, max_tokens: 10 });
    expect(systemMessages(all)).toEqual([{ role: "system", content: system }]);
  });

  it("are taken from outside only as far as they can be used", () => {
    const foreign = { temperature: 9, max_tokens: 5, system: null, top_p: 1, reasoning_effort: {} };
    expect(soundSettings(foreign)).toEqual({ max_tokens: 5, system: null });
    expect([undefined, null, "x", []].map(soundSettings)).toEqual([{}, {}, {}, {}]);
  });
});
