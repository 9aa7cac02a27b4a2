/**
 * Drives the AI SDK's clients for tests/support/ai_sdk.py: a line of JSON comes for each thing to
 * do, and one goes back when it is done. They run side by side.
 *
 *   → {"number": 1, "do": "send", "chat": "c1", "api": "http://…/api/chat", "text": "Hello"}
 *   ← {"number": 1, "status": "ready", "messages": […], "ended": {…}, …}
 *
 * A chat is what useChat has behind it: AbstractChat with a DefaultChatTransport. It is made when
 * its name first comes, and is seen as its application sees it.
 */
import { createInterface } from "node:readline";
import { createDeepSeek } from "@ai-sdk/deepseek";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  AbstractChat,
  DefaultChatTransport,
  generateText,
  jsonSchema,
  lastAssistantMessageIsCompleteWithToolCalls,
  streamText,
  tool,
} from "ai";

class State {
  status = "ready";
  error = undefined;
  messages = [];
  pushMessage = (message) => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) => (this.messages = this.messages.with(index, this.snapshot(message)));
  snapshot = (thing) => structuredClone(thing);
}

class Chat extends AbstractChat {
  /** Every onFinish, and the data that were told to onData. */
  ended = [];
  data = [];

  constructor({ id, api, headers, answers }) {
    super({
      id,
      state: new State(),
      transport: new DefaultChatTransport({ api, headers }),
      onData: (part) => this.data.push(part),
      onFinish: ({ isAbort, isDisconnect, isError, finishReason }) =>
        this.ended.push({ isAbort, isDisconnect, isError, finishReason }),
      onToolCall: ({ toolCall: { toolName, toolCallId } }) => {
        if (toolName in answers)
          this.addToolOutput({ tool: toolName, toolCallId, output: answers[toolName] });
      },
      sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    });
  }

  look() {
    const { status, error, messages, ended, data } = this;
    return { status, error: told(error), messages, ended, data };
  }
}

const chats = new Map();

/** The chat of that name; `id` is what the server knows it by. */
function chatOf({ chat: name, id = name, api, headers = {}, answers = {} }) {
  if (!chats.has(name)) chats.set(name, new Chat({ id, api, headers, answers }));
  return chats.get(name);
}

const told = (error) => error && { name: error.name, message: error.message, status: error.statusCode };

const PROVIDERS = {
  deepseek: (settings) => createDeepSeek(settings)("deepseek-flash"),
  "openai-compatible": (settings) =>
    createOpenAICompatible({ name: "chatproxy", includeUsage: true, ...settings })("deepseek-flash"),
};

/** Asks a model of the OpenAI routes, as a server with the AI SDK does. */
async function ask({ provider, baseURL, simulate, sessionId, stream, leave }) {
  const withScenario = (url, init) =>
    fetch(url, { ...init, body: JSON.stringify({ ...JSON.parse(init.body), simulate }) });
  const found = { text: "", reasoning: "", error: undefined };
  const aborter = new AbortController();
  const options = {
    model: PROVIDERS[provider]({ baseURL, apiKey: "-", fetch: withScenario }),
    prompt: "Hello",
    tools: { weather: tool({ inputSchema: jsonSchema({ type: "object" }) }) },
    headers: { "X-Session-Id": sessionId },
    maxRetries: 0,
    abortSignal: aborter.signal,
  };
  try {
    if (!stream) {
      const { text, reasoningText, finishReason, usage } = await generateText(options);
      return { ...found, text, reasoning: reasoningText, finishReason, usage };
    }
    for await (const part of streamText({ ...options, onError() {} }).fullStream) {
      if (part.type === "text-delta") found.text += part.text;
      if (part.type === "reasoning-delta") found.reasoning += part.text;
      if (part.type === "error") found.error = told(part.error);
      if (part.type === "tool-call") found.call = { name: part.toolName, input: part.input };
      if (part.type === "finish") Object.assign(found, { finishReason: part.finishReason, usage: part.totalUsage });
      if (part.type === "abort") found.isAbort = true;
      if (leave && found.text) aborter.abort();
    }
  } catch (error) {
    found.error = told(error);
  }
  return found;
}

const DOES = {
  ask,
  send: ({ text, files, body, ...fields }) => chatOf(fields).sendMessage({ text, files }, { body }),
  regenerate: ({ body, ...fields }) => chatOf(fields).regenerate({ body }),
  resume: (fields) => chatOf(fields).resumeStream(),
  stop: (fields) => chatOf(fields).stop(),
  look: (fields) => void chatOf(fields),
};

const reply = (said) => console.log(JSON.stringify(said));

async function serve({ number, do: what, ...fields }) {
  const said = await DOES[what](fields);
  reply({ number, ...(said ?? chatOf(fields).look()) });
}

createInterface({ input: process.stdin }).on("line", (line) => serve(JSON.parse(line)));
