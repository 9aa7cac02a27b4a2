import { ChatLink } from "./ChatLink.jsx";

const LABEL = "Search chats";
const NOTHING = "Nothing found.";
const SEARCHING = "Searching…";
const COUNT = (/** @type {number} */ count) => (count === 1 ? "1 hit" : `${count} hits`);

/**
 * @param {object} props
 * @param {string} props.query
 * @param {(query: string) => void} props.onQuery
 */
export function SearchBox({ query, onQuery }) {
  return (
    <input
      type="search"
      className="list-search"
      aria-label={LABEL}
      placeholder={LABEL}
      value={query}
      onChange={(event) => onQuery(event.target.value)}
      onKeyDown={(event) => {
        if (event.key === "Escape" && query !== "") {
          event.preventDefault();
          onQuery("");
        }
      }}
    />
  );
}

/**
 * @param {object} props
 * @param {import("../state/use-search.js").Found} props.found
 * @param {(id: string, messageId?: string) => void} props.onOpen
 */
export function SearchHits({ found: { hits, over }, onOpen }) {
  const none = over ? NOTHING : SEARCHING;
  return (
    <div className="list-items">
      <p className="small-print list-count" role="status">
        {hits.length > 0 ? COUNT(hits.length) : none}
      </p>
      <ul>
        {hits.map(({ id, title, messageId, excerpt }) => (
          <li key={`${id} ${messageId}`} className="list-item">
            <ChatLink id={id} messageId={messageId} className="list-hit" onOpen={onOpen}>
              <span className="list-title">{title}</span>
              {excerpt && (
                <span className="list-excerpt">
                  {excerpt[0]}
                  <mark>{excerpt[1]}</mark>
                  {excerpt[2]}
                </span>
              )}
            </ChatLink>
          </li>
        ))}
      </ul>
    </div>
  );
}
