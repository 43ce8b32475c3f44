//! An authority of somebody else's, from files that are replaced while we run. A new one is published before it signs, so
//! that clients that start in between trust it already.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::warn;
use zeroize::Zeroizing;

use super::certificate::Key;
use super::signer::Ca;
use crate::files::{self, Stamp};

/// The files, and how they looked.
#[derive(Debug)]
pub(super) struct Mounted {
    certificate: PathBuf,
    key: PathBuf,
    pub(super) overlap: Duration,
    /// When what is in force was read.
    read: [Stamp; 2],
    /// When the last refusal was told.
    refused: Option<[Stamp; 2]>,
}

/// What came of a look at the files.
#[derive(Debug)]
pub(super) enum Look {
    /// They are as they were, or as bad as they were.
    Same,
    /// They hold another authority.
    New(Ca),
    /// They cannot be used; told for the first time.
    Refused,
}

impl Mounted {
    /// What the files hold at the start.
    pub(super) fn open(certificate: &Path, key: &Path, overlap: Duration, now: SystemTime) -> Result<(Self, Ca)> {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let read = [Stamp::of(&certificate), Stamp::of(&key)];
        let mounted = Self { certificate, key, overlap, read, refused: None };
        let ca = mounted.load(now)?;
        Ok((mounted, ca))
    }

    /// Reads the files again if they have changed. Bad ones are read each time, for one that is not valid yet will be, but
    /// told once.
    pub(super) fn look(&mut self, now: SystemTime) -> Look {
        let stamps = [Stamp::of(&self.certificate), Stamp::of(&self.key)];
        if stamps == self.read {
            return Look::Same;
        }
        match self.load(now) {
            Ok(ca) => {
                (self.read, self.refused) = (stamps, None);
                Look::New(ca)
            }
            Err(_) if self.refused.as_ref() == Some(&stamps) => Look::Same,
            Err(error) => {
                warn!(%error, "the new certificate authority cannot be used; the last one holds");
                self.refused = Some(stamps);
                Look::Refused
            }
        }
    }

    fn load(&self, now: SystemTime) -> Result<Ca> {
        let certificates = || -> Result<Vec<_>> {
            let content = files::read(&self.certificate)?;
            let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
            found.map_err(|_| bad(&self.certificate, "is not valid PEM"))
        };
        let certificates = certificates().map_err(|error| named(CERTIFICATE, &error))?;
        let key = self.load_key().map_err(|error| named(KEY, &error))?;
        let of_certificate = |reason| named(CERTIFICATE, &bad(&self.certificate, reason));
        let ca = Ca::of(certificates, key).map_err(of_certificate)?;
        if !ca.validity().holds(now) {
            let reason = if ca.validity().from > now { "is not valid yet" } else { "has expired" };
            return Err(of_certificate(reason));
        }
        if !ca.ends_in_a_root() {
            warn!(
                file = %self.certificate.display(),
                "the topmost certificate is not self-signed, and some clients trust only roots: append the root"
            );
        }
        Ok(ca)
    }

    fn load_key(&self) -> Result<Key> {
        let content = Zeroizing::new(files::read(&self.key)?);
        // Without the parser's words, which could repeat what the file holds.
        let der = PrivateKeyDer::from_pem_slice(&content).map_err(|_| bad(&self.key, "holds no private key in PEM"))?;
        Key::read(&Zeroizing::new(der)).ok_or_else(|| bad(&self.key, "holds a key of a kind that we cannot sign with"))
    }
}

fn bad(path: &Path, reason: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("{} {reason}", path.display()))
}

fn named((variable, accepted): (&str, &str), error: &Error) -> Error {
    Error::new(error.kind(), format!("{variable}: {error}. Accepted: {accepted}"))
}

const CERTIFICATE: (&str, &str) =
    ("SIDETRACE_CA_CERTIFICATE", "a PEM file with the authority's certificate, then those above it up to the root");
const KEY: (&str, &str) = (
    "SIDETRACE_CA_KEY",
    "a PEM file with the key of that certificate, not encrypted: ECDSA (P-256, P-384, P-521), RSA or Ed25519 in PKCS #8, SEC 1 or PKCS #1",
);
