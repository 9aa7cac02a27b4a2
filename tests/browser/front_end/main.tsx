/** A front end for test_front_ends.py: a chat of useChat, or an answer of useAnswer, under StrictMode. */

import { useChat } from "@ai-sdk/react";
import { ChatProxyTransport } from "@chatproxy/client/ai-sdk";
import { useAnswer } from "@chatproxy/client/react";
import { StrictMode, useState, type ReactNode } from "react";
import { createRoot } from "react-dom/client";

const query = new URLSearchParams(location.search);
const simulate = JSON.parse(query.get("simulate") ?? "{}");
const chatId = query.get("chat") ?? "";

interface Shown {
  text: string;
  status: string;
  stop: string;
  onSend: () => void;
  onStop: () => void;
}

function Show({ text, status, stop, onSend, onStop }: Shown): ReactNode {
  return (
    <>
      <p>{text}</p>
      <output>{status}</output>
      <small>{stop}</small>
      <button onClick={onSend}>Send</button>
      <button onClick={onStop}>Stop</button>
    </>
  );
}

let showStop: (stop: string) => void = () => undefined;
const transport = new ChatProxyTransport({
  body: { simulate },
  reconnectSeconds: 30,
  onStop: (stop) => showStop(stop.state),
});

function Chat() {
  const [stopState, setStopState] = useState("");
  showStop = setStopState;
  const { messages, sendMessage, status, error, stop } = useChat({
    id: chatId,
    transport,
    resume: true,
  });
  const parts = messages.filter(({ role }) => role === "assistant").flatMap(({ parts }) => parts);
  const text = parts.map((part) => (part.type === "text" ? part.text : "")).join("");
  return (
    <Show
      text={text}
      status={error?.message ?? status}
      stop={stopState}
      onSend={() => void sendMessage({ text: "Hello" })}
      onStop={() => void stop()}
    />
  );
}

function Answer() {
  const answer = useAnswer({ resumeKey: chatId, reconnectSeconds: 30 });
  return (
    <Show
      text={answer.text}
      status={answer.state}
      stop={answer.stopState?.state ?? ""}
      onSend={() => answer.ask({ messages: [{ role: "user", content: "Hello" }], simulate })}
      onStop={answer.stop}
    />
  );
}

const root = document.body.appendChild(document.createElement("div"));
createRoot(root).render(<StrictMode>{query.has("useAnswer") ? <Answer /> : <Chat />}</StrictMode>);
