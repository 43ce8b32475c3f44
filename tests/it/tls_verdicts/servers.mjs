// The servers that Node plays: `servers.mjs FOLDER`, those of FOLDER/cases.json with `node`, the protocols that they insist on.
import { readFileSync } from "node:fs";
import http2 from "node:http2";
import tls from "node:tls";

const folder = process.argv[2];
const cases = JSON.parse(readFileSync(`${folder}/cases.json`)).filter(([, , , server]) => server.node);
let left = cases.length;
for (const [, , port, { node, certificate }] of cases) {
  const both = readFileSync(`${folder}/${certificate}.pem`);
  const options = { key: both, cert: both, ALPNProtocols: [node] };
  const server = node !== "h2" ? tls.createServer(options, (socket) => socket.on("error", () => {}).end("foo")) : http2.createSecureServer(options, (request, response) => {
    const lines = [];
    for (let index = 0; index < request.rawHeaders.length; index += 2) lines.push(`${request.rawHeaders[index]}: ${request.rawHeaders[index + 1]}\r\n`);
    const saw = `GET ${request.url} HTTP/2\r\n${lines.sort().join("")}\r\n`;
    console.log(JSON.stringify({ row: request.headers["x-row"], at: "origin", saw: [saw] }));
    response.end("ok");
  });
  for (const event of ["sessionError", "tlsClientError", "error"]) server.on(event, () => {});
  server.listen(port, "0.0.0.0", () => --left || console.log("listening"));
}
