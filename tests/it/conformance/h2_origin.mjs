// Node's HTTP/2 server by prior knowledge: `h2_origin.mjs PORT`. What a connection was like is said when it has ended, as
// talk.py says; its row is named by the query of its first stream. Streams are sorted: their order is nobody's promise.
import { createHash } from "node:crypto";
import http2 from "node:http2";

const settings = { maxConcurrentStreams: 2000, enableConnectProtocol: true, maxHeaderListSize: 1 << 20 };
const server = http2.createServer({ settings, maxSessionMemory: 1000, maxHeaderListPairs: 4000 });
const open = new Set();
// The order of pseudo-header fields has no meaning (RFC 9113, section 8.3); all others keep theirs.
const pairs = (raw) => {
  const lines = Array.from({ length: raw.length / 2 }, (_, index) => `${raw[2 * index]}: ${raw[2 * index + 1]}\r\n`);
  const pseudo = lines.filter((line) => line.startsWith(":")).sort();
  return [...pseudo, ...lines.filter((line) => !line.startsWith(":"))].join("");
};

server.on("session", (session) => {
  open.add(session);
  session.streams = [];
  session.events = [];
  // Node's client says goodbye once or twice.
  session.on("goaway", (code, last, data) => (code || data) && session.events.push(`goaway ${code} ${data ?? ""}`));
  session.on("ping", (payload) => session.events.push(`ping ${payload.toString("hex")}`));
  session.on("error", (error) => session.events.push(`error ${error.code} ${error.message}`));
  session.on("remoteSettings", (settings) => (session.told = JSON.stringify(settings)));
  session.once("close", () => {
    open.delete(session);
    const told = session.row?.endsWith("settings") ? [session.told] : [];
    if (session.row) console.log(JSON.stringify({ row: session.row, at: "origin", saw: [...session.streams.sort(), ...session.events, ...told] }));
  });
});

