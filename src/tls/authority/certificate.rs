//! Certificates (RFC 5280), written and read. Written here rather than by a library because the issuer of a leaf has to be
//! byte for byte the subject of a mounted authority, and libraries that write names from a map lose what occurs twice in
//! one, as `DC=corp, DC=example` of every Active Directory does.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SystemRandom, fill};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use tokio_rustls::rustls::SignatureScheme;
use tokio_rustls::rustls::crypto::aws_lc_rs::sign::any_supported_type;
use tokio_rustls::rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, alg_id,
};
use tokio_rustls::rustls::sign::SigningKey;
use zeroize::Zeroizing;

use crate::der::{self, Element, Reader, element};

/// A private key that signs. Its bytes are with the cryptography library, which wipes them when it is done.
#[derive(Clone)]
pub(super) struct Key {
    signing: Arc<dyn SigningKey>,
    scheme: SignatureScheme,
    algorithm: AlgorithmIdentifier,
    /// `SubjectPublicKeyInfo`.
    public: Arc<[u8]>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.signing.algorithm()).finish_non_exhaustive()
    }
}

impl Key {
    /// A new one on P-256, and its PKCS #8 for whoever keeps it.
    pub(super) fn generate() -> Option<(Self, Zeroizing<Vec<u8>>)> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).ok()?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        let key = Self::read(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(&pkcs8[..])))?;
        Some((key, pkcs8))
    }

    /// PKCS #8, SEC 1 or PKCS #1, of a kind that can sign certificates.
    pub(super) fn read(der: &PrivateKeyDer<'_>) -> Option<Self> {
        let signing = any_supported_type(der).ok()?;
        let public = Arc::from(signing.public_key()?.as_ref());
        let usable = |(scheme, _): &&(SignatureScheme, _)| signing.choose_scheme(&[*scheme]).is_some();
        let &(scheme, algorithm) = ALGORITHMS.iter().find(usable)?;
        Some(Self { signing, scheme, algorithm, public })
    }

    /// Whether this is the other half of a certificate's.
    pub(super) fn belongs_to(&self, certificate: &Authority<'_>) -> bool {
        *self.public == *certificate.public
    }

    /// As rustls wants it.
    pub(super) fn signing(&self) -> Arc<dyn SigningKey> {
        self.signing.clone()
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.signing.choose_scheme(&[self.scheme])?.sign(message).ok()
    }
}

/// Whoever signs a certificate: the name and key identifier that go into it, and when it may be valid.
#[derive(Clone, Debug)]
pub(super) struct Issuer {
    /// `Name`, whole.
    pub(super) subject: Vec<u8>,
    pub(super) key_id: Vec<u8>,
    pub(super) key: Key,
    pub(super) validity: Validity,
}

/// From when until when; both are within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
}

impl Validity {
    /// What lies within both.
    pub(super) fn within(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), until: self.until.min(other.until) }
    }

    /// Whether this moment is within.
    pub(super) fn holds(&self, now: SystemTime) -> bool {
        self.from <= now && now <= self.until
    }
}

/// What a new certificate is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose<'a> {
    /// Signs others, with at most so many intermediates below it.
    Authority { name: &'a str, below: u8 },
    /// Shown by a server.
    Server(&'a ServerName<'a>),
}

