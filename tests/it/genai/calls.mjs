// Node's libraries as their documentation says to use them: `calls.mjs LIBRARIES KIND…`. Says of each call what told.py says.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { dirname, join } from "node:path";

const [libraries, ...kinds] = process.argv.slice(2);
const require = createRequire(`${libraries}/package.json`);
const FIRST = ["gen_ai.response.time_to_first_chunk"];
const TOKENS = ["input_tokens", "output_tokens", "cache_read.input_tokens", "cache_write.input_tokens", "reasoning.output_tokens"];

function say(span, match, attributes, { failed = false, present = [], tools, kind = "client" } = {}) {
  const plain = Object.fromEntries(Object.entries(attributes).map(([name, value]) => [name, value ?? null]));
  console.log(JSON.stringify({ span, match, attributes: plain, failed, present, kind, tools }));
}

function llm(operation, provider, host, model, { id, served, reasons, usage = [], resent, ended = {}, failed, streamed, tools, ...more }) {
  const counts = Object.fromEntries(TOKENS.map((name, at) => [`gen_ai.usage.${name}`, usage[at]]));
  const attributes = {
    "gen_ai.operation.name": operation, "gen_ai.provider.name": provider, "server.address": host, "server.port": 443, "mcp.method.name": null,
    "gen_ai.request.stream": streamed ? true : null, "gen_ai.response.id": id, "gen_ai.response.model": served, "gen_ai.response.finish_reasons": reasons,
    "sidetrace.end": null, ...counts, ...more, ...ended,
  };
  if (!failed) attributes["error.type"] = null;
  // undici forgets what it has received when a connection breaks.
  if (ended["sidetrace.end"] === "broken" && !id) for (const name of ["gen_ai.response.id", "gen_ai.response.model", ...TOKENS.map((name) => `gen_ai.usage.${name}`)]) delete attributes[name];
  if (failed && (id || ended["sidetrace.end"])) delete attributes["gen_ai.response.finish_reasons"];
  const match = { "gen_ai.request.model": model, "http.request.resend_count": resent || null };
  say(`${operation} ${model}`, match, attributes, { failed, tools, present: streamed && served ? FIRST : [] });
}

// Every exchange of a library, retries included, as its own fetch shows it.
function watched(seen) {
  return async (...asked) => {
    const answer = await fetch(...asked);
    seen.push(answer.status >= 400 ? { status: answer.status, text: await answer.clone().text() } : answer);
    return answer;
  };
}

function failure({ status, text }, anthropic) {
  let error = {};
  try { error = JSON.parse(text).error; } catch { /* a gateway's page */ }
  const type = anthropic ? error.type : typeof error.code === "string" ? error.code : error.type;
  return { "error.type": type ?? String(status), "http.response.status_code": status };
}

async function play(api, client, seen, model, options, read, anthropic) {
  const told = { streamed: Boolean(options.stream), failed: false };
  const before = seen.length;
  try {
    await read(told, model.includes("hold"));
    if (model.includes("hold")) told.ended = { "sidetrace.end": "cancelled" };
  } catch (error) {
    told.failed = true;
    if (error.status) told.ended = failure(seen.at(-1), anthropic);
    else if (error.error ?? error.code) told.ended = { "error.type": anthropic ? error.error.error.type : error.code ?? error.error.code };
    else told.ended = { "sidetrace.end": "broken" };
  }
  const attempts = seen.slice(before);
  attempts.slice(0, -1).forEach((answer, resent) => llm(...api, model, { failed: true, streamed: told.streamed, resent, ended: failure(answer, anthropic) }));
  llm(...api, model, { ...told, resent: attempts.length - 1 });
}

const TOOL = { type: "object", properties: { city: { type: "string" } } };

