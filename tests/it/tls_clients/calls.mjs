// Node's clients as their documentation says to use them: `calls.mjs LIBRARIES`, the folder with node_modules. Says what they
// showed, as calls.py does.
import { createHash } from "node:crypto";
import { createRequire } from "node:module";

const require = createRequire(`${process.argv[2]}/package.json`);
const digest = (data) => `${data.length} ${createHash("sha256").update(data).digest("hex")}`;

async function play(row, ...steps) {
  const saw = [];
  for (const step of steps) {
    try {
      saw.push(String(await step()));
    } catch (error) {
      const told = [];
      for (let from = error; from && told.length < 5; from = from.cause) told.push(`${from.name} ${from.code ?? ""} ${from.message}`);
      saw.push(told.join(" from "));
    }
  }
  console.log(JSON.stringify({ row, at: "client", saw }));
}

function fetching(row, method, route, body) {
  return async () => {
    const answer = await fetch(`https://http1.example/${route}`, { method, body, duplex: "half", headers: { "x-row": row }, signal: AbortSignal.timeout(20000) });
    const headers = [...answer.headers].filter(([name]) => name !== "date").map((pair) => pair.join(": ")).join("\r\n");
    return `${answer.status}\r\n${headers}\r\n${digest(Buffer.from(await answer.arrayBuffer()))}`;
  };
}

async function withFetch() {
  const row = "node fetch";
  const stream = () => new ReadableStream({ start(into) { for (const part of ["one", "two"]) into.enqueue(Buffer.from(part)); into.close(); } });
  const routes = ["plain?a=1", "stream", "large", "status/404", "status/503", "short-cut", "short-notify", "cut", "notify", "plain"];
  await play(row, ...routes.map((route) => fetching(row, "GET", route)), fetching(row, "POST", "plain", Buffer.alloc(300000, "x")), fetching(row, "POST", "plain", stream()));
}

async function withOpenai() {
  const { OpenAI } = require("openai");
  const row = "node openai";
  const client = new OpenAI({ apiKey: "sk-x", defaultHeaders: { "x-row": row }, timeout: 20000 });
  const messages = [{ role: "user", content: "Grüße" }];
  const whole = (model) => async () => {
    const { data, response } = await client.chat.completions.create({ model, messages }).withResponse();
    return `${response.status} ${JSON.stringify([...response.headers])} ${JSON.stringify(data)}`;
  };
  const events = (model) => async () => {
    const saw = [];
    try {
      for await (const event of await client.chat.completions.create({ model, messages, stream: true })) saw.push(JSON.stringify(event));
    } catch (error) {
      saw.push(`${error.name} ${error.message} ${error.cause?.code}`);
    }
    return saw.join("\n");
  };
  const responses = async () => {
    const saw = [];
    for await (const event of await client.responses.create({ model: "x", input: "hi", stream: true })) saw.push(JSON.stringify(event));
    return saw.join("\n");
  };
  await play(row, ...["json", "limited", "refused"].map(whole), ...["plain", "zipped", "cut", "cut-notify"].map(events), responses);
}

async function withGrpc() {
  const grpc = require("@grpc/grpc-js");
  const row = "node grpc";
  const client = new grpc.Client("grpc.example:443", grpc.credentials.createSsl());
  const metadata = () => { const made = new grpc.Metadata(); made.set("x-row", row); return made; };
  const same = (bytes) => bytes;
  const options = () => ({ deadline: Date.now() + 20000 });
  const unary = (data) => () => new Promise((resolve) => client.makeUnaryRequest("/test.Echo/Unary", same, same, Buffer.from(data), metadata(), options(), (error, answer) =>
    resolve(error ? `${error.code} ${error.details} ${JSON.stringify(error.metadata.toJSON())}` : digest(answer))));
  const stream = () => new Promise((resolve, reject) => {
    const saw = [];
    const call = client.makeServerStreamRequest("/test.Echo/Stream", same, same, Buffer.from(""), metadata(), options());
    call.on("data", (data) => saw.push(digest(data)));
    call.on("error", reject);
    call.on("end", () => resolve(saw.join("\n")));
  });
  const bidi = () => new Promise((resolve, reject) => {
    const saw = [];
    const call = client.makeBidiStreamRequest("/test.Echo/Bidi", same, same, metadata(), options());
    call.on("data", (data) => saw.push(String(data)));
    call.on("error", reject);
    call.on("end", () => resolve(saw.join("\n")));
    for (const part of ["one", "two"]) call.write(Buffer.from(part));
    call.end();
  });
  await play(row, unary("hello"), unary("fail"), stream, bidi, unary("z".repeat(1000000)));
  client.close();
}

await Promise.all([withFetch(), withOpenai(), withGrpc()]);
process.stdout.write("", () => process.exit(0));
