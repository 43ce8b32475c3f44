//! The runtimes that `sidetrace check --trust` knows: how each makes one call, and which variables move it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// One way to make a call.
pub(super) struct Runtime {
    pub(super) name: &'static str,
    /// Variables of [`crate::trust::VARIABLES`] that it reads, the best advice first.
    pub(super) variables: &'static [&'static str],
    /// URL, port, and a folder with [`SCRIPTS`]. Its exit code is 0 if the call went well.
    pub(super) command: fn(&str, u16, &Path) -> Command,
    /// Set beside what the agent has.
    pub(super) environment: &'static [(&'static str, &'static str)],
    pub(super) patience: Duration,
    /// Some builds of it read the system's bundle and nothing else: a refusal then is no fault of the environment.
    pub(super) beyond_variables: bool,
}

/// The exit code of a script whose library is not installed.
pub(super) const ABSENT: i32 = 77;

pub(super) const RUNTIMES: &[Runtime] = &[
    Runtime { name: "python3 ssl", command: |url, _, _| python(PYTHON_SSL, url), ..SSL },
    Runtime {
        name: "python3 requests",
        variables: &["REQUESTS_CA_BUNDLE"],
        command: |url, _, _| python(PYTHON_REQUESTS, url),
        ..SSL
    },
    Runtime { name: "python3 httpx", command: |url, _, _| python(PYTHON_HTTPX, url), ..SSL },
    Runtime { name: "python3 httpx2", command: |url, _, _| python(PYTHON_HTTPX2, url), ..SSL },
    Runtime { name: "python3 aiohttp", command: |url, _, _| python(PYTHON_AIOHTTP, url), ..SSL },
    Runtime {
        name: "python3 boto3",
        variables: &["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"],
        command: |url, _, _| python(PYTHON_BOTO3, url),
        ..SSL
    },
    Runtime {
        name: "python3 grpcio",
        variables: &["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"],
        command: |_, port, _| python(PYTHON_GRPC, &format!("127.0.0.1:{port}")),
        ..SSL
    },
    Runtime {
        name: "node",
        variables: &["NODE_EXTRA_CA_CERTS"],
        command: |url, _, _| program("node", &["-e", NODE, url]),
        ..SSL
    },
    Runtime {
        name: "deno",
        variables: &["DENO_CERT", "NODE_EXTRA_CA_CERTS"],
        command: |url, _, _| program("deno", &["eval", &format!("await fetch({url:?})")]),
        environment: &[("DENO_NO_UPDATE_CHECK", "1")],
        ..SSL
    },
    Runtime {
        name: "bun",
        variables: &["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"],
        command: |url, _, _| program("bun", &["-e", &format!("await fetch({url:?})")]),
        ..SSL
    },
    Runtime {
        name: "java",
        variables: &["JAVA_TOOL_OPTIONS"],
        command: |url, _, scratch| {
            let mut java = Command::new("java");
            java.arg("-cp").arg(scratch).args(["SidetraceProbe", url]);
            java
        },
        ..SSL
    },
    Runtime {
        name: "go",
        command: |_, port, _| program("go", &["run", "probe.go", &format!("127.0.0.1:{port}")]),
        environment: &[("GOTOOLCHAIN", "local"), ("GOPROXY", "off"), ("GOFLAGS", "")],
        // It builds its cryptography first.
        patience: Duration::from_secs(180),
        ..SSL
    },
    Runtime {
        name: "ruby",
        command: |_, port, _| program("ruby", &["-rnet/http", "-e", RUBY, &port.to_string()]),
        ..SSL
    },
    Runtime {
        name: "dotnet",
        command: |url, _, _| program("dotnet", &["fsi", "--quiet", "--exec", "probe.fsx", url]),
        environment: &[("DOTNET_NOLOGO", "1"), ("DOTNET_CLI_TELEMETRY_OPTOUT", "1")],
        patience: Duration::from_secs(60),
        ..SSL
    },
    Runtime {
        name: "curl",
        variables: &["CURL_CA_BUNDLE", "SSL_CERT_FILE"],
        command: |url, _, _| program("curl", &["-sS", "--max-time", "10", url]),
        ..SSL
    },
    Runtime {
        name: "git",
        variables: &["GIT_SSL_CAINFO"],
        command: |url, _, _| program("git", &["ls-remote", url]),
        environment: &[("GIT_TERMINAL_PROMPT", "0")],
        ..SSL
    },
    Runtime {
        name: "openssl",
        command: |_, port, _| {
            let to = format!("127.0.0.1:{port}");
            program("openssl", &["s_client", "-verify_return_error", "-verify_ip", "127.0.0.1", "-connect", &to])
        },
        ..SSL
    },
    Runtime {
        name: "wget",
        command: |url, _, _| program("wget", &["-nv", "-t", "1", "-T", "10", "-O", "-", url]),
        beyond_variables: true,
        ..SSL
    },
];

/// What reads `SSL_CERT_FILE`, unless it says more.
const SSL: Runtime = Runtime {
    name: "",
    variables: &["SSL_CERT_FILE"],
    command: |_, _, _| Command::new(""),
    environment: &[],
    patience: Duration::from_secs(20),
    beyond_variables: false,
};

/// Sources and classes that are started as files.
pub(super) const SCRIPTS: [(&str, &[u8]); 3] = [
    ("SidetraceProbe.class", include_bytes!("SidetraceProbe.class")),
    ("probe.go", include_bytes!("probe.go")),
    ("probe.fsx", include_bytes!("probe.fsx")),
];

fn program(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments);
    command
}

fn python(script: &str, to: &str) -> Command {
    program("python3", &["-c", &format!("{PYTHON_FIND}{script}"), to])
}

const PYTHON_FIND: &str = r#"
import sys
def find(module):
    try:
        return __import__(module)
    except ModuleNotFoundError:
        sys.exit(77)
to = sys.argv[1]
"#;
const PYTHON_SSL: &str = "import urllib.request; urllib.request.urlopen(to, timeout=10)";
const PYTHON_REQUESTS: &str = "find('requests').get(to, timeout=10)";
const PYTHON_HTTPX: &str = "find('httpx').get(to)";
const PYTHON_HTTPX2: &str = "find('httpx2').get(to)";
const PYTHON_AIOHTTP: &str = r#"
import asyncio
aiohttp = find("aiohttp")
async def call():
    async with aiohttp.ClientSession() as session, session.get(to):
        pass
asyncio.run(call())
"#;
const PYTHON_BOTO3: &str = r#"
boto3 = find("boto3")
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
once = Config(retries={"total_max_attempts": 1})
try:
    boto3.client("sts", "us-east-1", endpoint_url=to, aws_access_key_id="-", aws_secret_access_key="-",
                 config=once).get_caller_identity()
except (ClientError, ResponseParserError):
    pass
"#;
const PYTHON_GRPC: &str = r#"
grpc = find("grpc")
channel = grpc.secure_channel(to, grpc.ssl_channel_credentials(), [("grpc.enable_http_proxy", 0)])
try:
    grpc.channel_ready_future(channel).result(timeout=5)
except grpc.FutureTimeoutError:
    sys.exit("the channel did not become ready")
"#;
const NODE: &str = r#"
require("https").get(process.argv[1], (answer) => answer.resume()).on("error", (error) => {
    console.error(error.message);
    process.exitCode = 1;
});
"#;
const RUBY: &str = r#"
Net::HTTP.start("127.0.0.1", Integer(ARGV[0]), nil, use_ssl: true, open_timeout: 10, read_timeout: 10) { |http| http.get("/") }
"#;
