// Node's HTTP server: `web.mjs PORT`, with the routes of web.py and, for Node's own client: /trailers /hints /continue
// /refuse /half /reset /sockets. Reports as talk.py says.
import { createHash } from "node:crypto";
import http from "node:http";

const large = Buffer.concat(Array(131072).fill(createHash("sha256").update("large").digest()));
const gone = new Map();
const sockets = new Map(); // each row's own numbers
const say = (row, ...saw) => console.log(JSON.stringify({ row, at: "origin", saw }));
const parse = (request) => {
  const url = new URL(request.url, "http://x");
  return [url.searchParams.get("row"), url.pathname];
};
const pairs = (raw) => {
  let lines = "";
  for (let index = 0; index < raw.length; index += 2) lines += `${raw[index]}: ${raw[index + 1]}\r\n`;
  return lines;
};
const goneOf = (row) => {
  if (!gone.has(row)) gone.set(row, Promise.withResolvers ? Promise.withResolvers() : resolvers());
  return gone.get(row);
};
function resolvers() {
  const made = {};
  made.promise = new Promise((resolve) => (made.resolve = resolve));
  return made;
}

async function handle(request, response) {
  const [row, route] = parse(request);
  const hash = createHash("sha256");
  let size = 0;
  const first = `${request.method} ${request.url} HTTP/${request.httpVersion}\r\n${pairs(request.rawHeaders)}\r\n`;
  response.on("error", () => {});
  if (route === "/early") {
    // Answered before the body is there.
    response.writeHead(200, { "content-length": 5 });
    response.end("early");
  }
  try {
    for await (const part of request) {
      hash.update(part);
      size += part.length;
    }
  } catch (error) {
    say(row, first, `${error.code} after ${size}`);
    goneOf(row).resolve();
    return;
  }
  const body = `${size} ${hash.digest("hex")}`;
  say(row, `${first}${body}${request.rawTrailers.length ? ` trailers ${pairs(request.rawTrailers)}` : ""}`);
  switch (route) {
    case "/early":
      break;
    case "/never":
      response.on("close", () => goneOf(row).resolve());
      break;
    case "/gone":
      await goneOf(row).promise;
      response.end("gone");
      break;
    case "/stream":
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      for (const event of ["one", "two", "three"]) response.write(`data: ${event}\n\n`);
      response.end();
      break;
    case "/cut":
      response.writeHead(200, { "Content-Length": 1000 });
      response.write("only the beginning", () => request.socket.end());
      break;
    case "/reset":
      request.socket.resetAndDestroy();
      break;
    case "/large":
      response.writeHead(200, { "Content-Length": large.length });
      response.end(large);
      break;
    case "/unread":
      response.on("close", () => goneOf(row).resolve());
      response.writeHead(200);
      while (!response.destroyed && response.write(large)) await new Promise(setImmediate);
      break;
    case "/empty":
      response.writeHead(204, { "X-Empty": "yes" });
      response.end();
      break;
    case "/missing":
      response.writeHead(404, "not here");
      response.end("no");
      break;
    case "/trailers":
      response.writeHead(200, { Trailer: "X-Sum", "Transfer-Encoding": "chunked" });
      response.write("body");
      response.addTrailers({ "X-Sum": "1", "x-other": "2" });
      response.end();
      break;
    case "/hints":
      response.writeProcessing();
      response.writeEarlyHints({ link: ["</a>; rel=preload", "</b>; rel=preload"], "x-trace": "1" });
      response.end("hinted");
      break;
    case "/sockets": {
      if (!sockets.has(row)) sockets.set(row, []);
      const known = sockets.get(row);
      if (!known.includes(request.socket)) known.push(request.socket);
      response.end(`socket ${known.indexOf(request.socket)}`);
      break;
    }
    case "/close":
      response.writeHead(200, { Connection: "close" });
      response.end("closing");
      break;
    default:
      response.writeHead(200, ["X-Mixed-Case", "Kept", "x-lower", "kept", "Set-Cookie", "a=1", "Set-Cookie", "b=2"]);
      response.end(`${request.method} ${body}`);
  }
}

const server = http.createServer({ keepAliveTimeout: 60000 }, handle);
server.on("checkContinue", (request, response) => {
  if (parse(request)[1] === "/refuse") {
    response.writeHead(413, { Connection: "close" });
    response.end("too much");
    say(parse(request)[0], `refused ${pairs(request.rawHeaders)}`);
  } else {
    response.writeContinue();
    handle(request, response);
  }
});
server.on("checkExpectation", (request, response) => {
  response.writeHead(417);
  response.end("no tea");
});
server.on("upgrade", (request, socket, head) => {
  const [row] = parse(request);
  say(row, `upgrade to ${request.headers.upgrade} ${head.length}`);
  if (request.headers.upgrade === "h2c") {
    // Not understood here: answered as if it had not been asked for, which Node does without this listener.
    socket.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    return;
  }
  socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nhello");
  socket.on("data", (data) => socket.write(data));
  socket.on("end", () => socket.end("bye"));
});
server.on("connect", (request, socket, head) => {
  socket.write("HTTP/1.1 200 Connection Established\r\n\r\nhello");
  socket.on("data", (data) => socket.write(data));
  socket.on("end", () => socket.end("bye"));
});
server.on("clientError", (error, socket) => socket.destroy());
if (process.argv[3] === "h2c-is-ignored") server.removeAllListeners("upgrade");
server.listen(Number(process.argv[2]), "0.0.0.0", () => console.log("listening"));
