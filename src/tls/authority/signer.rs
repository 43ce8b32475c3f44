//! Who signs: an authority with its certificates, and what signs leaves in its name for a day.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::fill;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::certificate::{self, Authority, Issuer, Key, Purpose, Validity, issue};
use super::leaves::Leaf;

/// An authority: ours, or a mounted one.
#[derive(Clone, Debug)]
pub(super) struct Ca {
    /// Its certificate and those above it.
    chain: Vec<CertificateDer<'static>>,
    issuer: Issuer,
    /// Whether an intermediate may stand below it.
    delegates: bool,
}

impl Ca {
    /// A root of our own, and its key for whoever keeps it.
    pub(super) fn new(now: SystemTime) -> Option<(Self, Zeroizing<Vec<u8>>)> {
        let (key, pkcs8) = Key::generate()?;
        let name = format!("Sidetrace CA {}", random_name()?);
        let validity = Validity { from: earlier(now, ROOT_BACK), until: now + ROOT };
        let root = issue(Purpose::Authority { name: &name, below: 1 }, validity, &key, None)?;
        Some((Self::of(vec![root], key).ok()?, pkcs8))
    }

    /// What somebody made: the certificate, those above it, and the certificate's key. The error ends "`file` …".
    pub(super) fn of(chain: Vec<CertificateDer<'static>>, key: Key) -> Result<Self, &'static str> {
        let read: Option<Vec<_>> = chain.iter().map(|certificate| Authority::read(certificate)).collect();
        let read = read.ok_or("holds something that is no X.509 certificate")?;
        let first = read.first().ok_or("holds no certificate")?;
        if !key.belongs_to(first) {
            return Err("does not belong to the key: the first certificate has to be the key's");
        }
        if read.iter().any(|certificate| !certificate.signs) {
            return Err(
                "is no certificate authority: basicConstraints CA:TRUE, and keyCertSign in a keyUsage, are needed",
            );
        }
        let linked = |pair: &[Authority<'_>]| matches!(pair, [below, above] if below.issuer == above.subject);
        if !read.windows(2).all(linked) {
            return Err("is in the wrong order: each certificate has to be issued by the one that follows");
        }
        let validity = read.iter().skip(1).fold(first.validity, |all, one| all.within(one.validity));
        // Each limits how many intermediates are below it: one more than there are already has to fit.
        let delegates = read.iter().zip(1..).all(|(one, below)| one.below.is_none_or(|most| most >= below));
        let (subject, key_id) = (first.subject.to_vec(), first.key_id.clone());
        Ok(Self { issuer: Issuer { subject, key_id, key, validity }, delegates, chain })
    }

    /// What clients have to trust.
    pub(super) fn root(&self) -> Option<&CertificateDer<'static>> {
        self.chain.last()
    }

    /// Whether the topmost certificate is a root, which some clients insist on.
    pub(super) fn ends_in_a_root(&self) -> bool {
        self.root().and_then(|root| Authority::read(root)).is_some_and(|root| root.is_root())
    }

    /// Whether who trusts one trusts the other: the same name and key at the top.
    pub(super) fn shares_root(&self, other: &Self) -> bool {
        let [own, other] = [self, other].map(|ca| ca.root().and_then(|root| Authority::read(root)));
        matches!((own, other), (Some(own), Some(other)) if own.subject == other.subject && own.public == other.public)
    }

    /// From when until when it may sign, and those above it stand.
    pub(super) fn validity(&self) -> Validity {
        self.issuer.validity
    }

    /// What is sent below a leaf: all but a root, which clients have or do not trust.
    fn sent(&self) -> Vec<CertificateDer<'static>> {
        let count = self.chain.len() - usize::from(self.ends_in_a_root());
        self.chain.iter().take(count).cloned().collect()
    }
}

/// Signs leaves for a day, with an intermediate of ours where the authority allows one.
#[derive(Debug)]
pub(super) struct Signer {
    issuer: Issuer,
    sent: Vec<CertificateDer<'static>>,
    // One for all leaves of this signer. It is as secret as the signer's own, in the memory of the same process; a key for
    // each name would protect nothing, and cost each its time and its bytes.
    leaf_key: Key,
    /// While it need not be replaced.
    pub(super) fresh: Validity,
}

impl Signer {
    /// `None` where the authority may not sign now.
    pub(super) fn new(ca: &Ca, now: SystemTime) -> Option<Self> {
        if !ca.validity().holds(now) {
            return None;
        }
        let (leaf_key, _) = Key::generate()?;
        let mut sent = ca.sent();
        let issuer = if ca.delegates {
            let (key, _) = Key::generate()?;
            let name = format!("Sidetrace Intermediate {}", random_name()?);
            let validity = Validity { from: earlier(now, BACK), until: now + INTERMEDIATE }.within(ca.validity());
            let purpose = Purpose::Authority { name: &name, below: 0 };
            sent.insert(0, issue(purpose, validity, &key, Some(&ca.issuer))?);
            let read = Authority::read(sent.first()?)?;
            Issuer { subject: certificate::common_name(&name), key_id: read.key_id, key, validity }
        } else {
            ca.issuer.clone()
        };
        let fresh = fresh(now, ROTATION, issuer.validity);
        Some(Self { issuer, sent, leaf_key, fresh })
    }

    /// A certificate for this name, never longer than the signer's own.
    pub(super) fn leaf(&self, name: &ServerName<'_>, now: SystemTime) -> Option<Leaf> {
        let valid = Validity { from: earlier(now, BACK), until: now + LEAF }.within(self.issuer.validity);
        if !valid.holds(now) {
            return None;
        }
        let leaf = issue(Purpose::Server(name), valid, &self.leaf_key, Some(&self.issuer))?;
        let mut chain = Vec::with_capacity(1 + self.sent.len());
        chain.push(leaf);
        chain.extend(self.sent.iter().cloned());
        let key = Arc::new(CertifiedKey::new(chain, self.leaf_key.signing()));
        Some(Leaf { key, fresh: fresh(now, LEAF / 2, valid), valid })
    }
}

/// From a little before now, so that a clock that is set back further makes anew what is not valid yet; until so much
/// later, or half of what is left.
fn fresh(now: SystemTime, most: Duration, valid: Validity) -> Validity {
    let left = valid.until.duration_since(now).unwrap_or_default();
    Validity { from: earlier(now, BACK / 2), until: now + most.min(left / 2) }
}

fn earlier(now: SystemTime, by: Duration) -> SystemTime {
    now.checked_sub(by).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// So that two pods' authorities, and two intermediates, differ in name.
fn random_name() -> Option<String> {
    let mut bytes = [0; 4];
    fill(&mut bytes).ok()?;
    Some(format!("{:08x}", u32::from_be_bytes(bytes)))
}

const HOUR: Duration = Duration::from_secs(3600);
/// Clocks of clients that are in other machines, or slow.
const BACK: Duration = HOUR;
const LEAF: Duration = HOUR.saturating_mul(24);
const ROTATION: Duration = HOUR.saturating_mul(24);
const INTERMEDIATE: Duration = HOUR.saturating_mul(24 * 7);
const ROOT_BACK: Duration = HOUR.saturating_mul(24);
const ROOT: Duration = HOUR.saturating_mul(24 * 3652);
