/**
 * Drives openai-node as drive.py does the clients in Python:
 * `node drive.mjs BASE_URL FOLDER`, where FOLDER has its node_modules.
 */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const [, , baseURL, folder] = process.argv;
const { default: OpenAI } = await import(`${folder}/node_modules/openai/index.mjs`);
const client = new OpenAI({ baseURL, apiKey: "-" });

async function ask({ text, id, stream, leave }, told) {
  const answer = await client.chat.completions.create(
    { model: "deepseek-flash", messages: [{ role: "user", content: text }], stream },
    { headers: id ? { "X-Session-Id": id } : {} },
  );
  if (!stream) {
    told.finish = answer.choices[0].finish_reason;
    told.text = answer.choices[0].message.content ?? "";
    return;
  }
  for await (const chunk of answer) {
    told.finish = chunk.choices[0].finish_reason ?? told.finish;
    told.text += chunk.choices[0].delta.content ?? "";
    if (leave && told.text) break; // ends the request
  }
}

const reply = (said) => console.log(JSON.stringify(said));

async function serve(fields) {
  const told = { number: fields.number, text: "", finish: null, error: null };
  try {
    await ask(fields, told);
  } catch (error) {
    told.error = `${error.constructor.name}: ${error.message}`;
  }
  reply(told);
}

const { version } = JSON.parse(readFileSync(`${folder}/node_modules/openai/package.json`));
reply({ number: 0, "openai-node": version });
createInterface({ input: process.stdin }).on("line", (line) => serve(JSON.parse(line)));
