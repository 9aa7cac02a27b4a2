/** A real HTTP server on a free port, which does what a test says and remembers what it was asked. */

import { once } from "node:events";
import { createServer } from "node:http";

/**
 * @typedef {{method: string, url: string, headers: import("node:http").IncomingHttpHeaders,
 *   body: string}} Asked
 * @typedef {(response: import("node:http").ServerResponse, asked: Asked) => unknown} Answering
 */

/** @param {Answering} answering */
export async function serve(answering) {
  /** @type {Asked[]} */
  const asked = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request) {
      body += piece;
    }
    const { method = "", url = "", headers } = request;
    const one = { method, url, headers, body };
    asked.push(one);
    await answering(response, one);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    baseUrl: `http://127.0.0.1:${port}/api/chat`,
    asked,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

export const EVENT_STREAM = { "Content-Type": "text/event-stream; charset=utf-8" };

/**
 * @param {number} id
 * @param {{content?: string | null, reasoning_content?: string | null}} delta
 * @param {object} [more]
 */
export function chunk(id, delta, more = {}) {
  const choices = [{ index: 0, delta, finish_reason: null, ...more }];
  return `id: ${id}\ndata: ${JSON.stringify({ choices })}\n\n`;
}

/**
 * @param {number} status
 * @param {unknown} body
 * @param {Record<string, string>} [headers]
 * @returns {Answering}
 */
export function json(status, body, headers = {}) {
  return (response) => {
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    response.end(JSON.stringify(body));
  };
}
