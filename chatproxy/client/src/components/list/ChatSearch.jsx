import { useLanguage } from "../../i18n/current.js";
import { ChatLink } from "./ChatLink.jsx";

/**
 * @param {object} props
 * @param {import("react").Ref<HTMLInputElement>} props.ref
 * @param {string} props.query
 * @param {(query: string) => void} props.onQuery
 */
export function SearchBox({ ref, query, onQuery }) {
  const { say } = useLanguage();
  return (
    <input
      ref={ref}
      type="search"
      className="list-search"
      aria-label={say("searchChats")}
      placeholder={say("searchChats")}
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
 * @param {import("../../state/view/use-search.js").Found} props.found
 * @param {(id: string, messageId?: string) => void} props.onOpen
 */
export function SearchHits({ found: { hits, over }, onOpen }) {
  const { say } = useLanguage();
  const none = say(over ? "nothingFound" : "searching");
  return (
    <div className="list-items">
      <p className="small-print list-count" role="status">
        {hits.length > 0 ? say("hits", { count: hits.length }) : none}
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
