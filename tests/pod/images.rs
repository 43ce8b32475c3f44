//! Images: those under test, and those of agents and servers, which are built here once.

use std::process::Command;
use std::sync::OnceLock;

use crate::it::support::root;

/// The images under test, as the manifests call them. `SIDETRACE_POD_IMAGES=PREFIX` takes `PREFIXsidetrace:0.1.0` and
/// `PREFIXsidetrace-init:0.1.0`, which need not come from a whole build.
pub(crate) const OURS: [&str; 2] = ["sidetrace", "sidetrace-init"];

/// Where an image under test is.
pub(crate) fn ours(name: &str) -> String {
    let prefix = std::env::var_os("SIDETRACE_POD_IMAGES").unwrap_or_default();
    format!("localhost/{}{name}", prefix.to_str().unwrap())
}

/// Python with the libraries of agents and servers, and rotel.
pub(crate) fn python() -> &'static str {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| build(PYTHON, "python.Dockerfile", &[]));
    PYTHON
}

/// Node with the libraries of agents.
pub(crate) fn node() -> &'static str {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let found =
            Command::new("sh").args(["-c", "dirname \"$(readlink -f \"$(command -v node)\")\""]).output().unwrap();
        let node = format!("node={}", String::from_utf8(found.stdout).unwrap().trim());
        let libraries = root().join("target/tools/node-tests");
        assert!(libraries.exists(), "{} is missing: `make tools` installs it", libraries.display());
        // podman follows no link here.
        let libraries = libraries.canonicalize().unwrap();
        build(NODE, "node.Dockerfile", &[&node, &format!("libraries={}", libraries.display())]);
    });
    NODE
}

/// A podman command, on the machine as it is.
pub(crate) fn podman(words: &[&str]) -> Command {
    let mut command = Command::new("podman");
    command.env("CONTAINERS_CONF", root().join("tests/pod/containers.conf")).args(words);
    command
}

/// What a podman command printed; it has to succeed.
pub(crate) fn podman_ok(words: &[&str]) -> String {
    let output = podman(words).output().expect("podman is missing: `make test-pod` installs it");
    assert!(output.status.success(), "podman {words:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn build(image: &str, file: &str, contexts: &[&str]) {
    let folder = root().join("tests/pod/agents");
    let (file, folder) = (folder.join(file).display().to_string(), folder.display().to_string());
    let mut words = vec!["build", "--quiet", "--pull=never", "--tag", image, "--file", &file];
    words.extend(contexts.iter().flat_map(|context| ["--build-context", context]));
    words.push(&folder);
    podman_ok(&words);
}

const PYTHON: &str = "localhost/sidetrace-test-python:latest";
const NODE: &str = "localhost/sidetrace-test-node:latest";
