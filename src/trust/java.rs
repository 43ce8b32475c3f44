//! The trust store that Java reads: PKCS #12 (RFC 7292) without encryption and without an integrity check, so that it opens
//! with any password and with none, in every JDK since 8. What it holds is public.

use aws_lc_rs::digest::{SHA256, digest};

use super::{Origin, Root};
use crate::der::{BMP_STRING, INTEGER, OCTET_STRING, OID, SEQUENCE, SET, element, explicit};

/// The whole file. An entry's alias says where its root came from, and is its own: Java keeps one entry for each.
pub(super) fn store(roots: &[Root<'_>]) -> Vec<u8> {
    let bags: Vec<_> = roots.iter().map(bag).collect();
    let bags: Vec<_> = bags.iter().map(Vec::as_slice).collect();
    let safe = element(SEQUENCE, &[&data(&element(SEQUENCE, &bags))]);
    element(SEQUENCE, &[&element(INTEGER, &[&[3]]), &data(&safe)])
}

/// A `SafeBag` with one certificate.
fn bag(root: &Root<'_>) -> Vec<u8> {
    let certificate = element(OCTET_STRING, &[root.certificate]);
    let certificate = element(SEQUENCE, &[&id(X509_CERTIFICATE), &element(explicit(0), &[&certificate])]);
    let name: Vec<u8> = alias(root).encode_utf16().flat_map(u16::to_be_bytes).collect();
    let name = attribute(FRIENDLY_NAME, &element(BMP_STRING, &[&name]));
    // Without this Java takes the certificate for a part of somebody's chain.
    let trusted = attribute(TRUSTED_KEY_USAGE, &id(ANY_EXTENDED_KEY_USAGE));
    element(SEQUENCE, &[&id(CERT_BAG), &element(explicit(0), &[&certificate]), &element(SET, &[&name, &trusted])])
}

fn alias(root: &Root<'_>) -> String {
    let origin = match root.origin {
        Origin::Public => "public",
        Origin::Extra => "extra",
        Origin::Ours => "sidetrace",
    };
    let digest = digest(&SHA256, root.certificate);
    let digits: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{origin}-{digits}")
}

/// `ContentInfo` of the type data (RFC 2315, section 14).
fn data(content: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[&id(DATA), &element(explicit(0), &[&element(OCTET_STRING, &[content])])])
}

fn attribute(kind: &[u8], value: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[&id(kind), &element(SET, &[value])])
}

fn id(encoded: &[u8]) -> Vec<u8> {
    element(OID, &[encoded])
}

/// 1.2.840.113549.1.7.1
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.12.10.1.3
const CERT_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03];
/// 1.2.840.113549.1.9.22.1
const X509_CERTIFICATE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
/// 1.2.840.113549.1.9.20
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x14];
/// 2.16.840.1.113894.746875.1.1, Oracle's
const TRUSTED_KEY_USAGE: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 0x01, 0x01];
/// 2.5.29.37.0
const ANY_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
