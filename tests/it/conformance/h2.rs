//! HTTP/2 by prior knowledge, and gRPC: Node's client and server, curl, nginx, and grpcio on both sides.

use super::super::support::WORLD_V4;
use super::playing::{Program, Stage, run};
use super::row::{Row, named};
use super::servers::{calls, nginx};

pub(super) fn programs(stage: &Stage) -> (Vec<Program>, Vec<Program>) {
    let url = format!("http://{WORLD_V4}:8097");
    (vec![run("h2_origin.mjs", &["8097"]), nginx(stage)], vec![run("h2_client.mjs", &[&url])])
}

pub(super) fn rows() -> Vec<Row> {
    let statuses =
        [204, 205, 299, 304, 404, 421, 500, 599].map(|status| named(&format!("status {status} without a body")));
    let from_server = (0..14).map(|code| named(&format!("RST_STREAM {code} from the server")));
    let from_client = (0..14).map(|code| named(&format!("RST_STREAM {code} from the client")));
    let same = SAME.iter().map(|name| named(name));
    let limits = LIMITS.iter().map(|&(name, why)| named(name).differs(why));
    same.chain(limits).chain(statuses).chain(from_server).chain(from_client).chain(with_nginx()).collect()
}

fn with_nginx() -> Vec<Row> {
    let row = |name: &str, arguments: &[&str]| {
        calls(&format!("curl and nginx over h2c: {name}"), 8092, &[&["--http2-prior-knowledge"], arguments].concat())
    };
    // One call each: curl 7.88 cannot use such a connection twice. No bodies: whether nginx's RST_STREAM, which follows an
    // answer that does not want one, comes before curl has said it, is chance.
    vec![
        row("GET", &["-i", "URL/plain?ROW"]),
        row("HEAD", &["-I", "URL/plain?ROW"]),
        row("404", &["-i", "URL/missing?ROW"]),
        row("204", &["-i", "URL/empty?ROW"]),
        row("4 MiB", &["-i", "URL/large?ROW"]),
        row("ranges", &["-i", "-r", "5-9,-3", "URL/large?ROW"]),
        row("gzip as it was made", &["-i", "-H", "Accept-Encoding: gzip", "URL/stream?ROW"]),
        row("a stream dropped without an answer", &["-i", "URL/dropped?ROW"]),
    ]
}

/// grpcio on both sides.
pub(super) fn grpc_programs() -> (Vec<Program>, Vec<Program>) {
    (vec![run("grpc_origin.py", &["8098"])], vec![run("grpc_client.py", &[&format!("{WORLD_V4}:8098")])])
}

pub(super) fn grpc_rows() -> Vec<Row> {
    let statuses = (1..17).map(|code| named(&format!("grpc: status {code} as trailers only")));
    let same = GRPC.iter().map(|name| named(&format!("grpc: {name}")));
    let at_once = AT_ONCE.iter().map(|name| named(&format!("grpc: {name}")).at_once());
    let grouped = named("grpc: metadata, repeated and binary").differs("fields of one name are grouped");
    statuses.chain(same).chain(at_once).chain([grouped]).collect()
}

const SAME: [&str; 37] = [
    "extended CONNECT",
    "a client that goes in the middle of its body",
    "early hints and processing",
    "100-continue",
    "a GET with trailers",
    "a POST with a body",
    "an echo with trailers of two values",
    "trailers of the request",
    "HEAD with a length",
    "GET with a length",
    "a method of its own",
    "OPTIONS and an odd target",
    "cookies in several fields, and repeated names",
    "authority and host that differ",
    "a traceparent of the client's own",
    "a header of 60,000 bytes",
    "an answer's header of 60,000 bytes",
    "five hundred headers",
    "an answer's five hundred headers",
    "8 MiB down",
    "8 MiB up",
    "2 MiB up and down at once",
    "an answer before the body is said",
    "an answer, and NO_ERROR for a body that is not wanted",
    "CONNECT",
    "RST_STREAM 2 from the server in the middle of its answer",
    "RST_STREAM 8 from a client that has said all",
    "GOAWAY 0 from the server",
    "GOAWAY 2 from the server",
    "GOAWAY 11 from the server",
    "a server that shuts down after its last answer",
    "a client that goes in the middle of an answer",
    "both sides in turn, each heard before the next is said",
    "a hundred streams at once",
    "a thousand streams one behind the other",
    "an answer that nobody reads holds up no other",
    "a body that the server reads late holds up no other",
];

/// What two joined connections cannot pass on; the README names it.
const LIMITS: [(&str, &str); 8] = [
    ("GOAWAY 0 from the client", "the data of a GOAWAY is not passed on"),
    ("GOAWAY 0 with a reason from the server", "the data of a GOAWAY is not passed on"),
    ("a PING of the server", "PING is answered by us"),
    ("what the two tell each other in settings", "each side's settings are ours"),
    ("a weight", "priorities are ignored"),
    ("an ALTSVC frame", "frames of extensions are dropped"),
    ("a server that pushes", "server push is not offered"),
    ("a PING of the client", "PING is answered by us"),
];

const GRPC: [&str; 22] = [
    "a call that the client cancels",
    "a unary call",
    "empty messages",
    "a method that nobody has",
    "8 MiB up and down",
    "an answer larger than the client takes",
    "a request compressed with gzip",
    "a request compressed with deflate",
    "an answer compressed with gzip",
    "a deadline that passes",
    "a stream of the server's",
    "a stream of the server's without messages",
    "a stream of the server's that it aborts",
    "a stream of the server's that the client cancels",
    "a stream of the server's whose deadline passes",
    "a stream of the client's",
    "a stream of the client's without messages",
    "a stream of the client's that is answered early",
    "both sides in turn",
    "two hundred messages of 64 KiB both ways",
    "keepalive while a call is long",
    "an authority of its own",
];

const AT_ONCE: [&str; 1] = ["fifty calls at once"];
