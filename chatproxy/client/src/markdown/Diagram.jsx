import { useEffect, useRef, useState } from "react";

import { useLanguage } from "../i18n/current.js";
import { addressAt } from "../lib/mount.js";

/** In pixels. A frame that asks for more is scrolled. */
const TALLEST = 2000;
const DARK = "(prefers-color-scheme: dark)";

/**
 * A Mermaid diagram. What an answer says is drawn in a frame that is of no origin, and whose policy
 * lets it load nothing but its own script: it can reach neither this page nor the network. The frame says
 * that it is ready, is told the source, and says how tall the picture is.
 * @param {{source: string}} props
 */
export function Diagram({ source }) {
  const { say } = useLanguage();
  /** @type {React.RefObject<HTMLIFrameElement | null>} */
  const frame = useRef(null);
  const [height, setHeight] = useState(160);
  const [failed, setFailed] = useState(false);

  useEffect(() => {
    /** @param {MessageEvent} event */
    function hear({ source: from, data }) {
      const { current } = frame;
      if (!current?.contentWindow || from !== current.contentWindow) {
        return;
      }
      if (data?.ready === true) {
        tell();
      } else if (Number.isFinite(data?.height)) {
        setHeight(Math.min(TALLEST, Math.max(0, Math.ceil(data.height))));
      } else if (data?.failed === true) {
        setFailed(true);
      }
    }
    const scheme = matchMedia(DARK);
    const tell = () => {
      if (frame.current) {
        const dark = isDark(frame.current);
        // It has no origin that could be named.
        frame.current.contentWindow?.postMessage({ source, dark }, "*");
      }
    };
    window.addEventListener("message", hear);
    window.addEventListener("theme", tell);
    scheme.addEventListener("change", tell);
    return () => {
      window.removeEventListener("message", hear);
      window.removeEventListener("theme", tell);
      scheme.removeEventListener("change", tell);
    };
  }, [source]);

  return failed ? (
    <p className="diagram-note" role="status">
      {say("diagramFailed")}
    </p>
  ) : (
    <iframe
      ref={frame}
      className="diagram"
      title={say("diagram")}
      src={addressAt("diagram.html")}
      sandbox="allow-scripts"
      style={{ blockSize: height }}
    />
  );
}

/** @param {Element} element */
function isDark(element) {
  const scheme = getComputedStyle(element).colorScheme;
  return scheme.includes("light")
    ? scheme.includes("dark") && matchMedia(DARK).matches
    : scheme.includes("dark");
}
