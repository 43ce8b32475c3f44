// Node's server over TLS, HTTP/1.1 and HTTP/2 by ALPN: `tls_origin.mjs PORT FOLDER`. Reports as talk.py says; the row is in
// the query.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import http2 from "node:http2";

const [port, folder] = process.argv.slice(2);
const options = { key: readFileSync(`${folder}/key.pem`), cert: readFileSync(`${folder}/cert.pem`), allowHTTP1: true };
const server = http2.createSecureServer(options, async (request, response) => {
  const url = new URL(request.url, "https://x");
  const hash = createHash("sha256");
  let size = 0;
  for await (const part of request) {
    hash.update(part);
    size += part.length;
  }
  const socket = request.stream?.session?.socket ?? request.socket;
  let lines = "";
  for (let index = 0; index < request.rawHeaders.length; index += 2) lines += `${request.rawHeaders[index]}: ${request.rawHeaders[index + 1]}\r\n`;
  const saw = `${request.method} ${request.url} HTTP/${request.httpVersion}\r\n${lines}\r\n${size} ${hash.digest("hex")} ${socket.alpnProtocol} ${socket.servername} ${socket.getProtocol()}`;
  console.log(JSON.stringify({ row: url.searchParams.get("row"), at: "origin", saw: [saw] }));
  if (url.pathname === "/large") response.end(Buffer.alloc(4 << 20, "large"));
  else if (url.pathname === "/cut") {
    response.setHeader("content-length", 1000);
    const session = request.stream?.session;
    response.write("part", () => (session ?? socket).destroy());
  } else response.end(`${request.method} ${size}`);
});
server.on("sessionError", () => {});
server.on("tlsClientError", () => {});
server.listen(Number(port), "0.0.0.0", () => console.log("listening"));
