// An ordinary client for the tests: `calls.mjs URL` makes the eight calls of calls.py with Node's fetch.
import { createHash } from "node:crypto";

const base = process.argv[2];
const pieces = () => new ReadableStream({
  start(controller) {
    controller.enqueue(new TextEncoder().encode("first piece, "));
    controller.enqueue(new TextEncoder().encode("second piece"));
    controller.close();
  },
});
const calls = [
  ["GET", "/plain?x=1&key=secret"],
  ["POST", "/echo", JSON.stringify({ a: [1, 2, 3] })],
  ["POST", "/echo", pieces],
  ["GET", "/stream"],
  ["GET", "/status/404"],
  ["HEAD", "/plain"],
  ["GET", "/empty"],
  ["GET", "/large"],
];
for (const [method, path, body] of calls) {
  const stream = typeof body === "function";
  const answer = await fetch(base + path, { method, body: stream ? body() : body, duplex: stream ? "half" : undefined });
  const bytes = Buffer.from(await answer.arrayBuffer());
  const headers = JSON.stringify([...answer.headers]);
  console.log(answer.status, answer.statusText, headers, bytes.length, createHash("sha256").update(bytes).digest("hex"));
}
