import { useEffect, useState } from "react";

import { copyText } from "../lib/clipboard.js";
import { Icon } from "./Icon.jsx";

const SHOWN_MS = 2000;

/**
 * @param {{text: string, label: string}} props
 */
export function CopyButton({ text, label }) {
  const [copied, setCopied] = useState(false);

  useEffect(() => {
    if (!copied) {
      return undefined;
    }
    const timer = setTimeout(() => setCopied(false), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [copied]);

  return (
    <button
      type="button"
      className="icon-button"
      aria-label={copied ? "Copied" : label}
      title={copied ? "Copied" : label}
      onClick={async () => setCopied(await copyText(text))}
    >
      <Icon name={copied ? "done" : "copy"} />
    </button>
  );
}
