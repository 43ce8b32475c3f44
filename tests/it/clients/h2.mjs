// An ordinary HTTP/2 client: `h2.mjs HOST:PORT SCENARIO` and prints what it sees.
import http2 from "node:http2";

const [authority, scenario] = process.argv.slice(2);
const session = http2.connect(`http://${authority}`, { maxSessionMemory: 1000 });
const events = [];
session.on("goaway", (code) => events.push(`goaway ${code}`));
session.on("error", (error) => events.push(`session ${error.code}`));

function call(headers, more = {}) {
  return new Promise((resolve) => {
    const stream = session.request(headers, more);
    const seen = [];
    let body = "";
    stream.setEncoding("latin1");
    stream.on("response", (answer) => seen.push(`${answer[":status"]} ${answer["x-answer"] ?? ""}`));
    stream.on("trailers", (trailers) => seen.push(`trailers ${trailers["x-trailer"]}`));
    stream.on("data", (data) => (body += data));
    stream.on("error", () => {});
    stream.on("close", () => resolve([...seen, body, `closed ${stream.rstCode}`].join(", ")));
    setTimeout(() => stream.close(http2.constants.NGHTTP2_CANCEL), 10000).unref();
  });
}
const opened = (path) => new Promise((resolve) => {
  const stream = session.request({ ":path": path });
  stream.on("error", () => {});
  stream.once("response", () => resolve(stream));
});

if (scenario === "calls") {
  console.log(await call({ ":path": "/plain" }));
  for (const code of [0, 1, 2, 7, 8, 11, 13]) console.log(code, await call({ ":path": `/reset/${code}` }));
} else if (scenario === "host") {
  console.log(await call({ ":path": "/plain", host: "only.example" }));
} else if (scenario === "unread") {
  if (session.connecting) await new Promise((resolve) => session.once("connect", resolve));
  session.setLocalWindowSize(256 * 1024 * 1024);
  for (let index = 0; index < 8; index++) (await opened("/big")).pause();
  console.log(await call({ ":path": "/plain" }));
} else if (scenario === "cancel") {
  const stream = await opened("/open");
  stream.close(http2.constants.NGHTTP2_CANCEL);
  console.log(await call({ ":path": "/plain" }));
} else if (scenario === "refused") {
  await opened("/open");
  console.log(await call({ ":path": "/refuse" }));
} else if (scenario === "goaway") {
  await opened("/open");
  const gone = new Promise((resolve) => session.on("goaway", resolve));
  console.log(await call({ ":path": "/goaway" }));
  await gone;
}
console.log(events.join(", "));
session.destroy();