/// A new certificate. Without an issuer it is signed with its own key.
pub(super) fn issue(
    purpose: Purpose<'_>,
    validity: Validity,
    key: &Key,
    issuer: Option<&Issuer>,
) -> Option<CertificateDer<'static>> {
    let own_id = key_id(&key.public)?;
    let (subject, mut extensions) = match purpose {
        Purpose::Authority { name, below } => (common_name(name), authority_extensions(below)),
        Purpose::Server(name) => server_extensions(name)?,
    };
    extensions.push(extension(SUBJECT_KEY_ID, false, &element(der::OCTET_STRING, &[&own_id])));
    if let Some(issuer) = issuer {
        let id = element(der::SEQUENCE, &[&element(0x80, &[&issuer.key_id])]);
        extensions.push(extension(AUTHORITY_KEY_ID, false, &id));
    }
    let signer = issuer.map_or(key, |issuer| &issuer.key);
    let extensions: Vec<_> = extensions.iter().map(Vec::as_slice).collect();
    // A byte before them keeps all 128 bits random and the number positive.
    let mut serial = [1; 17];
    fill(serial.get_mut(1..)?).ok()?;
    let algorithm = element(der::SEQUENCE, &[&signer.algorithm]);
    let body = element(
        der::SEQUENCE,
        &[
            &element(VERSION, &[&element(der::INTEGER, &[&[2]])]),
            &element(der::INTEGER, &[&serial]),
            &algorithm,
            issuer.map_or(&subject, |issuer| &issuer.subject),
            &element(der::SEQUENCE, &[&der::time(validity.from), &der::time(validity.until)]),
            &subject,
            &key.public,
            &element(EXTENSIONS, &[&element(der::SEQUENCE, &extensions)]),
        ],
    );
    let signature = signer.sign(&body)?;
    Some(element(der::SEQUENCE, &[&body, &algorithm, &element(der::BIT_STRING, &[&[0], &signature])]).into())
}

fn authority_extensions(below: u8) -> Vec<Vec<u8>> {
    let constraints = [element(der::BOOLEAN, &[&[0xff]]), element(der::INTEGER, &[&[below]])].concat();
    vec![
        extension(BASIC_CONSTRAINTS, true, &element(der::SEQUENCE, &[&constraints])),
        // keyCertSign and cRLSign.
        extension(KEY_USAGE, true, &element(der::BIT_STRING, &[&[1, 0b0000_0110]])),
    ]
}

/// The subject, too. A name that is too long for a common name leaves it empty, and RFC 5280, 4.2.1.6 makes the
/// alternative name critical then.
fn server_extensions(name: &ServerName<'_>) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let (text, alternative) = match name {
        ServerName::DnsName(name) => {
            // Names in certificates are absolute without a last dot.
            let text = name.as_ref().trim_end_matches('.').to_ascii_lowercase();
            let alternative = element(0x82, &[text.as_bytes()]);
            (text, alternative)
        }
        ServerName::IpAddress(address) => match IpAddr::from(*address) {
            IpAddr::V4(address) => (address.to_string(), element(0x87, &[&address.octets()])),
            IpAddr::V6(address) => (address.to_string(), element(0x87, &[&address.octets()])),
        },
        _ => return None,
    };
    let named = text.len() <= COMMON_NAME_MOST;
    let subject = if named { common_name(&text) } else { element(der::SEQUENCE, &[]) };
    let extensions = vec![
        extension(BASIC_CONSTRAINTS, true, &element(der::SEQUENCE, &[])),
        // digitalSignature.
        extension(KEY_USAGE, true, &element(der::BIT_STRING, &[&[7, 0b1000_0000]])),
        extension(EXTENDED_KEY_USAGE, false, &element(der::SEQUENCE, &[&element(der::OID, &[SERVER_AUTH])])),
        extension(ALTERNATIVE_NAME, !named, &element(der::SEQUENCE, &[&alternative])),
    ];
    Some((subject, extensions))
}

/// `Name` of a common name alone.
pub(super) fn common_name(name: &str) -> Vec<u8> {
    let attribute = [element(der::OID, &[COMMON_NAME]), element(der::UTF8_STRING, &[name.as_bytes()])].concat();
    element(der::SEQUENCE, &[&element(der::SET, &[&element(der::SEQUENCE, &[&attribute])])])
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { element(der::BOOLEAN, &[&[0xff]]) } else { Vec::new() };
    element(der::SEQUENCE, &[&element(der::OID, &[oid]), &critical, &element(der::OCTET_STRING, &[value])])
}

/// RFC 7093, 2, method 1: the leftmost 160 bits of the SHA-256 of the public key's bits.
fn key_id(public: &[u8]) -> Option<Vec<u8>> {
    let mut fields = Reader(public).expect(der::SEQUENCE)?.inside();
    fields.expect(der::SEQUENCE)?;
    let (_unused_bits, key) = fields.expect(der::BIT_STRING)?.content.split_first()?;
    Some(digest(&SHA256, key).as_ref().get(..20)?.to_vec())
}

