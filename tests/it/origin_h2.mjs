// An ordinary HTTP/2 server without TLS: `origin_h2.mjs PORT`. Says what it saw as JSON lines.
import http2 from "node:http2";

const say = (call) => console.log(JSON.stringify({ call }));
const server = http2.createServer({ settings: { maxConcurrentStreams: 500 }, maxSessionMemory: 1000 });
server.on("stream", (stream, headers) => {
  const path = headers[":path"];
  stream.on("error", () => {});
  stream.on("close", () => say({ path, closed: stream.rstCode }));
  if (path === "/big") {
    stream.respond({ ":status": 200 });
    stream.end(Buffer.alloc(16 * 1024 * 1024));
  } else if (path.startsWith("/reset/")) {
    stream.close(Number(path.slice("/reset/".length)));
  } else if (path === "/open") {
    stream.respond({ ":status": 200 });
    stream.write("open");
  } else if (path === "/refuse") {
    stream.session.goaway(0, stream.id - 2); // all above the one before this one, this one too
  } else if (path === "/goaway") {
    stream.respond({ ":status": 200 });
    stream.end("going");
    stream.session.goaway(0);
  } else {
    const { ":authority": authority = "none", host = "none" } = headers;
    stream.respond({ ":status": 200, "x-answer": "yes" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-trailer": "too" }));
    stream.end(`${authority} ${host}`);
  }
});
server.listen(Number(process.argv[2]), "::", () => console.log("listening"));
