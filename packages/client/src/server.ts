/** Where the server is, and how it is asked. */

export interface ServerOptions {
  /** Where the server's routes begin; `/api/chat` if left out. */
  baseUrl?: string | undefined;
  /** More headers, such as a bearer token: the same for a question, for its reading and its Stop. */
  headers?: Record<string, string> | undefined;
  /** Another `fetch`. */
  fetch?: typeof globalThis.fetch | undefined;
}

/** Statuses of refusals, beside 5xx, after which another try makes sense. */
const TEMPORARY = new Set([408, 425, 429]);

export function isTemporary(status: number): boolean {
  return status >= 500 || TEMPORARY.has(status);
}

/** The address of a route. */
export function addressOf({ baseUrl = "/api/chat" }: ServerOptions, route: string): string {
  return baseUrl + route;
}

/** The origin of the server. */
export function originOf(options: ServerOptions): string {
  const { document, location } = globalThis;
  return new URL(addressOf(options, ""), document?.baseURI ?? location?.href).origin;
}

/** `fetch` as it is now: other libraries may replace the global one. */
export function fetchOf({ fetch = globalThis.fetch }: ServerOptions): typeof globalThis.fetch {
  return fetch;
}
