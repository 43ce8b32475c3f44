//! Nothing that others can read holds a key: neither files, nor the log, nor `/proc`, nor what operators are shown.

use std::fmt::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::support::{Pod, binary, full_uid_map};

const SIDECAR: u32 = 15100;
const NOBODY: u32 = 65534;

#[test]
fn the_memory_and_the_environment_of_the_sidecar_are_closed_to_everybody_but_root() {
    let pod = Pod::start();
    let id = pod.sidecar_id();
    for uid in others() {
        let files =
            ["mem", "environ", "maps", "smaps", "auxv", "io", "syscall", "stack", "fd/0"].map(|file| ("cat", file));
        for (read, file) in files.into_iter().chain([("ls", "fd/"), ("ls", "map_files/"), ("ls", "root/")]) {
            let path = format!("/proc/{id}/{file}");
            let seen = as_uid(uid, &format!("{read} {path}"));
            assert!(!seen.status.success() && seen.stdout.is_empty(), "{path} as {uid}");
        }
    }
    let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    // It still reads about itself what it shows.
    assert!(pod.metric("process_open_fds") > 0 && pod.metric("process_max_fds") > 0);
    assert!(pod.metric("process_resident_memory_bytes") > 0);
}

#[test]
fn the_authoritys_key_is_in_one_file_and_nowhere_else() {
    let folder = Folder::new();
    let (state, trust) = (folder.0.join("state/ca.pem"), folder.0.join("trust"));
    let pod = Pod::start_with(&[
        ("SIDETRACE_CA_STATE", state.to_str().unwrap()),
        ("SIDETRACE_TRUST_DIR", trust.to_str().unwrap()),
        ("SIDETRACE_LOG", "trace"),
    ]);
    let metadata = std::fs::metadata(&state).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    let shown = Shown::of(&std::fs::read(&state).unwrap());
    assert!(shown.in_bytes(&std::fs::read(&state).unwrap()).is_some(), "the search finds it where it is");
    assert!(std::fs::read_dir(&trust).unwrap().count() > 0, "the files of trust are there");
    for uid in others().into_iter().filter(|uid| *uid != SIDECAR) {
        assert!(!as_uid(uid, &format!("cat {}", state.display())).status.success());
        let files = as_uid(uid, &format!("find {} -type f -exec cat {{}} +", folder.0.display()));
        assert!(!files.stdout.is_empty(), "the files of trust can be read");
        shown.not_in("files", &files.stdout);
    }
    // Whatever of it can be read at all.
    for uid in others() {
        let id = pod.sidecar_id();
        let proc = as_uid(uid, &format!("find /proc/{id} -type f -exec cat {{}} \\;"));
        assert!(!proc.stdout.is_empty());
        shown.not_in("/proc", &proc.stdout);
    }
    shown.not_in("/metrics", pod.agent.sh_ok("curl -sf http://127.0.0.1:15120/metrics").as_bytes());
    let config = Command::new(binary())
        .arg("config")
        .env_clear()
        .envs([("SIDETRACE_CA_STATE", &state), ("SIDETRACE_TRUST_DIR", &trust)])
        .output()
        .unwrap();
    assert!(config.status.success());
    shown.not_in("`sidetrace config`", &config.stdout);
    let mut pod = pod;
    shown.not_in("the log", pod.stop_sidecar().as_bytes());
}

/// Users that must not see anything. Where there is but one user, it is the sidecar's too.
fn others() -> Vec<u32> {
    assert!(full_uid_map(), "this test needs other users: run it as root, not in a user namespace with one");
    vec![NOBODY, SIDECAR]
}

fn as_uid(uid: u32, script: &str) -> std::process::Output {
    Command::new("sh").args(["-c", script]).uid(uid).gid(uid).output().unwrap()
}

/// A key in every form that it could be printed in.
struct Shown(Vec<(&'static str, Vec<u8>)>);

impl Shown {
    fn of(pem: &[u8]) -> Self {
        let key = PrivateKeyDer::from_pem_slice(pem).unwrap();
        let der = key.secret_der();
        // ECPrivateKey: version 1, then the number as an OCTET STRING of 32 bytes.
        let marker = [2, 1, 1, 4, 32];
        let at = der.windows(marker.len()).position(|window| window == marker).unwrap() + marker.len();
        let number = &der[at..at + 32];
        let hex = number.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        let decimals = number.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        let mut forms = vec![
            ("raw", number.to_vec()),
            ("hex", hex.to_uppercase().into_bytes()),
            ("hex", hex.into_bytes()),
            ("decimals", decimals.into_bytes()),
        ];
        // Base64 of what the number is part of: from any of three places, less what its neighbours change.
        for skip in 0..3 {
            let whole = STANDARD.encode(&number[skip..]);
            forms.push(("base64", whole.as_bytes()[..36].to_vec()));
        }
        // The first line holds the kind of key alone; the number is in the second.
        let text = String::from_utf8_lossy(pem);
        let lines = text.lines().filter(|line| !line.starts_with("-----"));
        forms.extend(lines.take(2).map(|line| ("PEM", line.as_bytes().to_vec())));
        Self(forms)
    }

    fn in_bytes(&self, bytes: &[u8]) -> Option<&'static str> {
        self.0.iter().find(|(_, form)| memchr::memmem::find(bytes, form).is_some()).map(|(name, _)| *name)
    }

    fn not_in(&self, place: &str, bytes: &[u8]) {
        assert_eq!(self.in_bytes(bytes), None, "the key is in {place}");
    }
}

/// On a memory volume, for the sidecar to write in and for everybody to enter.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = PathBuf::from("/dev/shm").join(format!("sidetrace-secrets-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        for name in ["state", "trust"] {
            let folder = path.join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
            chown(&folder, Some(SIDECAR), Some(SIDECAR)).unwrap();
        }
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
