/** Images for a model: no larger than it looks at, and than a request can take. */

import { FileRefusal } from "./file-refusal.js";

/** Pixels of the longer side; models make larger ones smaller themselves. */
const LONGEST_SIDE = 1568;
/**
 * What is sent as it is if it is small: drawings and screens. A photograph is always written anew, so
 * that it does not tell where and when it was taken.
 */
const KEPT = /^image\/(?:png|webp|gif)$/;
const SMALL = 300_000;
const QUALITIES = [0.85, 0.6, 0.4];
/** Bytes of a file for each character of its `data:` address. */
const PER_CHARACTER = 0.74;

/**
 * @param {File} file
 * @param {number} bytes what its address may take
 * @returns {Promise<string>} a `data:` address
 * @throws {FileRefusal}
 */
export async function imageAsData(file, bytes) {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new FileRefusal("fileDamaged");
  });
  try {
    const shrink = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
    const small = shrink === 1 && file.size <= Math.min(SMALL, bytes * PER_CHARACTER);
    if (small && KEPT.test(file.type)) {
      return await dataAddress(file);
    }
    return await dataAddress(await smaller(bitmap, shrink, bytes * PER_CHARACTER));
  } finally {
    bitmap.close();
  }
}

/**
 * @param {ImageBitmap} bitmap
 * @param {number} shrink
 * @param {number} bytes
 */
async function smaller(bitmap, shrink, bytes) {
  const width = Math.max(1, Math.round(bitmap.width * shrink));
  const height = Math.max(1, Math.round(bitmap.height * shrink));
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  if (context) {
    // JPEG knows no transparency.
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0, width, height);
  }
  let made = new Blob();
  for (const quality of QUALITIES) {
    made = await canvas.convertToBlob({ type: "image/jpeg", quality });
    if (made.size <= bytes) {
      break;
    }
  }
  return made;
}

/**
 * @param {Blob} blob
 * @returns {Promise<string>}
 */
function dataAddress(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
