import { useRef } from "react";

import { useLanguage } from "../../i18n/current.js";
import { IconButton } from "../parts/IconButton.jsx";

/**
 * @param {object} props
 * @param {number} props.maxBytes what a question may take
 * @param {(files: FileList) => void} props.onFiles
 */
export function AttachButton({ maxBytes, onFiles }) {
  const { say, size } = useLanguage();
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));

  /** @param {import("react").ChangeEvent<HTMLInputElement>} event */
  function handleChange({ target }) {
    if (target.files) {
      onFiles(target.files);
      target.value = ""; // so that the same file can be chosen again
    }
  }

  return (
    <>
      <IconButton
        icon="clip"
        label={say("attachFiles")}
        title={say("attachFilesHint", { size: size(maxBytes) })}
        onClick={() => input.current?.click()}
      />
      <input ref={input} type="file" multiple hidden onChange={handleChange} />
    </>
  );
}
