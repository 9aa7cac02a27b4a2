/**
 * The frame in which a Mermaid diagram is drawn; `markdown/Diagram.jsx` says why it has one, and
 * `diagram.html` is served with a policy of its own.
 */

import mermaid from "mermaid";

import "./styles/diagram.css";

/** A diagram with more than this takes a browser too long. */
const LONGEST = 20_000;
const MOST_EDGES = 300;

window.addEventListener("message", async ({ source: from, data }) => {
  if (from === window.parent) {
    tell(await draw(String(data.source), data.dark === true));
  }
});
tell({ ready: true });

/**
 * @param {string} source
 * @param {boolean} dark
 */
async function draw(source, dark) {
  mermaid.initialize({
    startOnLoad: false,
    securityLevel: "strict",
    suppressErrorRendering: true,
    theme: dark ? "dark" : "default",
    maxTextSize: LONGEST,
    maxEdges: MOST_EDGES,
    fontFamily: "system-ui, sans-serif",
  });
  try {
    const { svg } = await mermaid.render("picture", source);
    const picture = new DOMParser().parseFromString(svg, "text/html").body;
    document.body.replaceChildren(...picture.childNodes);
    return { height: document.documentElement.getBoundingClientRect().height };
  } catch {
    return { failed: true };
  }
}

/** @param {{ready?: boolean, failed?: boolean, height?: number}} message */
function tell(message) {
  window.parent.postMessage(message, "*");
}
