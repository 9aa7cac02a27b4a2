import { readdirSync, readFileSync } from "node:fs";

import { ESLint } from "eslint";
import { describe, expect, it } from "vitest";

import { LANGUAGES, preferredLanguage } from "../src/i18n/current.js";
import { en } from "../src/i18n/en.js";
import { createLanguage } from "../src/i18n/language.js";
import { zhCN } from "../src/i18n/zh-CN.js";

const ENGLISH = createLanguage("en", en);
const CHINESE = createLanguage("zh-CN", zhCN);
const TEXTS = { en, "zh-CN": zhCN };

/** @param {import("../src/i18n/language.js").Sentence} sentence */
function textsOf(sentence) {
  return typeof sentence === "string" ? [sentence] : Object.values(sentence);
}

/** @param {import("../src/i18n/language.js").Sentence} sentence */
function valuesOf(sentence) {
  const all = textsOf(sentence).flatMap((text) => text.match(/\{\w+\}/g) ?? []);
  return [...new Set(all)].sort();
}

describe("the languages", () => {
  it("are those of the folder", async () => {
    const files = readdirSync(new URL("../src/i18n", import.meta.url));
    expect([...LANGUAGES.keys()]).toEqual(Object.keys(TEXTS));
    for (const [tag, { load }] of LANGUAGES) {
      expect(files).toContain(`${tag}.js`);
      expect(await load()).toBe(Object.entries(TEXTS).find(([same]) => same === tag)?.[1]);
    }
  });

  it("have the same names, in the same order, with the same values", () => {
    for (const sentences of Object.values(TEXTS)) {
      expect(Object.keys(sentences)).toEqual(Object.keys(en));
      for (const [name, sentence] of Object.entries(sentences)) {
        const same = en[/** @type {keyof typeof en} */ (name)];
        expect({ name, values: valuesOf(sentence) }).toEqual({ name, values: valuesOf(same) });
      }
    }
  });

  it("have one text for each plural category, and no empty one", () => {
    for (const [tag, sentences] of Object.entries(TEXTS)) {
      const { pluralCategories } = new Intl.PluralRules(tag).resolvedOptions();
      for (const sentence of Object.values(sentences)) {
        expect(textsOf(sentence).every((text) => text.trim() === text && text !== "")).toBe(true);
        if (typeof sentence !== "string") {
          expect(Object.keys(sentence).sort()).toEqual([...pluralCategories].sort());
        }
      }
    }
  });

  it("have no name that nobody says", () => {
    const source = sourceOf(new URL("../src/", import.meta.url));
    const unsaid = Object.keys(en).filter((name) => {
      const [family] = name.split(".");
      return !source.includes(`"${name}"`) && !source.includes(`\`${family}.\${`);
    });
    expect(unsaid).toEqual([]);
  });

  it("keep the fixed words", () => {
    expect([en.message, en.send, en.stopAI, en["stopped.user"]]).toEqual([
      "Message",
      "Send",
      "Stop AI",
      "AI response stopped by user.",
    ]);
  });
});

/**
 * All code but the languages themselves.
 * @param {URL} folder
 * @returns {string}
 */
function sourceOf(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .filter(({ name }) => name !== "en.js" && name !== "zh-CN.js")
    .map((entry) =>
      entry.isDirectory()
        ? sourceOf(new URL(`${entry.name}/`, folder))
        : readFileSync(new URL(entry.name, folder), "utf8"),
    )
    .join("\n");
}

describe("a language", () => {
  it("puts values in their places, and chooses the plural", () => {
    expect(ENGLISH.say("chunksReceived", { count: 1 })).toBe("1 chunk received");
    expect(ENGLISH.say("chunksReceived", { count: 1234 })).toBe("1,234 chunks received");
    expect(CHINESE.say("chunksReceived", { count: 1 })).toBe("已收到 1 个数据块");
  });

  it("takes no value for a place", () => {
    const title = "{title} $& {count}";
    expect(ENGLISH.say("deleteChatNamed", { title })).toBe(`Delete chat: ${title}`);
  });

  it("writes dates and lists as people do, and no date that can't be", () => {
    const noon = new Date(2026, 10, 26, 12, 5).getTime();
    expect(ENGLISH.date(noon)).toMatch(/^Nov 26, 2026, 12:05\sPM$/);
    expect(CHINESE.date(noon)).toBe("2026年11月26日 12:05");
    expect([0, NaN, 1e300].map(ENGLISH.date)).toEqual(["", "", ""]);
    expect(ENGLISH.list(["1 new", "2 known"])).toBe("1 new and 2 known");
    expect(CHINESE.list(["新增 1 个", "2 个已存在"])).toBe("新增 1 个和2 个已存在");
  });

  it("writes durations and sizes as people do", () => {
    expect([0, 12_300, 60_000, 125_000].map(ENGLISH.duration)).toEqual([
      "0 sec",
      "12 sec",
      "1 min 0 sec",
      "2 min 5 sec",
    ]);
    expect(CHINESE.duration(125_000)).toBe("2分钟5秒");
    expect([0, 999, 1500, 320_000, 2.5e6].map(ENGLISH.size)).toEqual([
      "0 bytes",
      "999 bytes",
      "1.5 kB",
      "320 kB",
      "2.5 MB",
    ]);
  });
});

describe("preferredLanguage", () => {
  it.each([
    [["zh-CN", "en"], "zh-CN"],
    [["zh-Hant-TW"], "zh-CN"],
    [["de", "zh", "en"], "zh-CN"],
    [["en-GB", "zh-CN"], "en"],
    [["de", "fr"], "en"],
    [[], "en"],
  ])("of %j is %s", (preferred, tag) => expect(preferredLanguage(preferred)).toBe(tag));
});

describe("ESLint", { timeout: 60_000 }, () => {
  const SPOKEN = [
    "<p>Hello</p>",
    "<p>你好</p>",
    '<p>{"Hello"}</p>',
    '<p>{name || "hello"}</p>',
    '<p>{name ? "hello" : name}</p>',
    "<p>{`hello ${name}`}</p>",
    '<p aria-label="Hello" />',
    '<p title={name ? "hello" : undefined} />',
    "<p title={`hello ${name}`} />",
    '<input placeholder={"hello"} />',
    '<img alt="hello" />',
    'say("The chat was deleted.")',
    "say(`Thinking for ${name}`)",
  ];
  const UNSPOKEN = [
    '<p className="list list-open" title={say("deleteChat")} data-state={name ? "open" : undefined} />',
    '<p>{name === "list" ? <b role="note">{say("undo")}</b> : null} · {name} (1)</p>',
  ];

  it("finds the words that a person reads, and lets through what nobody reads", async () => {
    const eslint = new ESLint({ cwd: new URL("..", import.meta.url).pathname });
    const lines = [...SPOKEN, ...UNSPOKEN].map((code) => `export const Part = ({ name, say }) => ${code};`);
    const numbered = lines.map((line, number) => line.replace("Part", `Part${number}`));
    const filePath = "src/components/Planted.jsx";
    const [result] = await eslint.lintText(`${numbered.join("\n")}\n`, { filePath });
    const found = result?.messages.filter(({ ruleId }) => ruleId === "no-restricted-syntax");
    expect(found?.map(({ line }) => line)).toEqual(SPOKEN.map((_, at) => at + 1));
  });
});
