/** A front end for test_front_ends.py, under StrictMode: of useChat, of useAnswer, or of assistant-ui. */

import { useChat } from "@ai-sdk/react";
import { useAnswer } from "@chatproxy/client/react";
import { lazy, StrictMode, Suspense, type ComponentType, type ReactNode } from "react";
import { createRoot } from "react-dom/client";

import { chatId, query, simulate, transport, useStopState } from "./chat";

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
      <output>{status}</output>
      <small>{stop}</small>
      <button onClick={onSend}>Send</button>
      <button onClick={onStop}>Stop</button>
      <p>{text}</p>
    </>
  );
}

function Chat() {
  const stopState = useStopState();
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

const FRONT_ENDS: Record<string, ComponentType> = {
  useChat: Chat,
  useAnswer: Answer,
  "assistant-ui": lazy(async () => ({ default: (await import("./assistant-ui")).Assistant })),
  "assistant-ui-resuming": lazy(async () => ({
    default: (await import("./assistant-ui")).ResumingAssistant,
  })),
};
const [FrontEnd = Chat] = Object.keys(FRONT_ENDS)
  .filter((kind) => query.has(kind))
  .map((kind) => FRONT_ENDS[kind]);

const root = document.body.appendChild(document.createElement("div"));
createRoot(root).render(
  <StrictMode>
    <Suspense>
      <FrontEnd />
    </Suspense>
  </StrictMode>,
);
