import { Icon } from "./Icon.jsx";

/**
 * A button that shows an icon alone.
 * @param {{icon: string, label: string} & import("react").ComponentProps<"button">} props `label` is its
 *   accessible name; whatever else a button takes is passed on
 */
export function IconButton({ icon, label, className = "", ...button }) {
  return (
    <button
      type="button"
      className={`icon-button ${className}`.trimEnd()}
      aria-label={label}
      {...button}
    >
      <Icon name={icon} />
    </button>
  );
}
