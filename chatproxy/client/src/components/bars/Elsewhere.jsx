import { useLanguage } from "../../i18n/current.js";

/**
 * An answer runs that this browser did not ask for.
 * @param {{onStop: () => void}} props
 */
export function Elsewhere({ onStop }) {
  const { say } = useLanguage();
  return (
    <p className="elsewhere" data-elsewhere="">
      <span>{say("elsewhere")}</span>
      <button type="button" className="text-button" onClick={onStop}>
        {say("stopIt")}
      </button>
    </p>
  );
}
