/** @param {{text: string}} props */
export function Notice({ text }) {
  return text ? (
    <p className="notice" role="note">
      {text}
    </p>
  ) : null;
}
