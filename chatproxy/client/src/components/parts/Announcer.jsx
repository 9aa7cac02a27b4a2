/**
 * Tells states, and not every token, to those who listen to the page.
 * @param {{text: string}} props
 */
export function Announcer({ text }) {
  return (
    <div role="status" aria-live="polite" className="visually-hidden" data-announcer="">
      {text}
    </div>
  );
}
