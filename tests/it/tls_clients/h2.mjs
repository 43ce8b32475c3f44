// A server of HTTP/2 and HTTP/1.1 by ALPN behind real names: `h2.mjs FOLDER NAME=ADDRESS…`, each on port 443 with NAME.pem.
// Under /git/ it is a git server for FOLDER/repositories. Says what it received, as internet.py does.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import http2 from "node:http2";

const [folder, ...pairs] = process.argv.slice(2);
const numbers = new WeakMap();

function git(request, body, response) {
  const url = new URL(request.url, "https://x");
  const child = spawn("git", ["http-backend"], {
    env: {
      PATH: process.env.PATH, GIT_PROJECT_ROOT: `${folder}/repositories`, GIT_HTTP_EXPORT_ALL: "1", PATH_INFO: url.pathname.replace("/git/", "/"),
      QUERY_STRING: url.search.slice(1), REQUEST_METHOD: request.method, CONTENT_TYPE: request.headers["content-type"] ?? "",
      CONTENT_LENGTH: String(body.length), REMOTE_USER: "x", REMOTE_ADDR: "127.0.0.1", HTTP_CONTENT_ENCODING: request.headers["content-encoding"] ?? "",
      GIT_PROTOCOL: request.headers["git-protocol"] ?? "", GIT_CONFIG_COUNT: "2", GIT_CONFIG_KEY_0: "http.receivepack", GIT_CONFIG_VALUE_0: "true", GIT_CONFIG_KEY_1: "core.fsync", GIT_CONFIG_VALUE_1: "none",
    },
    stdio: ["pipe", "pipe", "inherit"],
  });
  child.stdin.on("error", () => {});
  child.stdin.end(body);
  const parts = [];
  child.stdout.on("data", (data) => parts.push(data));
  child.on("close", () => {
    const all = Buffer.concat(parts);
    const end = all.indexOf("\r\n\r\n");
    for (const line of all.subarray(0, end).toString().split("\r\n")) {
      const [name, value] = line.split(": ");
      if (name === "Status") response.statusCode = Number.parseInt(value, 10);
      else response.setHeader(name.toLowerCase(), value);
    }
    response.end(all.subarray(end + 4));
  });
}

async function answer(name, request, response) {
  const parts = [];
  for await (const part of request) parts.push(part);
  const body = Buffer.concat(parts);
  const session = request.stream?.session;
  const socket = request.socket;
  const key = session ?? socket;
  numbers.set(key, (numbers.get(key) ?? 0) + 1);
  const route = request.url.split(/[/?]/)[1];
  const status = route === "status" ? Number(request.url.split("/")[2]) : request.url.startsWith("/git/none.git") ? 404 : 200;
  let lines = "";
  const given = [];
  // The order of the pseudo-header fields, which come first, is not kept.
  const raw = request.rawHeaders;
  const order = Array.from({ length: raw.length / 2 }, (_, index) => 2 * index).sort((one, other) => (raw[one][0] === ":" && raw[other][0] === ":" ? (raw[one] < raw[other] ? -1 : 1) : one - other));
  for (const index of order) {
    lines += `${request.rawHeaders[index]}: ${request.rawHeaders[index + 1]}\r\n`;
    if (request.rawHeaders[index].toLowerCase() === "traceparent") given.push(request.rawHeaders[index + 1]);
  }
  // git's pack has the time of its making in it.
  const digest = route === "git" ? "" : `${body.length} ${createHash("sha256").update(body).digest("hex")} `;
  if (route === "git") lines = lines.replace(/content-length: \d+/i, "content-length: …");
  const saw = `${request.method} ${request.url} HTTP/${request.httpVersion}\r\n${lines}\r\n${digest}request ${numbers.get(key)} ALPN ${socket.alpnProtocol} SNI ${socket.servername} ${socket.getProtocol()}`;
  const row = request.headers["x-row"];
  console.log(JSON.stringify({ row, at: "origin", saw: [saw], call: { host: name, target: request.url, status, alpn: socket.alpnProtocol || null, version: socket.getProtocol().slice(4), traceparent: given } }));
  response.statusCode = status;
  if (route === "git") git(request, body, response);
  else if (route === "large") response.end(Buffer.alloc(4 << 20, "large"));
  else if (route === "stream") {
    for (const part of ["one\n", "two\n", "three\n"]) {
      response.write(part);
      await new Promise(setImmediate);
    }
    response.end();
  } else if (route === "reset") {
    response.write("only the beginning");
    setImmediate(() => response.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR));
  } else if (route === "cut") {
    response.write("only the beginning", () => session.destroy());
  } else response.end(JSON.stringify({ method: request.method, path: request.url, body: createHash("sha256").update(body).digest("hex") }));
}

let left = pairs.length;
for (const pair of pairs) {
  const [name, address] = pair.split("=");
  const both = readFileSync(`${folder}/${name}.pem`);
  const server = http2.createSecureServer({ key: both, cert: both, allowHTTP1: true }, (request, response) => answer(name, request, response));
  for (const event of ["sessionError", "tlsClientError"]) server.on(event, () => {});
  server.listen(443, address, () => --left || console.log("listening"));
}