async function openai() {
  const { OpenAI } = require("openai");
  const seen = [];
  const client = new OpenAI({ apiKey: "sk-x", timeout: 20000, fetch: watched(seen) });
  const api = ["chat", "openai", "api.openai.com"];
  const reason = (raw) => ({ tool_calls: "tool_call", function_call: "tool_call" })[raw] ?? raw;
  const count = (usage) => usage ? [usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens_details?.cached_tokens, usage.prompt_tokens_details?.cache_write_tokens, usage.completion_tokens_details?.reasoning_tokens] : [];
  const asking = { stream: true, stream_options: { include_usage: true } };
  const tools = [{ type: "function", function: { name: "weather", parameters: TOOL } }];
  const chats = [["plain", {}], ["plain-deflate", {}], ["tools-gzip", { tools }], ["n", { n: 2 }], ["limited", {}], ["bad", {}], ["refused", {}], ["stream", { stream: true }],
    ...["", "-gzip", "-tools", "-tools-usage-gzip", "-limited", "-error", "-cut", "-hold", "-hold-gzip"].map((more) => [`stream-usage${more}`, { ...asking, ...(more.includes("tools") ? { tools } : {}) }])];
  for (const [scenario, options] of chats) {
    const model = `gpt-x.node.${scenario}`;
    await play(api, client, seen, model, options, async (told, hold) => {
      const answer = await client.chat.completions.create({ model, messages: [{ role: "user", content: "Grüße 😀" }], ...options });
      const reasons = new Map(), calls = new Map();
      const add = (part) => {
        told.id ||= part.id || undefined;
        told.served ||= part.model || undefined;
        if (part.usage) told.usage = count(part.usage);
        for (const choice of part.choices) {
          if (choice.finish_reason) reasons.set(choice.index, reason(choice.finish_reason));
          (choice.message ?? choice.delta).tool_calls?.forEach((call, at) => {
            const key = `${choice.index} ${call.index ?? at}`;
            const known = calls.get(key) ?? { id: call.id, name: call.function.name, arguments: "" };
            known.arguments += call.function.arguments;
            calls.set(key, known);
          });
        }
      };
      if (!options.stream) add(answer);
      else for await (const part of answer) {
        add(part);
        if (hold) break;
      }
      if (!hold) {
        told.reasons = [...reasons.keys()].sort().map((index) => reasons.get(index));
        told.tools = [...calls.values()].map((call) => ({ ...call, arguments: JSON.parse(call.arguments) }));
      }
    });
  }
  const outcome = (answer) => answer.status === "completed" ? (answer.output.some((item) => item.type === "function_call") ? "tool_call" : "stop")
    : answer.status === "incomplete" ? ({ max_output_tokens: "length" })[answer.incomplete_details.reason] ?? answer.incomplete_details.reason : "error";
  for (const scenario of ["plain", "tools-gzip", "length", "failed", "bad", "stream", "stream-gzip", "stream-tools", "stream-length", "stream-failed", "stream-cut", "stream-hold"]) {
    const model = `gpt-x.node.resp-${scenario}`, stream = scenario.startsWith("stream");
    await play(api, client, seen, model, { stream }, async (told, hold) => {
      const answer = await client.responses.create({ model, input: "hi", stream, ...(scenario.includes("tools") ? { tools: [{ type: "function", name: "weather", parameters: TOOL, strict: false }] } : {}) });
      let final = stream ? undefined : answer;
      const note = (whole) => { told.id = whole.id; told.served = whole.model; };
      if (stream) for await (const event of answer) {
        if (event.response) note(event.response);
        if (["response.completed", "response.incomplete", "response.failed"].includes(event.type)) final = event.response;
        if (hold) break;
      }
      if (!final) return;
      note(final);
      told.reasons = [outcome(final)];
      told.tools = final.output.filter((item) => item.type === "function_call").map((item) => ({ id: item.call_id, name: item.name, arguments: JSON.parse(item.arguments) }));
      const usage = final.usage;
      if (usage) told.usage = [usage.input_tokens, usage.output_tokens, usage.input_tokens_details?.cached_tokens, usage.input_tokens_details?.cache_write_tokens, usage.output_tokens_details?.reasoning_tokens];
      if (final.error) Object.assign(told, { failed: true, tools: undefined, ended: { "error.type": final.error.code } });
    });
  }
  for (const [scenario, input] of [["one", "hi"], ["many", ["a", "b"]]]) {
    const model = `embed-x.node.${scenario}`;
    const answer = await client.embeddings.create({ model, input });
    llm("embeddings", "openai", "api.openai.com", model, { served: answer.model, usage: [answer.usage.prompt_tokens] });
  }
}

