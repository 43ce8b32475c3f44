//! What makes the agent's runtime trust us: bundles and stores in a folder, and the variables that point to them. No TLS here.
//!
//! The folder is written before the agent starts: a path that is not there yet ends many clients at once. [`VARIABLES`] is the
//! one table of who reads what; `docs/trust.md` shows it.

mod hashed;
mod java;
mod proxy;
mod variables;

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tracing::warn;

pub use self::proxy::{PROXY_VARIABLES, ProxyValue, ProxyVariable};
pub use self::variables::{Effect, File, Merge, VARIABLES, Variable, variables};

/// The authorities that this machine trusts without us.
#[derive(Debug)]
pub struct PublicRoots {
    /// Their certificates, in an order that does not change.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The file they came from, or the crate.
    pub source: &'static str,
}

/// The system's authorities or, where it has none, Mozilla's as they were when this program was built.
///
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` of our own process mean nothing here. A sidecar or a `sidetrace run` that inherits the
/// agent's environment would read what it wrote itself: its own root as a public one, and nothing before the first write.
/// Roots of a company are a setting of their own.
pub fn public_roots() -> PublicRoots {
    let files = SYSTEM_FILES.iter().map(|file| (*file, Some(Path::new(file)), None));
    let folders = SYSTEM_FOLDERS.iter().map(|folder| (*folder, None, Some(Path::new(folder))));
    for (source, file, folder) in files.chain(folders) {
        if Path::new(source).exists() {
            // What cannot be read is left out: one bad file must not cost all others.
            let certificates = rustls_native_certs::load_certs_from_paths(file, folder).certs;
            if !certificates.is_empty() {
                return PublicRoots { certificates, source };
            }
        }
    }
    PublicRoots { certificates: webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec(), source: "webpki-root-certs" }
}

/// Writes all files of the folder: `public` roots, `extra` ones that the operator trusts, and `ours` (two while one follows the
/// other). Each file is complete whenever somebody looks. The same input gives the same bytes. One writer per folder.
pub fn write(
    folder: &Path,
    public: &[CertificateDer<'_>],
    extra: &[CertificateDer<'_>],
    ours: &[CertificateDer<'_>],
) -> io::Result<()> {
    let roots = roots(public, extra, ours);
    let text = |wanted: &dyn Fn(&Root<'_>) -> bool| -> String {
        roots.iter().filter(|root| wanted(root)).map(|root| pem(root.certificate)).collect()
    };
    make_folder(folder)?;
    // Readers of the directory and of the bundle learn of a new root before anybody is told that it is there.
    hashed::write(&folder.join(File::Hashed.name()), &roots)?;
    replace(&folder.join(File::Bundle.name()), text(&|_| true).as_bytes())?;
    replace(&folder.join(File::Java.name()), &java::store(&roots))?;
    replace(&folder.join(File::Added.name()), text(&|root| root.origin != Origin::Public).as_bytes())?;
    replace(&folder.join(File::Ours.name()), text(&|root| root.origin == Origin::Ours).as_bytes())
}

/// One authority as the files name it.
struct Root<'a> {
    certificate: &'a [u8],
    /// Of the subject, as OpenSSL looks it up.
    hash: u32,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Public,
    Extra,
    Ours,
}

/// Every certificate once. One that is none is left out: a store that a client cannot read is worse than a missing root.
fn roots<'a>(
    public: &'a [CertificateDer<'_>],
    extra: &'a [CertificateDer<'_>],
    ours: &'a [CertificateDer<'_>],
) -> Vec<Root<'a>> {
    let mut seen = HashSet::new();
    // Who comes later has a certificate for itself: ours are ours even where the system trusts them already.
    let sets = [(ours, Origin::Ours), (extra, Origin::Extra), (public, Origin::Public)];
    let all =
        sets.into_iter().flat_map(|(set, origin)| set.iter().map(move |certificate| (certificate.as_ref(), origin)));
    all.filter(|(certificate, _)| seen.insert(*certificate))
        .filter_map(|(certificate, origin)| {
            let hash = hashed::subject_hash(certificate);
            if hash.is_none() {
                warn!(?origin, "a root cannot be read as a certificate; it is left out of what the agent trusts");
            }
            Some(Root { certificate, hash: hash?, origin })
        })
        .collect()
}

/// RFC 7468, with a newline at the end: whoever appends to a bundle relies on it.
fn pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = String::with_capacity(text.len() + text.len() / 64 + 64);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = next;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    // Whatever the umask: the agent is another user.
    fs::set_permissions(folder, Permissions::from_mode(0o755))
}

/// A reader sees the old file or the new one. A symbolic link in its place is replaced, not followed.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // O_EXCL: whatever stands there by now, a link included, is an error.
    let mut file = fs::File::create_new(&temporary)?;
    io::Write::write_all(&mut file, bytes)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    fs::rename(&temporary, path)
}

/// Where distributions keep the bundle that their OpenSSL reads.
const SYSTEM_FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Alpine, Arch
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",                  // older ones of these
    "/etc/ssl/ca-bundle.pem",                            // SUSE
    "/etc/pki/tls/cacert.pem",                           // OpenELEC
    "/etc/ssl/cert.pem",                                 // Alpine without its bundle
];
/// Where there is no bundle. Debian's also has certificates that are no authorities, which its bundle has not.
const SYSTEM_FOLDERS: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];
