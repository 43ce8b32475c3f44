//! Files that others replace while we run: certificates, keys, tokens. Seen to have changed by their metadata.

use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Differs when a file was written or replaced, a symbolic link to it included (as the kubelet does).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(Option<[i64; 4]>);

impl Stamp {
    /// Taken before the file is read: what is written in between is then seen the next time.
    pub fn of(path: &Path) -> Self {
        Self(std::fs::metadata(path).ok().map(|file| {
            let bits = u64::cast_signed;
            [file.mtime(), file.mtime_nsec(), bits(file.size()), bits(file.ino())]
        }))
    }
}

/// The content of a regular file of reasonable size. The error names the file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let named = |error: Error| Error::new(error.kind(), format!("{}: {error}", path.display()));
    // A pipe would never end.
    if !std::fs::metadata(path).map_err(named)?.is_file() {
        return Err(named(Error::new(ErrorKind::InvalidInput, "not a regular file")));
    }
    // Made large enough at once: what grows leaves copies behind, of a key for example.
    let size = std::fs::metadata(path).map_err(named)?.len().min(MOST);
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 64);
    std::fs::File::open(path).and_then(|file| file.take(MOST + 1).read_to_end(&mut content)).map_err(named)?;
    if content.len() as u64 > MOST {
        return Err(named(Error::new(ErrorKind::FileTooLarge, "more than 1 MiB")));
    }
    Ok(content)
}

/// The certificates of a file in PEM; at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let found = found.map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        return Err(unusable(path, &pem::Error::NoItemsFound));
    }
    Ok(found)
}

/// The key of a file in PEM.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| unusable(path, &error))
}

/// By kind alone: a parser's words could repeat what the file holds.
fn unusable(path: &Path, error: &pem::Error) -> Error {
    let reason = match error {
        pem::Error::NoItemsFound => "nothing in PEM of the kind that is needed",
        _ => "not valid PEM",
    };
    Error::new(ErrorKind::InvalidData, format!("{}: {reason}", path.display()))
}

const MOST: u64 = 1024 * 1024;