async function anthropic() {
  const { default: Anthropic } = await import(pathToFileURL(join(libraries, "node_modules/@anthropic-ai/sdk/index.mjs")));
  const seen = [];
  const client = new Anthropic({ apiKey: "sk-x", timeout: 20000, fetch: watched(seen) });
  const api = ["chat", "anthropic", "api.anthropic.com"];
  const reason = (raw) => ({ end_turn: "stop", stop_sequence: "stop", max_tokens: "length", tool_use: "tool_call", refusal: "content_filter" })[raw] ?? raw;
  const count = (usage) => [usage.input_tokens + (usage.cache_read_input_tokens ?? 0) + (usage.cache_creation_input_tokens ?? 0), usage.output_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens, usage.output_tokens_details?.thinking_tokens];
  const scenarios = ["plain", "tools-cache-gzip", "length", "refusal", "overloaded", "bad", "refused", "stream-plain", "stream-tools-cache-gzip", "stream-thinking-tools-deflate", "stream-repeats-cache",
    "stream-overloaded", "stream-error-cache", "stream-cut", "stream-hold"];
  for (const scenario of scenarios) {
    const model = `claude-x.node.${scenario}`, stream = scenario.startsWith("stream");
    const asked = { model, max_tokens: 99, messages: [{ role: "user", content: "Grüße 😀" }] };
    await play(api, client, seen, model, { stream }, async (told, hold) => {
      const note = (message) => Object.assign(told, { id: message.id, served: message.model, usage: count(message.usage) });
      let message;
      if (stream) {
        const events = client.messages.stream(asked);
        events.on("streamEvent", (_, snapshot) => note(snapshot));
        if (hold) {
          for await (const event of events) if (event.type === "content_block_start") break;
          return;
        }
        message = await events.finalMessage();
      } else {
        message = await client.messages.create(asked);
      }
      note(message);
      told.reasons = [reason(message.stop_reason)];
      told.tools = message.content.filter((block) => block.type === "tool_use").map((block) => ({ id: block.id, name: block.name, arguments: block.input }));
    }, true);
  }
}

