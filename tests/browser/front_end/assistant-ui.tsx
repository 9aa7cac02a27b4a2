/** A thread of assistant-ui. */

import { useChat } from "@ai-sdk/react";
import {
  AssistantRuntimeProvider,
  type AssistantRuntime,
  ComposerPrimitive,
  MessagePartPrimitive,
  MessagePrimitive,
  ThreadPrimitive,
} from "@assistant-ui/react";
import { useAISDKRuntime, useChatRuntime } from "@assistant-ui/react-ai-sdk";
import type { ReactNode } from "react";

import { chatId, transport, useStopState } from "./chat";

/** As in packages/client/README.md. */
export function Assistant(): ReactNode {
  return <Thread runtime={useChatRuntime({ transport })} />;
}

export function ResumingAssistant(): ReactNode {
  const chat = useChat({ id: chatId, transport, resume: true });
  return <Thread runtime={useAISDKRuntime(chat)} />;
}

/** The words as they come: to have them appear letter by letter takes seconds. */
function Text() {
  return <MessagePartPrimitive.Text component="p" smooth={false} />;
}

function AssistantMessage() {
  return <MessagePrimitive.Parts components={{ Text }} />;
}

function Thread({ runtime }: { runtime: AssistantRuntime }) {
  const stopState = useStopState();
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <ThreadPrimitive.Root>
        <ThreadPrimitive.Messages components={{ UserMessage: () => null, AssistantMessage }} />
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
