// Node's HTTP clients: `web_clients.mjs SERVER=URL…` plays the calls of web_clients.py with fetch and with http, and against
// Node's own server what only that has. Reports as talk.py says.
import { createHash } from "node:crypto";
import http from "node:http";

const servers = process.argv.slice(2).map((argument) => argument.split(/=(.*)/));
const say = (row, saw) => console.log(JSON.stringify({ row, at: "client", saw }));
const path = (route, row) => `/${route}?row=${row.replaceAll(" ", "%20")}`;
const shown = (status, reason, lines, body) =>
  `${status} ${reason}\r\n${lines}\r\n${body.length} ${createHash("sha256").update(body).digest("hex")}`;
const pairs = (raw) => {
  let lines = "";
  for (let index = 0; index < raw.length; index += 2) lines += `${raw[index]}: ${raw[index + 1]}\r\n`;
  return lines;
};
const calls = [
  ["GET", "plain"],
  ["POST", "echo", '{"a": [1, 2, 3]}'],
  ["PUT", "echo", ["first piece, ", "second piece"]],
  ["GET", "stream"],
  ["HEAD", "plain"],
  ["GET", "empty"],
  ["GET", "missing"],
  ["GET", "large"],
];

async function withFetch(row, base) {
  const saw = [];
  for (const [method, route, body] of calls) {
    const pieces = () => new ReadableStream({
      start(controller) {
        for (const piece of body) controller.enqueue(new TextEncoder().encode(piece));
        controller.close();
      },
    });
    const stream = Array.isArray(body);
    const options = { method, body: stream ? pieces() : body, duplex: stream ? "half" : undefined };
    const answer = await fetch(base + path(route, row), options);
    saw.push(shown(answer.status, answer.statusText, pairs([...answer.headers].flat()), Buffer.from(await answer.arrayBuffer())));
  }
  say(row, saw);
}

/// One call with node:http; what happens to it, in order.
function call(base, route, row, { write = [], trailers, act, ...options } = {}) {
  return new Promise((resolve) => {
    const saw = [];
    const request = http.request(base + path(route, row), options);
    const note = (event, more = () => "") => request.on(event, (...what) => saw.push(`${event} ${more(...what)}`));
    note("continue");
    note("information", (answer) => `${answer.statusCode} ${pairs(answer.rawHeaders)}`);
    request.on("error", (error) => saw.push(`error ${error.code}`));
    request.on("close", () => resolve(saw));
    request.on("response", (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("aborted", () => saw.push("aborted"));
      answer.on("error", (error) => saw.push(`answer ${error.code}`));
      answer.on("close", () => {
        const body = Buffer.concat(parts);
        saw.push(shown(answer.statusCode, answer.statusMessage, pairs(answer.rawHeaders), answer.complete ? body : Buffer.from("incomplete")));
        if (answer.rawTrailers.length) saw.push(`trailers ${pairs(answer.rawTrailers)}`);
      });
      if (act?.answer) act.answer(request, answer);
    });
    for (const event of ["upgrade", "connect"]) {
      request.on(event, (answer, socket, head) => {
        saw.push(`${event} ${answer.statusCode} ${pairs(answer.rawHeaders)}`);
        let heard = head.toString();
        socket.on("data", (data) => (heard += data));
        socket.on("close", () => {
          saw.push(`heard ${heard}`);
          resolve(saw);
        });
        socket.write("to and fro, ");
        socket.end();
      });
    }
    for (const piece of write) request.write(piece);
    if (trailers) request.addTrailers(trailers);
    if (act?.request) act.request(request);
    else if (!options.headers?.Expect) request.end();
    else request.on("continue", () => request.end("the body")).on("response", () => request.end());
  });
}

async function withHttp(row, base) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const saw = [];
  for (const [method, route, body = []] of calls) saw.push(...(await call(base, route, row, { method, agent, write: [body].flat() })));
  agent.destroy();
  say(row, saw);
}

async function special(base) {
  const rows = {
    "Node: trailers both ways": (row) => call(base, "trailers", row, { method: "POST", write: ["x"], headers: { Trailer: "X-T" }, trailers: { "X-T": "1" } }),
    "Node: 102 and 103 before the answer": (row) => call(base, "hints", row),
    "Node: 100 and then the body": (row) => call(base, "echo", row, { method: "POST", headers: { Expect: "100-continue", "Content-Length": 8 } }),
    "Node: 413 in place of 100": (row) => call(base, "refuse", row, { method: "POST", headers: { Expect: "100-continue", "Content-Length": 8 } }),
    "Node: an upgrade and half a close": (row) => call(base, "up", row, { headers: { Connection: "Upgrade", Upgrade: "echo" } }),
    "Node: an answer that is cut": (row) => call(base, "cut", row),
    "Node: an answer that is reset": (row) => call(base, "reset", row),
    "Node: the server closes after its answer": (row) => call(base, "close", row, { agent: new http.Agent({ keepAlive: true }) }),
    "Node: an early answer while the body is under way": (row) =>
      call(base, "early", row, { method: "POST", headers: { "Content-Length": 6 }, act: { request: (request) => { request.write("one"); }, answer: (request) => request.end("two") } }),
    "Node: a request that is given up in its body": async (row) => [
      ...(await call(base, "echo", row, { method: "POST", headers: { "Content-Length": 100 }, act: { request: (request) => request.write("one", () => setTimeout(() => request.destroy(), 200)) } })),
      ...(await call(base, "gone", row)),
    ],
    "Node: an answer that is given up in its body": async (row) => [
      ...(await call(base, "unread", row, { act: { request: (request) => request.end(), answer: (request, answer) => answer.once("data", () => request.destroy()) } })),
      ...(await call(base, "gone", row)),
    ],
    "Node: a request that is given up before its answer": async (row) => [
      ...(await call(base, "never", row, { timeout: 300, act: { request: (request) => { request.on("timeout", () => request.destroy()); request.end(); } } })),
      ...(await call(base, "gone", row)),
    ],
    "Node: the agent keeps its connection": async (row) => {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      const saw = [];
      for (let index = 0; index < 5; index++) saw.push(...(await call(base, "sockets", row, { agent })));
      agent.destroy();
      return saw;
    },
    "Node: forty requests at once over four connections": async (row) => {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
      const all = await Promise.all(Array.from({ length: 40 }, () => call(base, "large", row, { agent })));
      agent.destroy();
      return all.map((saw) => saw.join());
    },
  };
  for (const [row, play] of Object.entries(rows)) say(row, await play(row));
}

for (const [server, base] of servers) {
  await withFetch(`fetch and ${server}`, base);
  await withHttp(`node:http and ${server}`, base);
  if (server === "Node") await special(base);
}
process.stdout.write("", () => process.exit(0));