async function mcp() {
  const from = (path) => import(pathToFileURL(join(dirname(require.resolve("@modelcontextprotocol/sdk/client/index.js")), "../../esm", path)));
  const { Client } = await from("client/index.js");
  const { StreamableHTTPClientTransport } = await from("client/streamableHttp.js");
  const { SSEClientTransport } = await from("client/sse.js");
  const { CreateMessageRequestSchema, ElicitRequestSchema } = await from("types.js");
  const places = [["mcp2.example", 8080, "/node-legacy/mcp"], ["mcp1.example", 8081, "/node-old/mcp"], ["mcp1.example", 8081, "/node-old/json/mcp"], ["sse2-node.example", 8080, "/sse"], ["sse1-node.example", 8081, "/sse"]];
  for (const [host, port, path] of places) {
    const url = `http://${host}:${port}${path}`, sse = path === "/sse", json = path.includes("json");
    const messages = [], methods = new Set();
    const look = async (where, options) => {
      methods.add(options?.method ?? "GET");
      return fetch(where, options);
    };
    const transport = sse ? new SSEClientTransport(new URL(url), { fetch: look }) : new StreamableHTTPClientTransport(new URL(url), { fetch: look });
    const client = new Client({ name: "demo", version: "1" }, { capabilities: { sampling: {}, elicitation: {} } });
    client.setRequestHandler(CreateMessageRequestSchema, () => ({ role: "assistant", content: { type: "text", text: "Me" }, model: "gpt-sampled" }));
    client.setRequestHandler(ElicitRequestSchema, () => ({ action: "accept", content: { sure: true } }));
    const send = transport.send.bind(transport);
    transport.send = (message, options) => {
      messages.push(["went", message]);
      return send(message, options);
    };
    const connected = client.connect(transport);
    const receive = transport.onmessage;
    transport.onmessage = (message, extra) => {
      messages.push(["came", message]);
      receive(message, extra);
    };
    await connected;
    const failing = async (act) => {
      const error = await act().then(() => undefined, (error) => error);
      if (!error) throw new Error("it should have failed");
    };
    await client.listTools();
    const call = (name, given = {}, options = undefined) => client.callTool({ name, arguments: given }, undefined, options);
    await call("add", { a: 1, b: 2 });
    if (!(await call("boom")).isError) throw new Error("boom has not failed");
    await call("steps", { count: 3 }, { onprogress: () => undefined });
    // The library forgets who wants to know once it has the answer, which may come in the same piece.
    const steps = messages.filter(([, { method }]) => method === "notifications/progress").length;
    if (steps !== (json ? 0 : 3)) throw new Error(`${steps} steps`);
    await call("nothing").catch(() => undefined);
    await client.listPrompts();
    await client.getPrompt({ name: "greet", arguments: { name: "x" } });
    await client.readResource({ uri: "res://known" });
    await failing(() => client.readResource({ uri: "res://none" }));
    await failing(() => client.getPrompt({ name: "none", arguments: {} }));
    if (!json) for (const name of ["ask", "confirm"]) if ((await call(name)).isError) throw new Error(`${name} has failed`);
    await Promise.all([1, 2, 3].map((a) => call("add", { a, b: 1 })));
    await client.ping();
    const session = sse ? undefined : transport.sessionId, version = transport.protocolVersion ?? transport._protocolVersion;
    if (!sse) await transport.terminateSession();
    await client.close();
    const answers = new Map(messages.filter(([, message]) => !message.method).map(([way, message]) => [`${way} ${message.id}`, message]));
    for (const [way, { method, id, params }] of messages) {
      const ours = way === "went";
      if (!method || (!ours && id === undefined)) continue;
      const answer = answers.get(`${ours ? "came" : "went"} ${id}`);
      const code = answer?.error ? String(answer.error.code) : null;
      const wrong = Boolean(answer?.result?.isError), number = id === undefined ? null : String(id);
      const name = ["tools/call", "prompts/get"].includes(method) ? params.name : null;
      // What the server asks is no exchange of its own.
      const where = !ours ? { "client.address": host, "client.port": port, ...(sse ? {} : { "mcp.session.id": session }) } : sse ? { "server.address": host, "server.port": port } : { "url.full": url };
      const match = { ...where, "mcp.method.name": method, "jsonrpc.request.id": number };
      const attributes = ours ? {
        "mcp.method.name": method, "jsonrpc.request.id": number, "gen_ai.tool.name": method === "tools/call" ? name : null, "gen_ai.prompt.name": method === "prompts/get" ? name : null,
        "gen_ai.operation.name": method === "tools/call" ? "execute_tool" : null, "mcp.resource.uri": params?.uri, "rpc.status_code": code, "error.type": code ?? (wrong ? "tool_error" : null),
        "server.address": host, "server.port": port, ...(sse ? {} : { "mcp.session.id": session, "mcp.protocol.version": version }),
      } : { "mcp.method.name": method };
      say(name ? `${method} ${name}` : method, match, attributes, { failed: Boolean(code ?? wrong), kind: ours ? "client" : "server" });
    }
    for (const method of [...methods].filter((method) => method !== "POST")) {
      say(method, { "http.request.method": method, "url.full": url }, { "mcp.method.name": null, "gen_ai.operation.name": null, "http.response.status_code": 200 });
    }
  }
}

for (const kind of kinds) await { openai, anthropic, mcp }[kind]();
