/** A front end for test_front_ends.py, under StrictMode: of useChat, of useAnswer, or of assistant-ui. */

import { useChat } from "@ai-sdk/react";
import {
  AssistantRuntimeProvider,
  type AssistantRuntime,
  ComposerPrimitive,
  MessagePrimitive,
  ThreadPrimitive,
} from "@assistant-ui/react";
import { useAISDKRuntime, useChatRuntime } from "@assistant-ui/react-ai-sdk";
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

/** As in packages/client/README.md. */
function Assistant() {
  return <Thread runtime={useChatRuntime({ transport })} />;
}

function ResumingAssistant() {
  const chat = useChat({ id: chatId, transport, resume: true });
  return <Thread runtime={useAISDKRuntime(chat)} />;
}

function Thread({ runtime }: { runtime: AssistantRuntime }) {
  const [stopState, setStopState] = useState("");
  showStop = setStopState;
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <ThreadPrimitive.Root>
        <ThreadPrimitive.Messages
          components={{ UserMessage: () => null, AssistantMessage: () => <MessagePrimitive.Parts /> }}
        />
        <ThreadPrimitive.If running>
          <output>running</output>
        </ThreadPrimitive.If>
        <ThreadPrimitive.If running={false}>
          <output>ready</output>
        </ThreadPrimitive.If>
        <small>{stopState}</small>
        <ComposerPrimitive.Root>
          <ComposerPrimitive.Input />
          <ComposerPrimitive.Send>Send</ComposerPrimitive.Send>
          <ComposerPrimitive.Cancel>Stop</ComposerPrimitive.Cancel>
        </ComposerPrimitive.Root>
      </ThreadPrimitive.Root>
    </AssistantRuntimeProvider>
  );
}

const FRONT_ENDS: Record<string, () => ReactNode> = {
  useChat: Chat,
  useAnswer: Answer,
  "assistant-ui": Assistant,
  "assistant-ui-resuming": ResumingAssistant,
};
const [FrontEnd = Chat] = Object.keys(FRONT_ENDS)
  .filter((kind) => query.has(kind))
  .map((kind) => FRONT_ENDS[kind]);

const root = document.body.appendChild(document.createElement("div"));
createRoot(root).render(
  <StrictMode>
    <FrontEnd />
  </StrictMode>,
);
