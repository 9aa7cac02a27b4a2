/** A real HTTP server on a free port, which does what a test says and remembers what it was asked. */

import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Asked {
  method: string;
  url: string;
  headers: IncomingHttpHeaders;
  body: string;
}
export type Answering = (response: ServerResponse, asked: Asked) => unknown;
export type Server = Awaited<ReturnType<typeof serve>>;

export async function serve(answering: Answering) {
  const asked: Asked[] = [];
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
  const { port } = server.address() as AddressInfo;
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

interface Delta {
  content?: string | null;
  reasoning_content?: string | null;
}

export function chunk(id: number, delta: Delta, more: object = {}): string {
  const choices = [{ index: 0, delta, finish_reason: null, ...more }];
  return `id: ${id}\ndata: ${JSON.stringify({ choices })}\n\n`;
}

export function json(
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): Answering {
  return (response) => {
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    response.end(JSON.stringify(body));
  };
}
