/**
 * Let the browser save a file.
 * @param {string} name
 * @param {string} type such as `application/json`
 * @param {string[]} parts
 */
export function download(name, type, parts) {
  const address = URL.createObjectURL(new Blob(parts, { type: `${type};charset=utf-8` }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