server.on("stream", (stream, headers, flags, raw) => {
  const { ":path": target = "", ":method": method } = headers;
  const url = new URL(target || `/connect?row=${headers["x-row"]}`, "http://x");
  const session = stream.session;
  session.row ??= url.searchParams.get("row");
  let size = 0;
  const hash = createHash("sha256");
  const first = `${method} ${target || "-"} HTTP/2\r\n${pairs(raw)}\r\n`;
  const trailers = [];
  stream.on("trailers", (_, __, raw) => trailers.push(`trailers ${pairs(raw)}`));
  stream.on("error", () => {});
  stream.on("close", () => {
    // How much had come when it was cut is chance.
    const cut = stream.rstCode !== 0 || stream.aborted || url.pathname === "/early" || url.pathname === "/stop";
    const body = cut ? "" : `${size} ${hash.digest("hex")}`;
    const weight = url.pathname === "/weight" ? stream.weight : "";
    session.streams.push(`${first}${body} ${trailers} closed ${stream.rstCode} ${stream.aborted ? "aborted" : ""}${weight}`);
  });
  const count = () => stream.on("data", (data) => { hash.update(data); size += data.length; });
  const whole = (act) => { count(); stream.on("end", () => stream.destroyed || act()); };
  const [, route, code] = url.pathname.split("/");
  if (method === "CONNECT") {
    stream.respond({ ":status": 200 });
    stream.on("data", (data) => stream.write(data));
    stream.on("end", () => stream.end("bye"));
    return;
  }
  switch (route) {
    case "weight":
      stream.weight = stream.state.weight;
      stream.respond({ ":status": 200 }, { endStream: true });
      break;
    case "reset":
      whole(() => stream.close(Number(code)));
      break;
    case "resetlater":
      stream.respond({ ":status": 200 });
      stream.write("part");
      count();
      stream.on("end", () => stream.close(Number(code)));
      break;
    case "open":
      stream.respond({ ":status": 200 });
      stream.write("open");
      count();
      break;
    case "goaway":
    case "reason":
      whole(() => {
        stream.respond({ ":status": 200 });
        stream.end("going");
        stream.on("close", () => session.goaway(Number(code), 0, route === "reason" ? Buffer.from("why") : undefined));
      });
      break;
    case "shutdown":
      whole(() => {
        session.close();
        stream.respond({ ":status": 200 });
        stream.end("the last");
      });
      break;
    case "echo":
      stream.respond({ ":status": 200 }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "x-trailer": "too", "x-more": ["1", "2"] }));
      stream.on("data", (data) => stream.write(data));
      whole(() => stream.end());
      break;
    case "late":
      // Reads only when its answer has been heard, which the other stream tells.
      stream.respond({ ":status": 200 });
      stream.write("late");
      session.late = () => whole(() => stream.end());
      break;
    case "read":
      whole(() => { stream.respond({ ":status": 200 }, { endStream: true }); session.late(); });
      break;
    case "early":
      stream.respond({ ":status": 200 });
      stream.end("early");
      break;
    case "stop":
      stream.respond({ ":status": 413 });
      stream.end("enough");
      stream.on("finish", () => stream.close(0));
      break;
    case "large":
      whole(() => { stream.respond({ ":status": 200 }); stream.end(Buffer.alloc(Number(code) << 20, "large")); });
      break;
    case "hints":
      stream.additionalHeaders({ ":status": 103, link: "</a>; rel=preload" });
      stream.additionalHeaders({ ":status": 102 });
      stream.respond({ ":status": 200 }, { endStream: true });
      break;
    case "continue":
      stream.additionalHeaders({ ":status": 100 });
      whole(() => { stream.respond({ ":status": 200 }, { endStream: true }); });
      break;
    case "push":
      if (!stream.pushAllowed) {
        stream.respond({ ":status": 200 });
        stream.end("may not push");
        break;
      }
      stream.pushStream({ ":path": "/pushed" }, (error, pushed) => {
        pushed?.on("error", () => {});
        pushed?.respond({ ":status": 200 });
        pushed?.end("pushed");
        stream.respond({ ":status": 200 });
        stream.end(error ? error.code : "pushed");
      });
      break;
    case "altsvc":
      session.altsvc('h2=":8000"', stream.id);
      stream.respond({ ":status": 200 }, { endStream: true });
      break;
    case "headers":
      stream.respond(Object.fromEntries([[":status", 200], ...Array.from({ length: Number(code) }, (_, index) => [`x-${index}`, `${index}`])]), { endStream: true });
      break;
    case "header":
      stream.respond({ ":status": 200, "x-large": "l".repeat(Number(code)) }, { endStream: true });
      break;
    case "status":
      whole(() => stream.respond({ ":status": Number(code), "set-cookie": ["a=1", "b=2"], "x-mixed": ["2", "1"], etag: '"x"' }, { endStream: true }));
      break;
    case "length":
      stream.respond({ ":status": 200, "content-length": 5 }, { endStream: method === "HEAD" });
      if (method !== "HEAD") stream.end("12345");
      break;
    case "ping":
      whole(() => session.ping(Buffer.from("pingpong"), (error, _, payload) => {
        stream.respond({ ":status": 200 });
        stream.end(`${error} ${payload}`);
      }));
      break;
    default:
      whole(() => { stream.respond({ ":status": 200 }, { waitForTrailers: true }); stream.on("wantTrailers", () => stream.sendTrailers({ "x-trailer": "too" })); stream.end(`${method} ${size}`); });
  }
});
server.on("sessionError", () => {});
server.listen(Number(process.argv[2]), "0.0.0.0", () => console.log("listening"));
process.on("SIGTERM", () => {
  const started = Date.now();
  const wait = () => (open.size && Date.now() - started < 3000 ? setTimeout(wait, 10) : process.stdout.write("", () => process.exit(0)));
  wait();
});
