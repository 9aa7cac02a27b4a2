import { describe, expect, it } from "vitest";

import { bytesOf, contentOf, soundAttachments } from "../src/lib/attachments.js";
import { decode, readFile } from "../src/lib/read-file.js";
import { sent } from "../src/state/chats/answer.js";
import { payloadOf, problemOf } from "../src/state/chats/payload.js";

/** @typedef {import("../src/lib/attachments.js").Attachment} Attachment */

/** @type {Attachment} */
const NOTES = { id: "1", kind: "text", name: "notes.txt", content: "a\nb", size: 5 };
/** @type {Attachment} */
const PHOTO = { id: "2", kind: "image", name: "a.jpg", content: "data:image/jpeg;base64,AA", size: 25 };
const LIMITS = { bytes: 1000, images: false };
const UNENDED = new AbortController().signal;

describe("the content of a message with files", () => {
  it("has a text file as DeepSeek wants it, before the prompt", () => {
    expect(contentOf("What is it?", [NOTES], true)).toBe(
      "[file name]: notes.txt\n[file content begin]\na\nb\n[file content end]\nWhat is it?",
    );
  });

  it("has images as parts, for a model that takes them", () => {
    const image = { type: "image_url", image_url: { url: PHOTO.content } };
    expect(contentOf("Look", [PHOTO], true)).toEqual([image, { type: "text", text: "Look" }]);
    expect(contentOf("", [PHOTO], true)).toEqual([image]);
  });

  it("tells any other model that there was an image", () => {
    expect(contentOf("Look", [PHOTO], false)).toBe("[image: a.jpg]\nLook");
  });
});

describe("a file that is read", () => {
  it("becomes text, with its name on one line", async () => {
    const file = new File(["Grüße\t你好\r\n"], "a\nb.md", { type: "text/markdown" });
    expect(await readFile(file, LIMITS, UNENDED)).toMatchObject({
      kind: "text",
      name: "a b.md",
      content: "Grüße\t你好\r\n",
      size: bytesOf("Grüße\t你好\r\n"),
    });
  });

  it.each([
    ["UTF-8 with a mark", [0xef, 0xbb, 0xbf, 0xe4, 0xbd, 0xa0], "你"],
    ["UTF-16, little end first", [0xff, 0xfe, 0x60, 0x4f], "你"],
    ["UTF-16, big end first", [0xfe, 0xff, 0x4f, 0x60], "你"],
    ["Chinese, as Windows writes it", [0xc4, 0xe3, 0xba, 0xc3, 0x2c, 0x20, 0xca, 0xc0], "你好, 世"],
    ["Western, as Windows writes it", [0xfc, 0x62, 0x65, 0x72, 0x20, 0xe9, 0x74, 0xe9], "über été"],
  ])("is decoded: %s", (_name, bytes, text) => {
    expect(decode(new Uint8Array(bytes).buffer)).toBe(text);
  });

  it.each([
    ["no text", new File([new Uint8Array([0x50, 0x4b, 3, 4, 0, 0])], "a.docx"), "fileNoText"],
    ["larger than there is room", new File(["x".repeat(1001)], "a.txt"), "fileTooLarge"],
    ["larger as JSON", new File(["\n".repeat(600)], "a.txt"), "fileTooLarge"],
    ["an image, and the model takes none", new File(["x"], "a.png", { type: "image/png" }), "fileNoImages"],
  ])("is refused if it is %s", async (_name, file, sentence) => {
    await expect(readFile(file, LIMITS, UNENDED)).rejects.toMatchObject({ sentence });
  });

  it("is not read at all if it can't fit", async () => {
    const file = new File(["x".repeat(3000)], "a.txt");
    Object.defineProperty(file, "arrayBuffer", { value: () => expect.unreachable() });
    await expect(readFile(file, LIMITS, UNENDED)).rejects.toMatchObject({ sentence: "fileTooLarge" });
  });
});

describe("files from elsewhere", () => {
  it("are taken only if they are what they should be", () => {
    const foreign = { ...PHOTO, content: "https://example.com/a.png" };
    expect(soundAttachments([NOTES, foreign, null, 7, { ...NOTES, kind: "x" }, PHOTO])).toEqual([
      NOTES,
      PHOTO,
    ]);
    expect([undefined, "x", {}].map(soundAttachments)).toEqual([[], [], []]);
  });
});

describe("a question", () => {
  /** @type {import("../src/state/chats/payload.js").How} */
  const how = {
    ...{ model: "m", thinking: true, settings: {}, defaults: {} },
    ...{ takesImages: false, maxBytes: 400, prefix: false },
  };
  /** @type {import("../src/state/chats/model.js").Message} */
  const prompt = { role: "user", id: "u1", parentId: null, at: 1, text: "Hello" };

  it("gives DeepSeek the answer that it is to go on with, and its thinking if it is to think", () => {
    const answer = sent("a1", "m", 1, { parentId: "u1", text: "Half", reasoning: "Hm" });
    const prefix = { role: "assistant", content: "Half", prefix: true };
    /** @param {import("../src/state/chats/payload.js").How} way */
    const last = (way) => payloadOf([prompt, answer], way).messages.at(-1);
    expect(last(how)).toEqual({ ...prefix, reasoning_content: "Hm" });
    expect(last({ ...how, thinking: false })).toEqual(prefix);
  });

  it("names the model and the settings, and begins with the system prompt", () => {
    const settings = { system: "Be brief.", temperature: 0 };
    expect(payloadOf([prompt], { ...how, settings })).toEqual({
      model: "m",
      messages: [
        { role: "system", content: "Be brief." },
        { role: "user", content: "Hello" },
      ],
      thinking: { type: "enabled" },
      temperature: 0,
    });
    expect(payloadOf([prompt], { ...how, model: "", simulate: 1 })).toEqual({
      messages: [{ role: "user", content: "Hello" }],
      thinking: { type: "enabled" },
      simulate: 1,
    });
  });

  it("is not sent if it is larger than the server takes, or has images for a model that takes none", () => {
    expect(problemOf([prompt], how)).toBeNull();
    const large = { ...prompt, text: "你".repeat(200) };
    expect(problemOf([large], how)).toMatchObject({ sentence: "questionTooLarge" });
    const images = { ...prompt, attachments: [PHOTO] };
    expect(problemOf([images], how)).toMatchObject({ sentence: "modelTakesNoImages" });
    expect(problemOf([images, { ...prompt, id: "u2" }], how)).toBeNull();
    expect(problemOf([images], { ...how, takesImages: true })).toBeNull();
  });
});
