// The same agent as agent.py, with Node's libraries.
import http from "node:http";
import OpenAI from "openai";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const messages = [{ role: "user", content: "How is the weather?" }];
const openai = new OpenAI({ apiKey: "sk-the-agents-own", maxRetries: 0 });

const calls = {
  async chat() {
    const answer = await openai.chat.completions.create({ model: "gpt-4o", messages });
    return `${answer.id} ${answer.usage.prompt_tokens} ${answer.usage.completion_tokens}`;
  },
  async stream() {
    const chunks = [];
    for await (const chunk of await openai.chat.completions.create({ model: "gpt-4o-mini", messages, stream: true, stream_options: { include_usage: true } })) chunks.push(chunk);
    return `${chunks[0].id} ${chunks.at(-1).usage.prompt_tokens} ${chunks.at(-1).usage.completion_tokens}`;
  },
  fetch: async () => (await (await fetch("https://api.weather.example/forecast")).json()).path,
  plain: async () => (await (await fetch("http://api.weather.example/status")).json()).path,
  async tool() {
    const client = new Client({ name: "agent", version: "1" });
    await client.connect(new StreamableHTTPClientTransport(new URL("http://tools.example:8000/mcp")));
    const answer = await client.callTool({ name: "add", arguments: { a: 1, b: 2 } });
    await client.close();
    return answer.content[0].text;
  },
};

async function perform(name) {
  let said;
  try {
    said = `did ${name} ${await calls[name]()}`;
  } catch (error) {
    said = `failed ${name} ${error.name}: ${error.message} ${error.cause}`;
  }
  console.log(said);
  return said;
}

const [mode, ...names] = process.argv.slice(2);
if (mode === "job") {
  for (const name of names.length ? names : Object.keys(calls)) if ((await perform(name)).startsWith("failed")) process.exitCode = 1;
} else {
  await perform("chat");
  process.on("SIGTERM", async () => {
    await perform("chat");
    process.exit(0);
  });
  http.createServer(async (request, response) => {
    const name = request.url.slice(1);
    if (name === "crash") process.exit(3);
    const said = calls[name] ? await perform(name) : "ok";
    response.writeHead(/^(did|ok)/.test(said) ? 200 : 502, { "content-length": Buffer.byteLength(said) }).end(said);
  }).listen(8080, () => console.log("serving"));
}
