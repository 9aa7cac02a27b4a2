/**
 * What must be known before the first paint: the scheme of colours that was chosen. A script that the
 * browser waits for, and that imports nothing: `vite.config.js` puts it into the page as it is.
 */

(() => {
  const KEY = "chatproxy.theme";

  function kept() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // forbidden, as in some private windows
    }
  }

  /** @param {string | null} theme `light`, `dark`, or anything else for the system's */
  function apply(theme) {
    const chosen = theme === "light" || theme === "dark" ? theme : "";
    document.documentElement.dataset.theme = chosen;
    for (const meta of document.querySelectorAll("meta[data-scheme]")) {
      const { scheme } = /** @type {HTMLMetaElement} */ (meta).dataset;
      const media = chosen === scheme ? "all" : "not all";
      meta.setAttribute("media", chosen ? media : `(prefers-color-scheme: ${scheme})`);
    }
  }

  apply(kept());
  addEventListener("theme", (event) => apply(/** @type {CustomEvent} */ (event).detail));
  addEventListener("storage", ({ key }) => key === KEY && apply(kept()));
})();