/// What a certificate says of the authority that it may belong to.
#[derive(Clone, Debug)]
pub(super) struct Authority<'a> {
    /// `Name`, whole.
    pub(super) issuer: &'a [u8],
    /// `Name`, whole.
    pub(super) subject: &'a [u8],
    /// `SubjectPublicKeyInfo`.
    pub(super) public: &'a [u8],
    pub(super) validity: Validity,
    /// How it is named in the certificates below.
    pub(super) key_id: Vec<u8>,
    /// Whether it may sign certificates.
    pub(super) signs: bool,
    /// The most intermediates below it, if it says.
    pub(super) below: Option<u8>,
}

impl<'a> Authority<'a> {
    /// `None` if it is no certificate.
    pub(super) fn read(certificate: &'a [u8]) -> Option<Self> {
        let mut outer = Reader(certificate);
        let body = outer.expect(der::SEQUENCE).filter(|_| outer.is_empty())?.inside().expect(der::SEQUENCE)?;
        let mut fields = body.inside();
        fields.optional(VERSION);
        fields.expect(der::INTEGER)?;
        fields.expect(der::SEQUENCE)?;
        let issuer = fields.expect(der::SEQUENCE)?.whole;
        let mut times = fields.expect(der::SEQUENCE)?.inside();
        let validity = Validity { from: der::read_time(times.next()?)?, until: der::read_time(times.next()?)? };
        let subject = fields.expect(der::SEQUENCE)?.whole;
        let public = fields.expect(der::SEQUENCE)?.whole;
        let mut read = Self { issuer, subject, public, validity, key_id: key_id(public)?, signs: false, below: None };
        let (mut is_authority, mut may_sign) = (false, true);
        while let Some(field) = fields.next() {
            if field.tag != EXTENSIONS {
                continue;
            }
            let mut extensions = field.inside().expect(der::SEQUENCE)?.inside();
            while let Some((oid, value)) = extensions.next().and_then(extension_of) {
                match oid {
                    BASIC_CONSTRAINTS => {
                        let mut constraints = value.inside();
                        is_authority = constraints.optional(der::BOOLEAN).is_some_and(|ca| ca.content != [0]);
                        // A number that fits no byte is none to speak of.
                        read.below = constraints.optional(der::INTEGER).and_then(|below| match below.content {
                            [below] => Some(*below),
                            _ => None,
                        });
                    }
                    KEY_USAGE => may_sign = value.content.get(1).is_some_and(|usage| usage & 0b0000_0100 != 0),
                    SUBJECT_KEY_ID => read.key_id = value.content.to_vec(),
                    _ => {}
                }
            }
        }
        read.signs = is_authority && may_sign;
        Some(read)
    }

    /// Whether it is an end of its own. Names and keys alone: roots are trusted as they are, whoever signed them.
    pub(super) fn is_root(&self) -> bool {
        self.issuer == self.subject
    }
}

/// The identifier and what it identifies.
fn extension_of(extension: Element<'_>) -> Option<(&[u8], Element<'_>)> {
    let mut parts = extension.inside();
    let oid = parts.expect(der::OID)?.content;
    parts.optional(der::BOOLEAN);
    Some((oid, Reader(parts.expect(der::OCTET_STRING)?.content).next()?))
}

/// The tags of a certificate's version and extensions.
const VERSION: u8 = der::explicit(0);
const EXTENSIONS: u8 = der::explicit(3);
const ALGORITHMS: [(SignatureScheme, AlgorithmIdentifier); 5] = [
    (SignatureScheme::ECDSA_NISTP256_SHA256, alg_id::ECDSA_SHA256),
    (SignatureScheme::ECDSA_NISTP384_SHA384, alg_id::ECDSA_SHA384),
    (SignatureScheme::ECDSA_NISTP521_SHA512, alg_id::ECDSA_SHA512),
    (SignatureScheme::RSA_PKCS1_SHA256, alg_id::RSA_PKCS1_SHA256),
    (SignatureScheme::ED25519, alg_id::ED25519),
];
/// `ub-common-name`.
const COMMON_NAME_MOST: usize = 64;
// 2.5.4.3, 2.5.29.x, 1.3.6.1.5.5.7.3.1.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 3];
const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
