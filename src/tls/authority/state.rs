//! Our own root in one file, so that a restart of the sidecar keeps the agent's trust. The file is on a memory volume: a
//! key on a disk outlives the pod.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::info;
use zeroize::Zeroizing;

use super::certificate::Key;
use super::signer::Ca;

/// The root that the file holds; a new one, written there, if it holds none or one that ends soon. What cannot be used
/// stops the start: the agent may trust it still, so it is not replaced in silence.
pub(super) fn open(path: &Path, now: SystemTime) -> Result<Ca> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    on_memory(folder).map_err(|error| named(path, &error.to_string()))?;
    match load(path).map_err(|error| named(path, &error.to_string()))? {
        Some(ca) if ca.validity().from > now => {
            Err(named(path, "holds a root that is not valid yet: set the clock, or delete the file"))
        }
        Some(ca) if ca.validity().until > now + LEAST => Ok(ca),
        found => {
            if found.is_some() {
                info!(file = %path.display(), "the root ends soon: a new one is made");
            }
            let (ca, pkcs8) = Ca::new(now).ok_or_else(|| Error::other("a key could not be made"))?;
            let root = ca.root().ok_or_else(|| Error::other("no root"))?;
            let text =
                Zeroizing::new([pem("PRIVATE KEY", &pkcs8).as_bytes(), pem("CERTIFICATE", root).as_bytes()].concat());
            store(folder, path, &text).map_err(|error| named(path, &format!("cannot be written: {error}")))?;
            Ok(ca)
        }
    }
}

/// `None`: there is no file yet, or an empty one.
fn load(path: &Path) -> Result<Option<Ca>> {
    // Not a link, and without waiting for whoever is at the other end of a pipe.
    let mut file = match OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
            return Err(refused("is a symbolic link; name the file itself"));
        }
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(refused("is not a regular file"));
    }
    let own = nix::unistd::geteuid().as_raw();
    if metadata.uid() != own {
        return Err(refused(&format!("belongs to uid {}, not to us ({own}): delete it", metadata.uid())));
    }
    if metadata.mode() & 0o077 != 0 {
        let mode = metadata.mode() & 0o7777;
        return Err(refused(&format!(
            "can be read by others (mode {mode:04o}, not 0600), so its key is no secret: delete it"
        )));
    }
    if metadata.len() > MOST {
        return Err(refused("is too large to be a root of ours: delete it"));
    }
    // Large enough at once: what grows leaves copies of the key behind.
    let mut content = Zeroizing::new(vec![0; usize::try_from(MOST).unwrap_or_default()]);
    let mut length = 0;
    while let Some(rest) = content.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            count => length += count,
        }
    }
    if length == 0 {
        return Ok(None);
    }
    let found = content.get(..length).and_then(read).filter(Ca::ends_in_a_root);
    found
        .map(Some)
        .ok_or_else(|| refused("is damaged. Delete it for a new root, and restart the agent, which trusts the old one"))
}

fn read(content: &[u8]) -> Option<Ca> {
    let key = Zeroizing::new(PrivateKeyDer::from_pem_slice(content).ok()?);
    let root = CertificateDer::from_pem_slice(content).ok()?;
    Ca::of(vec![root], Key::read(&key)?).ok()
}

/// The whole of it or nothing: a file beside it takes its name.
fn store(folder: &Path, path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.file_name().ok_or_else(|| refused("names no file"))?.to_owned();
    name.push(".new");
    let new = folder.join(name);
    // Of a start that was killed between the two.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(O_NOFOLLOW).open(&new)?;
    let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written?;
    File::open(folder)?.sync_all()
}

fn on_memory(folder: &Path) -> Result<()> {
    let folder = File::open(folder)
        .map_err(|error| Error::new(error.kind(), format!("its directory cannot be opened: {error}")))?;
    match fstatfs(&folder)?.filesystem_type() {
        TMPFS_MAGIC | RAMFS_MAGIC => Ok(()),
        _ => Err(refused("is not on a memory volume, and a key on a disk outlives the pod")),
    }
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(STANDARD.encode(der));
    // Large enough at once, as above.
    let mut text = Zeroizing::new(String::with_capacity(2 * encoded.len() + 4 * label.len() + 64));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn refused(text: &str) -> Error {
    Error::new(ErrorKind::InvalidData, text)
}

fn named(path: &Path, text: &str) -> Error {
    let accepted = "a file for our root on a memory volume (tmpfs, such as an emptyDir with medium: Memory) is needed: \
                    empty or missing at first, then ours alone (mode 0600)";
    Error::new(ErrorKind::InvalidData, format!("SIDETRACE_CA_STATE: {}: {text}. {accepted}", path.display()))
}

/// A root that has less to live is replaced: it would end under an agent that trusts it.
const LEAST: Duration = Duration::from_secs(48 * 3600);
const MOST: u64 = 16 * 1024;
/// `statfs(2)`.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
