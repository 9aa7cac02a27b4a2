import { useEffect, useId, useRef } from "react";

import { useLanguage } from "../../i18n/current.js";
import { IconButton } from "./IconButton.jsx";

/**
 * A part of the page that takes the keyboard until it is closed. Drawn while it is open. The browser
 * gives the focus back to where it was, so it must be closed as the browser does: by a form of the
 * method `dialog`, or by Escape.
 * @param {object} props
 * @param {string} props.title
 * @param {() => void} props.onClose after it has closed
 * @param {import("react").ReactNode} props.children
 */
export function Dialog({ title, onClose, children }) {
  const { say } = useLanguage();
  const id = useId();
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));

  useEffect(() => {
    if (!dialog.current?.open) {
      dialog.current?.showModal();
    }
  }, []);

  return (
    <dialog ref={dialog} className="dialog" aria-labelledby={id} onClose={onClose}>
      <form method="dialog" className="dialog-head">
        <h2 id={id}>{title}</h2>
        <IconButton type="submit" icon="close" label={say("close")} />
      </form>
      {children}
    </dialog>
  );
}
