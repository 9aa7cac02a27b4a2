/** What the front ends share: the chat that the page's address names, and what asks for it. */

import { ChatProxyTransport } from "@chatproxy/client/ai-sdk";
import { useState } from "react";

export const query = new URLSearchParams(location.search);
export const simulate = JSON.parse(query.get("simulate") ?? "{}");
export const chatId = query.get("chat") ?? "";

let showStop: (stop: string) => void = () => undefined;
export const transport = new ChatProxyTransport({
  body: { simulate },
  reconnectSeconds: 30,
  onStop: (stop) => showStop(stop.state),
});

/** What the transport has told of a Stop. */
export function useStopState(): string {
  const [stopState, setStopState] = useState("");
  showStop = setStopState;
  return stopState;
}
