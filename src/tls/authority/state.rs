//! Our own root in one file, so that a restart of the sidecar keeps the agent's trust. The file is on a memory volume: a
//! key on a disk outlives the pod.

use std::fs::{File, Metadata, OpenOptions};
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
        // None, or one that ends under an agent that trusts it.
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
    trustworthy(&file.metadata()?, nix::unistd::geteuid().as_raw())?;
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

/// A secret that others could read, or have put there, is none.
fn trustworthy(metadata: &Metadata, own: u32) -> Result<()> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if !metadata.is_file() {
        return Err(refused("is not a regular file"));
    }
    if owner != own {
        return Err(refused(&format!("belongs to uid {owner}, not to us ({own}): delete it")));
    }
    if mode & 0o077 != 0 {
        return Err(refused(&format!("is open to others (mode {mode:04o}), so its key is no secret: delete it")));
    }
    if metadata.len() > MOST {
        return Err(refused("is too large to be a root of ours: delete it"));
    }
    Ok(())
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

/// A root that has less to live is replaced.
const LEAST: Duration = Duration::from_secs(48 * 3600);
const MOST: u64 = 16 * 1024;
/// `statfs(2)`.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_374_000)
    }

    /// A directory of its own on a memory volume.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = Path::new("/dev/shm").join(format!("sidetrace-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("ca.pem")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn error(path: &Path) -> String {
        let error = open(path, now()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("SIDETRACE_CA_STATE: {}: ", path.display())), "{error}");
        error
    }

    #[test]
    fn a_root_is_made_once_and_found_again_by_the_next_start() {
        let folder = Folder::new("state-once");
        let first = open(&folder.file(), now()).unwrap();
        let metadata = std::fs::metadata(folder.file()).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o600);
        let again = open(&folder.file(), now() + Duration::from_secs(86_400)).unwrap();
        assert_eq!(first.root(), again.root());
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "nothing is left beside it");
        std::fs::write(folder.file(), "").unwrap();
        let new = open(&folder.file(), now()).unwrap();
        assert_ne!(first.root(), new.root(), "an empty file is none");
        assert_eq!(open(&folder.file(), now()).unwrap().root(), new.root());
    }

    #[test]
    fn a_root_that_ends_soon_is_replaced_and_one_from_the_future_is_refused() {
        let folder = Folder::new("state-soon");
        let first = open(&folder.file(), now()).unwrap();
        let end = first.validity().until;
        assert_eq!(open(&folder.file(), end - LEAST - Duration::from_secs(1)).unwrap().root(), first.root());
        let next = open(&folder.file(), end - LEAST).unwrap();
        assert_ne!(next.root(), first.root());
        assert!(error(&folder.file()).contains("not valid yet"));
    }

    #[test]
    fn what_is_left_of_a_start_that_was_killed_is_no_hindrance() {
        let folder = Folder::new("state-killed");
        symlink("/etc/passwd", folder.0.join("ca.pem.new")).unwrap();
        let ca = open(&folder.file(), now()).unwrap();
        assert_eq!(open(&folder.file(), now()).unwrap().root(), ca.root());
    }

    #[test]
    fn a_file_that_is_no_secret_of_ours_stops_the_start() {
        let folder = Folder::new("state-refused");
        let file = folder.file();
        open(&file, now()).unwrap();
        for mode in [0o640, 0o604, 0o660] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(error(&file).contains("open to others"), "{mode:o}");
        }
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let metadata = std::fs::metadata(&file).unwrap();
        let refused = trustworthy(&metadata, metadata.uid() + 1).unwrap_err();
        assert!(refused.to_string().contains("belongs to uid"), "{refused}");
        let link = folder.0.join("link.pem");
        symlink(&file, &link).unwrap();
        assert!(error(&link).contains("symbolic link"));
        assert!(error(&folder.0).contains("not a regular file"));
        nix::unistd::mkfifo(&folder.0.join("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(error(&folder.0.join("pipe")).contains("not a regular file"));
        assert!(error(&folder.0.join("missing/ca.pem")).contains("its directory cannot be opened"));
        assert!(error(Path::new("/proc/ca.pem")).contains("not on a memory volume"));
    }

    #[test]
    fn a_damaged_file_stops_the_start_and_is_left_as_it_is() {
        let folder = Folder::new("state-damaged");
        let file = folder.file();
        let other = open(&folder.0.join("other.pem"), now()).unwrap();
        open(&file, now()).unwrap();
        let whole = std::fs::read_to_string(&file).unwrap();
        let key_alone = whole.split_inclusive("-----END PRIVATE KEY-----\n").next().unwrap();
        let mixed = format!("{key_alone}{}", *pem("CERTIFICATE", other.root().unwrap()));
        let damaged = [&whole[..whole.len() / 2], &whole[1..], "\n", key_alone, &mixed, &whole.replace('A', "B")];
        for text in damaged {
            std::fs::write(&file, text).unwrap();
            let error = error(&file);
            assert!(error.contains("is damaged") && !error.contains("BEGIN"), "{error}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
        std::fs::write(&file, " ".repeat(20_000)).unwrap();
        assert!(error(&file).contains("too large"));
    }
}
