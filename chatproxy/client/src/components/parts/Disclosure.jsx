import { useState } from "react";

import { Icon } from "./Icon.jsx";

/**
 * Something that is folded or not: as it stands by itself, unless the reader has chosen. What is in it
 * is drawn only while it is unfolded.
 * @param {object} props
 * @param {string} props.className
 * @param {boolean} [props.unfolded] whether it is open by itself
 * @param {import("react").ReactNode} props.summary
 * @param {() => import("react").ReactNode} props.children
 */
export function Disclosure({ className, unfolded = false, summary, children }) {
  const [chosen, setChosen] = useState(/** @type {boolean | null} */ (null));
  const open = chosen ?? unfolded;

  /** @param {import("react").ToggleEvent<HTMLDetailsElement>} event */
  function handleToggle({ currentTarget }) {
    // The page itself has set what is as it should be.
    if (currentTarget.open !== open) {
      setChosen(currentTarget.open);
    }
  }

  return (
    <details className={`disclosure ${className}`} open={open} onToggle={handleToggle}>
      <summary>
        <Icon name="down" />
        <span>{summary}</span>
      </summary>
      {open && <div className="disclosed">{children()}</div>}
    </details>
  );
}
