/** A keyboard covers more pixels than this, and the browser's own bars fewer. */
const LEAST = 100;

/**
 * Keeps the page above a keyboard on the screen. If the browser knows `interactive-widget`, the
 * page gets smaller by itself. Safari lays the keyboard over it, moves it up, and tells the visual
 * viewport only. `--covered` is how much of the page that is.
 */
export function stayAboveKeyboard() {
  const viewport = window.visualViewport;
  viewport?.addEventListener("resize", () => {
    // With two fingers a page gets larger than the viewport too, and is not covered.
    const covered = innerHeight - viewport.height * viewport.scale;
    const isCovered = covered > LEAST;
    document.documentElement.style.setProperty("--covered", isCovered ? `${covered}px` : "0px");
    if (isCovered) {
      scrollTo(0, 0);
    }
  });
}
