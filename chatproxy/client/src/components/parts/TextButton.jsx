/** @param {{name: string, onAct: () => void}} props */
export function TextButton({ name, onAct }) {
  return (
    <button type="button" className="text-button" onClick={onAct}>
      {name}
    </button>
  );
}
