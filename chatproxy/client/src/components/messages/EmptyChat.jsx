import { useLanguage } from "../../i18n/current.js";

/** @type {import("../../i18n/language.js").SentenceName[]} */
const SUGGESTIONS = ["suggestion.1", "suggestion.2", "suggestion.3"];

/** @param {{onSuggestion: (text: string) => void}} props */
export function EmptyChat({ onSuggestion }) {
  const { say } = useLanguage();
  return (
    <div className="empty">
      <h2>{say("emptyHeading")}</h2>
      <ul className="suggestions">
        {SUGGESTIONS.map((name) => say(name)).map((text) => (
          <li key={text}>
            <button type="button" className="suggestion" onClick={() => onSuggestion(text)}>
              {text}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
