/**
 * An answer runs that this browser did not ask for.
 * @param {{onStop: () => void}} props
 */
export function Elsewhere({ onStop }) {
  return (
    <p className="elsewhere" data-elsewhere="">
      <span>You have an answer running elsewhere.</span>
      <button type="button" className="text-button" onClick={onStop}>
        Stop it
      </button>
    </p>
  );
}
