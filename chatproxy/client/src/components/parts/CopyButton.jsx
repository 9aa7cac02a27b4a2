import { useEffect, useState } from "react";

import { useLanguage } from "../../i18n/current.js";
import { copyText } from "../../lib/clipboard.js";
import { IconButton } from "./IconButton.jsx";

const SHOWN_MS = 2000;

/**
 * @param {{text: string, label: string}} props
 */
export function CopyButton({ text, label }) {
  const { say } = useLanguage();
  const [copied, setCopied] = useState(false);

  useEffect(() => {
    if (!copied) {
      return undefined;
    }
    const timer = setTimeout(() => setCopied(false), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [copied]);

  const name = copied ? say("copied") : label;
  return (
    <IconButton
      icon={copied ? "done" : "copy"}
      label={name}
      title={name}
      onClick={async () => setCopied(await copyText(text))}
    />
  );
}
