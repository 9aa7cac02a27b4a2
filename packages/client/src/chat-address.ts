/** The addresses of an answer in the AI SDK's protocol, by where it was asked for. */

/** Where the chats are: the path, and the query with its question mark. */
export interface Place {
  path: string;
  query: string;
}

interface Answer extends Place {
  chatId: string;
  sessionId: string | null;
}

/**
 * Where the chats are, by the address that a question, or a resume, was sent to.
 * @param api - where they are if that address does not tell
 */
export function placeOf(
  url: Parameters<typeof fetch>[0],
  method: string | undefined,
  api: string,
): Place {
  const { path, query } = split(url instanceof Request ? url.url : String(url));
  const found = method === "POST" ? path : path.match(/^(.*)\/[^/]+\/stream$/)?.[1];
  const place = found === undefined ? split(api) : { path: found, query };
  return { ...place, path: place.path.replace(/\/+$/, "") };
}

export function addressOfStream({ chatId, sessionId, path, query }: Answer): string {
  return `${path}/${encodeURIComponent(sessionId ?? chatId)}/stream${query}`;
}

export function addressOfStop({ chatId, sessionId, path, query }: Answer): string {
  return sessionId === null
    ? `${path}/${encodeURIComponent(chatId)}/stop${query}`
    : `${path}/cancel/${encodeURIComponent(sessionId)}${query}`;
}

/** An address without its fragment. */
function split(address: string): Place {
  const [, path = "", query = ""] = /^([^?#]*)(\?[^#]*)?/.exec(address) ?? [];
  return { path, query };
}
