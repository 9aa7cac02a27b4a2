import { useCallback, useEffect, useRef, useState } from "react";

/** Pixels from the end that still count as the end. */
const NEAR = 24;

/**
 * Keeps a scrolling box at its end while its content grows, until the reader scrolls up.
 */
export function useStickToEnd() {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const content = useRef(/** @type {HTMLDivElement | null} */ (null));
  const sticks = useRef(true);
  const [away, setAway] = useState(false);

  const jump = useCallback(() => {
    sticks.current = true;
    setAway(false);
    scrollToEnd(box.current);
  }, []);

  useEffect(() => {
    const scroller = box.current;
    if (!scroller || !content.current) {
      return undefined;
    }
    let before = scroller.scrollTop;
    const listen = () => {
      const gap = gapOf(scroller);
      if (scroller.scrollTop < before) {
        sticks.current = gap <= 1;
      } else if (gap <= NEAR) {
        sticks.current = true;
      }
      before = scroller.scrollTop;
      setAway(!sticks.current);
    };
    const observer = new ResizeObserver(() => {
      if (sticks.current) {
        scrollToEnd(scroller);
      } else {
        setAway(gapOf(scroller) > NEAR);
      }
    });
    // Who unfolds something wants to read that.
    const letGo = (/** @type {Event} */ { target }) => {
      sticks.current = sticks.current && !(target instanceof Element && target.closest("summary"));
    };
    scroller.addEventListener("scroll", listen, { passive: true });
    scroller.addEventListener("click", letGo);
    observer.observe(content.current);
    observer.observe(scroller);
    return () => {
      scroller.removeEventListener("scroll", listen);
      scroller.removeEventListener("click", letGo);
      observer.disconnect();
    };
  }, []);

  return { box, content, away, jump };
}

/** @param {HTMLElement | null} box */
function scrollToEnd(box) {
  if (box) {
    box.scrollTop = box.scrollHeight;
  }
}

/**
 * @param {HTMLElement} box
 * @returns {number} pixels below what is in sight
 */
function gapOf(box) {
  return box.scrollHeight - box.scrollTop - box.clientHeight;
}
