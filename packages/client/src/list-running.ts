import type { Unchecked } from "./json.js";
import { addressOf, fetchOf, type ServerOptions } from "./server.js";

/**
 * The ids of the owner's answers that run now, wherever they were asked for. None if the server
 * can't tell, because it does not know owners, or can't be reached.
 */
export async function listRunning(options: ServerOptions = {}): Promise<string[]> {
  const { headers = {} } = options;
  try {
    const response = await fetchOf(options)(addressOf(options, "/sessions"), {
      headers,
      cache: "no-store",
    });
    const { sessions = [] } = response.ok ? await response.json() : {};
    return sessions
      .filter(({ outcome }: Unchecked) => outcome === null)
      .map(({ sessionId }: Unchecked) => sessionId);
  } catch {
    return [];
  }
}
