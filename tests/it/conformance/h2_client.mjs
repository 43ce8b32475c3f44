// Node's HTTP/2 client: `h2_client.mjs URL` plays each row on a connection of its own. Reports as talk.py says.
import { createHash } from "node:crypto";
import http2 from "node:http2";

const base = process.argv[2];
const pairs = (raw) => {
  let lines = "";
  for (let index = 0; index < raw.length; index += 2) lines += `${raw[index]}: ${raw[index + 1]}\r\n`;
  return lines;
};
const rows = {};
const PATIENCE = 5000;

/// One row: a connection, and what happens on it.
class Talk {
  constructor(row, options) {
    this.row = row;
    this.saw = [];
    this.events = []; // of the connection; how they fall between those of streams is chance
    this.session = http2.connect(base, { maxSessionMemory: 1000, maxHeaderListPairs: 4000, settings: { maxHeaderListSize: 1 << 20, ...options } });
    this.session.on("goaway", (code, last, data) => this.events.push(`goaway ${code} ${data ?? ""}`));
    this.session.on("error", (error) => this.events.push(`session ${error.code}`));
    this.session.on("altsvc", (service) => this.events.push(`altsvc ${service}`));
    this.session.on("ping", (payload) => row === "a PING of the server" && this.events.push(`ping ${payload}`));
    this.session.on("stream", (pushed, headers) => {
      pushed.on("error", () => {});
      pushed.on("push", () => pushed.resume());
      this.saw.push(`push of ${headers[":path"]}`);
    });
    this.closed = new Promise((resolve) => this.session.on("close", resolve));
  }

  path(route) {
    return `/${route}?row=${this.row.replaceAll(" ", "%20")}`;
  }

  /// One stream: `act` may write to it; what it saw is kept when it closes.
  call(route, headers = {}, { act = (stream) => stream.end(), kept = true, options = {} } = {}) {
    const target = headers[":method"] === "CONNECT" && !headers[":protocol"] ? {} : { ":path": this.path(route) };
    const stream = this.session.request({ ...target, ...headers }, { endStream: false, ...options });
    const saw = [];
    const hash = createHash("sha256");
    stream.heard = 0;
    stream.saw = saw;
    stream.on("headers", (_, __, raw) => saw.push(`interim ${pairs(raw ?? [])}${_[":status"]} ${_.link ?? ""}`));
    stream.on("continue", () => saw.push("continue"));
    stream.on("response", (_, __, raw) => saw.push(`head ${pairs(raw ?? Object.entries(_).flat())}`));
    stream.on("trailers", (_, __, raw) => saw.push(`trailers ${pairs(raw ?? Object.entries(_).flat())}`));
    stream.on("data", (data) => { hash.update(data); stream.heard += data.length; });
    stream.on("error", (error) => saw.push(`${error.code} ${error.message}`));
    stream.done = new Promise((resolve) => {
      stream.on("close", () => {
        clearTimeout(guard);
        saw.push(`${stream.heard} ${hash.digest("hex")} closed ${stream.rstCode}`);
        if (kept) this.saw.push(...saw);
        resolve(saw.join(", "));
      });
    });
    const guard = setTimeout(() => { saw.push("<TIMEOUT>"); stream.close(8); setTimeout(() => this.session.destroy(), 500).unref(); }, PATIENCE);
    act(stream);
    return stream;
  }

  heard(stream, size = 1) {
    return new Promise((resolve) => {
      const look = () => (stream.heard >= size || stream.destroyed ? resolve() : stream.once("data", () => setImmediate(look)));
      look();
    });
  }

  async end() {
    if (!this.session.closed && !this.session.destroyed) this.session.close();
    // Node does not always say that a connection that has had a GOAWAY is closed.
    await Promise.race([this.closed, new Promise((resolve) => setTimeout(resolve, PATIENCE / 5).unref())]);
    this.session.destroy();
    console.log(JSON.stringify({ row: this.row, at: "client", saw: [...this.saw, ...new Set(this.events)] }));
  }
}

