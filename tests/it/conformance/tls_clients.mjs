// Node's clients over TLS: `tls_clients.mjs https://HOST:PORT CERTIFICATE`. Reports as talk.py says.
import { readFileSync } from "node:fs";
import http2 from "node:http2";
import https from "node:https";

const [base, certificate] = process.argv.slice(2);
const ca = readFileSync(certificate);
const path = (route, row) => `/${route}?row=${row.replaceAll(" ", "%20")}`;
const say = (row, ...saw) => console.log(JSON.stringify({ row, at: "client", saw }));

let row = "TLS: node:https";
say(row, await new Promise((resolve) => https.get(base + path("plain", row), { ca }, (answer) => {
  const { alpnProtocol, authorized } = answer.socket;
  let body = "";
  answer.on("data", (data) => (body += data));
  answer.on("end", () => resolve(`${answer.statusCode} ${body} ${alpnProtocol} ${authorized}`));
})));
row = "TLS: fetch"; // which trusts NODE_EXTRA_CA_CERTS
const answer = await fetch(base + path("plain", row));
say(row, `${answer.status} ${await answer.text()}`);
row = "TLS: node:http2 with ten streams";
const session = http2.connect(base, { ca });
const streams = Array.from({ length: 10 }, () => new Promise((resolve) => {
  const stream = session.request({ ":path": path("plain", row) });
  let body = "";
  stream.on("data", (data) => (body += data));
  stream.on("end", () => resolve(body));
}));
say(row, ...(await Promise.all(streams)), session.alpnProtocol);
process.stdout.write("", () => process.exit(0));
