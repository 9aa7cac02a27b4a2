/**
 * Files that go with a prompt: as text within it, or as images beside it. Pure.
 *
 * @typedef {object} Attachment
 * @property {string} id
 * @property {"text" | "image"} kind
 * @property {string} name that of the file
 * @property {string} content its text; of an image, all of it as a `data:` address
 * @property {number} size bytes of the content
 */

/**
 * DeepSeek's own form for a file in a prompt
 * (https://github.com/deepseek-ai/DeepSeek-R1#official-prompts).
 * @param {Attachment} attachment
 */
function asText({ name, content }) {
  return `[file name]: ${name}\n[file content begin]\n${content}\n[file content end]\n`;
}

/**
 * The content of a user's message as the API takes it: text, or parts if there are images.
 * @param {string} text
 * @param {Attachment[]} attachments
 * @param {boolean} takesImages whether the model does; if not, it is told that there was one
 * @returns {string | Record<string, unknown>[]}
 */
export function contentOf(text, attachments, takesImages) {
  const images = attachments.filter(({ kind }) => kind === "image");
  const asWords = attachments.map((one) => {
    if (one.kind === "text") {
      return asText(one);
    }
    return takesImages ? "" : `[image: ${one.name}]\n`;
  });
  const whole = asWords.join("") + text;
  if (!takesImages || images.length === 0) {
    return whole;
  }
  const parts = images.map(({ content }) => ({ type: "image_url", image_url: { url: content } }));
  return whole ? [...parts, { type: "text", text: whole }] : parts;
}

/**
 * What something takes in a request, in bytes.
 * @param {unknown} value
 */
export function bytesOf(value) {
  return new TextEncoder().encode(JSON.stringify(value)).length;
}

/**
 * What of `attachments` can be used: they may come from a file, or from another version of the page.
 * @param {any} attachments
 * @returns {Attachment[]}
 */
export function soundAttachments(attachments) {
  return Array.isArray(attachments) ? attachments.filter(isSound) : [];
}

/** @param {any} attachment */
function isSound(attachment) {
  const { id, kind, name, content, size } = attachment ?? {};
  const texts = [id, name, content].every((value) => typeof value === "string");
  const image = kind === "image" && texts && content.startsWith("data:image/");
  return texts && Number.isFinite(size) && (kind === "text" || image);
}
