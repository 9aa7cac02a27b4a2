import { useEffect, useState } from "react";

import { useLatest } from "../hooks/use-latest.js";

/**
 * Takes files that are dropped anywhere on the page. Without it the browser would leave the page and
 * open them.
 * @param {(files: FileList) => void} onFiles
 * @returns {boolean} whether files are above the page now
 */
export function useFileDrop(onFiles) {
  const [above, setAbove] = useState(false);
  const latest = useLatest(onFiles);

  useEffect(() => {
    /** @param {DragEvent} event */
    function over(event) {
      if (event.dataTransfer?.types.includes("Files")) {
        event.preventDefault();
        setAbove(true);
      }
    }
    /** @param {DragEvent} event */
    function leave(event) {
      if (event.relatedTarget === null) {
        setAbove(false);
      }
    }
    /** @param {DragEvent} event */
    function drop(event) {
      setAbove(false);
      if (event.dataTransfer?.files.length) {
        event.preventDefault();
        latest.current(event.dataTransfer.files);
      }
    }
    addEventListener("dragover", over);
    addEventListener("dragleave", leave);
    addEventListener("drop", drop);
    return () => {
      removeEventListener("dragover", over);
      removeEventListener("dragleave", leave);
      removeEventListener("drop", drop);
    };
  }, [latest]);

  return above;
}
