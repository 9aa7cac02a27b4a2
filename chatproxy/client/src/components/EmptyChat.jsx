const SUGGESTIONS = [
  "Explain how DNS finds an address, step by step.",
  "Write a Python function that merges overlapping intervals, with tests.",
  "Compare three ways to store passwords, in a table.",
];

/** @param {{onSuggestion: (text: string) => void}} props */
export function EmptyChat({ onSuggestion }) {
  return (
    <div className="empty">
      <h2>What would you like to know?</h2>
      <ul className="suggestions">
        {SUGGESTIONS.map((text) => (
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
