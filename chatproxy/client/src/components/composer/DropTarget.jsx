import { useLanguage } from "../../i18n/current.js";
import { useFileDrop } from "../../state/writing/use-file-drop.js";

/**
 * Says, while files are above the page, that they can be dropped.
 * @param {{onFiles: (files: FileList) => void}} props
 */
export function DropTarget({ onFiles }) {
  const { say } = useLanguage();
  const above = useFileDrop(onFiles);
  return above ? <p className="drop">{say("dropFiles")}</p> : null;
}
