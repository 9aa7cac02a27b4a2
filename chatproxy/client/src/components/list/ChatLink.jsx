import { addressOf } from "../../state/view/address.js";

/**
 * A link to a chat, and to a message in it, that can be opened in another tab like any other.
 * @param {object} props
 * @param {string} props.id
 * @param {string} [props.messageId]
 * @param {string} props.className
 * @param {boolean} [props.current] whether it is the one in view
 * @param {(id: string, messageId?: string) => void} props.onOpen
 * @param {import("react").ReactNode} props.children
 */
export function ChatLink({ id, messageId, className, current = false, onOpen, children }) {
  /** @param {import("react").MouseEvent} event */
  function handleClick(event) {
    // With a key held, the browser opens it elsewhere.
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      onOpen(id, messageId);
    }
  }
  return (
    <a
      className={className}
      href={addressOf(id)}
      aria-current={current ? "page" : undefined}
      onClick={handleClick}
    >
      {children}
    </a>
  );
}