const plain = (name, ...call) => (rows[name] = (talk) => talk.call(...call).done);
plain("a GET with trailers", "plain");
plain("a POST with a body", "plain", { ":method": "POST", "content-length": 4 }, { act: (stream) => stream.end("body") });
plain("an echo with trailers of two values", "echo", { ":method": "POST" }, { act: (stream) => stream.end("body") });
plain("trailers of the request", "plain", { ":method": "POST", te: "trailers", trailer: "x-sum" }, {
  options: { waitForTrailers: true },
  act: (stream) => { stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "1", "x-other": ["2", "3"] })); stream.end("body"); },
});
plain("HEAD with a length", "length", { ":method": "HEAD" });
plain("GET with a length", "length");
for (const status of [204, 205, 299, 304, 404, 421, 500, 599]) plain(`status ${status} without a body`, `status/${status}`);
plain("a method of its own", "plain", { ":method": "BREW" });
plain("OPTIONS and an odd target", "a%2Fb/{c}|d;e=f,", { ":method": "OPTIONS" });
plain("cookies in several fields, and repeated names", "plain", { cookie: ["a=1; b=2", "c=3"], "x-b": ["2", "1"], "x-a": "", "x-latin": "gr\u00fcn" });
plain("authority and host that differ", "plain", { ":authority": "one.example", host: "two.example" });
plain("a traceparent of the client's own", "plain", { traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "x-after": "1" });
plain("a header of 60,000 bytes", "plain", { "x-large": "l".repeat(60000) });
plain("an answer's header of 60,000 bytes", "header/60000");
plain("five hundred headers", "plain", Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`x-${index}`, `${index}`])));
plain("an answer's five hundred headers", "headers/500");
plain("early hints and processing", "hints");
plain("100-continue", "continue", { ":method": "POST", expect: "100-continue" }, { act: (stream) => stream.on("continue", () => stream.end("body")) });
plain("8 MiB down", "large/8");
plain("8 MiB up", "plain", { ":method": "POST" }, { act: (stream) => stream.end(Buffer.alloc(8 << 20, "up")) });
plain("2 MiB up and down at once", "echo", { ":method": "POST" }, { act: (stream) => stream.end(Buffer.alloc(2 << 20, "echo")) });
plain("an answer before the body is said", "early", { ":method": "POST" }, { act: (stream) => stream.on("end", () => stream.end("late")) });
plain("an answer, and NO_ERROR for a body that is not wanted", "stop", { ":method": "POST" }, { act: (stream) => stream.write("some") });
plain("CONNECT", "", { ":method": "CONNECT", ":authority": "other:1", "x-row": "CONNECT" }, { act: (stream) => { stream.write("to and fro, "); stream.end(); } });
plain("a PING of the server", "ping");
plain("an ALTSVC frame", "altsvc");
plain("a server that pushes", "push");
plain("a weight", "weight", {}, { options: { weight: 201 } });
for (let code = 0; code <= 13; code++) {
  plain(`RST_STREAM ${code} from the server`, `reset/${code}`);
  rows[`RST_STREAM ${code} from the client`] = async (talk) => {
    const stream = talk.call("open", { ":method": "POST" }, { act: (stream) => stream.write("x") });
    await talk.heard(stream, 4);
    stream.close(code);
    await stream.done;
    await talk.call("plain", {}, { kept: false }).done;
  };
}
rows["RST_STREAM 2 from the server in the middle of its answer"] = async (talk) => {
  const stream = talk.call("resetlater/2", { ":method": "POST" }, { act: () => {} });
  await talk.heard(stream, 4);
  stream.end();
  await stream.done;
};
rows["RST_STREAM 8 from a client that has said all"] = async (talk) => {
  const stream = talk.call("open");
  await talk.heard(stream, 4);
  stream.close(8);
  await stream.done;
  await talk.call("plain", {}, { kept: false }).done;
};
for (const code of [0, 2, 11, "0 with a reason"]) {
  rows[`GOAWAY ${code} from the server`] = async (talk) => {
    const gone = new Promise((resolve) => talk.session.on("goaway", resolve));
    await talk.call(code === "0 with a reason" ? "reason/0" : `goaway/${code}`).done;
    await gone;
  };
}
rows["GOAWAY 0 from the client"] = async (talk) => {
  await talk.call("plain").done;
  talk.session.goaway(0, 0, Buffer.from("done"));
};
rows["a server that shuts down after its last answer"] = async (talk) => {
  await talk.call("shutdown").done;
  await talk.closed;
};
rows["a client that goes in the middle of an answer"] = async (talk) => {
  const stream = talk.call("open", {}, { kept: false });
  await talk.heard(stream, 4);
  talk.session.destroy();
};
rows["a client that goes in the middle of its body"] = async (talk) => {
  const stream = talk.call("open", { ":method": "POST" }, { kept: false, act: (stream) => stream.write("part") });
  await talk.heard(stream, 4);
  talk.session.destroy();
};
rows["both sides in turn, each heard before the next is said"] = async (talk) => {
  const stream = talk.call("echo", { ":method": "POST" }, { act: () => {} });
  for (let size = 1; size <= 5; size++) {
    stream.write("x");
    await talk.heard(stream, size);
  }
  stream.end();
  await stream.done;
};
rows["a hundred streams at once"] = async (talk) => {
  const calls = Array.from({ length: 100 }, () => talk.call("plain", {}, { kept: false }).done);
  talk.saw.push(...(await Promise.all(calls)).sort());
};
rows["a thousand streams one behind the other"] = async (talk) => {
  for (let wave = 0; wave < 20; wave++) {
    const calls = Array.from({ length: 50 }, () => talk.call("plain", {}, { kept: false }).done);
    talk.saw.push(...(await Promise.all(calls)).sort());
  }
};
rows["an answer that nobody reads holds up no other"] = async (talk) => {
  const unread = talk.call("large/4", {}, { kept: false, act: (stream) => { stream.end(); stream.pause(); } });
  await new Promise((resolve) => unread.on("response", resolve));
  unread.pause();
  await talk.call("plain").done;
  unread.resume();
  talk.saw.push(await unread.done);
};
rows["a body that the server reads late holds up no other"] = async (talk) => {
  const late = talk.call("late", { ":method": "POST" }, { kept: false, act: (stream) => stream.end(Buffer.alloc(1 << 20, "late")) });
  await talk.heard(late, 4);
  await talk.call("read").done;
  talk.saw.push(await late.done);
};
rows["a PING of the client"] = async (talk) => {
  await talk.call("plain").done;
  talk.saw.push(await new Promise((resolve) => talk.session.ping(Buffer.from("pingpong"), (error, _, payload) => resolve(`${error} ${payload}`))));
};
rows["what the two tell each other in settings"] = async (talk) => {
  await talk.call("plain").done;
  talk.saw.push(JSON.stringify(talk.session.remoteSettings));
};
rows["extended CONNECT"] = async (talk) => {
  await new Promise((resolve) => talk.session.on("remoteSettings", resolve));
  talk.saw.push(`offered: ${talk.session.remoteSettings.enableConnectProtocol}`);
  const headers = { ":method": "CONNECT", ":protocol": "websocket", ":scheme": "http", "sec-websocket-version": "13" };
  if (talk.session.remoteSettings.enableConnectProtocol) await talk.call("chat", headers, { act: (stream) => { stream.write("to and fro, "); stream.end(); } }).done;
  else await talk.call("plain").done;
};

const options = { "a server that pushes": { enablePush: true } };
const names = Object.keys(rows);
if (process.argv[3] === "names") {
  for (const name of names) console.log(name);
  await new Promise((written) => process.stdout.write("", written));
  process.exit(0);
}
const patience = (talk) => new Promise((resolve) => setTimeout(() => { talk.saw.push("<TIMEOUT> of the row"); resolve(); }, 2 * PATIENCE).unref());

async function work() {
  for (let name = names.shift(); name; name = names.shift()) {
    const talk = new Talk(name, options[name] ?? { enablePush: false });
    try {
      await Promise.race([rows[name](talk), patience(talk)]);
    } catch (error) {
      talk.saw.push(`threw ${error.message}`);
    }
    await talk.end();
  }
}
await Promise.all(Array.from({ length: 8 }, work));
process.stdout.write("", () => process.exit(0));
