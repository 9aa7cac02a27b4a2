/**
 * What LibreChat's server does with a custom endpoint, for librechat.py. FOLDER has its packages.
 *
 *   node librechat.cjs FOLDER check CONFIG            whether it takes this librechat.yaml
 *   node librechat.cjs FOLDER ask BASE_URL TEXT STOP  asks; stops as its Stop does if STOP is "stop"
 *
 * Prints a line of JSON: what is wrong, or what its user gets.
 */
const { createRequire } = require("node:module");

const [, , folder, what, ...given] = process.argv;
const load = createRequire(`${folder}/`);

function check(config) {
  const { configSchema } = load("librechat-data-provider");
  const { error } = configSchema.strict().safeParse(load("js-yaml").load(config));
  return error?.issues ?? [];
}

async function ask(baseURL, text, stop) {
  const { HumanMessage } = load("@langchain/core/messages");
  const { GraphEvents, Providers, Run } = load("@librechat/agents");
  const aborter = new AbortController();
  const told = { text: "", error: null };
  const take = (_event, { delta }) => {
    told.text += delta.content?.[0]?.text ?? "";
    if (stop === "stop" && told.text) aborter.abort();
  };
  const llmConfig = { model: "deepseek-flash", apiKey: "-", streaming: true, maxRetries: 0 };
  const run = await Run.create({
    runId: crypto.randomUUID(),
    graphConfig: {
      type: "standard",
      llmConfig: { provider: Providers.OPENAI, configuration: { baseURL }, ...llmConfig },
    },
    customHandlers: { [GraphEvents.ON_MESSAGE_DELTA]: { handle: take } },
  });
  const how = { configurable: { thread_id: "t" }, signal: aborter.signal, streamMode: "values", version: "v2" };
  await run.processStream({ messages: [new HumanMessage(text)] }, how).catch((error) => {
    told.error = `${error.name}: ${error.message}`;
  });
  return told;
}

const done = what === "check" ? check(...given) : ask(...given);
Promise.resolve(done).then((said) => process.stdout.write(JSON.stringify(said), () => process.exit()));
