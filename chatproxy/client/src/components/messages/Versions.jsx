import { use, useEffect, useRef } from "react";

import { useLanguage } from "../../i18n/current.js";
import { ThreadContext } from "../../state/view/use-thread.js";
import { IconButton } from "../parts/IconButton.jsx";

/**
 * Which version of a message this is, and the way to the others.
 * @param {{messageId: string}} props
 */
export function Versions({ messageId }) {
  const { say } = useLanguage();
  const { versions, target, busy, onVersion } = use(ThreadContext);
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const arrived = target?.messageId === messageId;

  // The message in whose place this one is had the focus.
  useEffect(() => {
    if (arrived && document.activeElement === document.body) {
      box.current?.querySelector("button")?.focus({ preventScroll: true });
    }
  }, [arrived]);

  const found = versions.get(messageId);
  if (!found) {
    return null;
  }
  const { at, ids } = found;
  const [before, after] = busy ? [] : [ids[at - 1], ids[at + 1]];
  return (
    <div
      ref={box}
      className="versions"
      role="group"
      aria-label={say("versionOf", { at: at + 1, count: ids.length })}
    >
      <Step name={say("previousVersion")} icon="left" to={before} onVersion={onVersion} />
      <span aria-hidden="true">
        {at + 1}/{ids.length}
      </span>
      <Step name={say("nextVersion")} icon="right" to={after} onVersion={onVersion} />
    </div>
  );
}

/**
 * @param {object} props
 * @param {string} props.name
 * @param {string} props.icon
 * @param {string | undefined} props.to
 * @param {(messageId: string) => void} props.onVersion
 */
function Step({ name, icon, to, onVersion }) {
  return (
    <IconButton
      icon={icon}
      label={name}
      title={name}
      aria-disabled={to === undefined}
      onClick={() => to !== undefined && onVersion(to)}
    />
  );
}
