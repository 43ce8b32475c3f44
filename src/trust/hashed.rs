//! The hashed directory, as `openssl rehash` makes it: OpenSSL opens `<hash of the subject>.0`, `.1` and so on until one is
//! missing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::{Root, make_folder, pem, replace};
use crate::der::{BMP_STRING, Element, INTEGER, Reader, SEQUENCE, SET, UTF8_STRING, element, explicit};

/// Brings the directory to these roots. At no moment is one of them missing that was there before.
pub(super) fn write(folder: &Path, roots: &[Root<'_>]) -> io::Result<()> {
    refuse_another(folder)?;
    make_folder(folder)?;
    let mut wanted: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for root in roots {
        wanted.entry(root.hash).or_default().push(pem(root.certificate));
    }
    for (hash, certificates) in &wanted {
        let path = |number: usize| folder.join(name(*hash, number));
        let there = (0..).take_while(|number| path(*number).exists()).count();
        let same = |number: usize, certificate: &String| {
            fs::read(path(number)).is_ok_and(|bytes| bytes == certificate.as_bytes())
        };
        if certificates.iter().enumerate().all(|(number, certificate)| same(number, certificate)) {
            continue;
        }
        // All of them behind the old ones, then in their places: whoever counts up finds each at every moment.
        for (number, certificate) in certificates.iter().enumerate() {
            replace(&path(there + number), certificate.as_bytes())?;
        }
        for (number, certificate) in certificates.iter().enumerate().filter(|_| there > 0) {
            replace(&path(number), certificate.as_bytes())?;
        }
    }
    sweep(folder, &wanted)
}

/// Somebody who may write beside it could send us to a directory of the system, and what is stale there would be removed.
fn refuse_another(folder: &Path) -> io::Result<()> {
    match fs::symlink_metadata(folder) {
        Ok(found) if !found.is_dir() => {
            let kind = if found.is_symlink() { "a symbolic link" } else { "a file" };
            let text = format!("{}: is {kind}, and has to be a directory of its own", folder.display());
            Err(io::Error::new(io::ErrorKind::NotADirectory, text))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Takes away certificates that are not wanted, and what a crash has left of ours, the highest numbers first: a gap would hide
/// what follows. What has another name is somebody else's.
fn sweep(folder: &Path, wanted: &BTreeMap<u32, Vec<String>>) -> io::Result<()> {
    let mut stale = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.file_name();
        let Some(file) = file.to_str() else { continue };
        let unfinished = file.strip_prefix('.').and_then(|rest| rest.strip_suffix(".new"));
        let Some((hash, number)) = numbers(unfinished.unwrap_or(file)) else { continue };
        let is_wanted = wanted.get(&hash).is_some_and(|certificates| number < certificates.len());
        if unfinished.is_some() || !is_wanted {
            stale.push((number, entry.path()));
        }
    }
    stale.sort();
    stale.iter().rev().try_for_each(|(_, path)| fs::remove_file(path))
}

fn name(hash: u32, number: usize) -> String {
    format!("{hash:08x}.{number}")
}

/// What a name of ours is made of.
fn numbers(file: &str) -> Option<(u32, usize)> {
    let (hash, number) = file.split_once('.')?;
    let (hash, number) = (u32::from_str_radix(hash, 16).ok()?, number.parse().ok()?);
    (file == name(hash, number)).then_some((hash, number))
}

/// `X509_NAME_hash` of OpenSSL 1.0 and later. `None` if it is no certificate that OpenSSL would read.
pub(super) fn subject_hash(certificate: &[u8]) -> Option<u32> {
    let canonical = canonical(subject(certificate)?)?;
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, &canonical);
    digest.as_ref().first_chunk().map(|first| u32::from_le_bytes(*first))
}

/// The subject of a certificate (RFC 5280, section 4.1).
fn subject(certificate: &[u8]) -> Option<Element<'_>> {
    let mut outer = Reader(certificate);
    let body = outer.expect(SEQUENCE).filter(|_| outer.is_empty())?.inside().expect(SEQUENCE)?;
    let mut fields = body.inside();
    // Version 1 says no version.
    fields.optional(explicit(0));
    let _serial = fields.expect(INTEGER)?;
    let _algorithm = fields.expect(SEQUENCE)?;
    let _issuer = fields.expect(SEQUENCE)?;
    let _validity = fields.expect(SEQUENCE)?;
    fields.expect(SEQUENCE)
}

/// A name as OpenSSL compares it (`x509_name_canon`): its sets one after another, without what they stand in.
fn canonical(name: Element<'_>) -> Option<Vec<u8>> {
    let mut canonical = Vec::new();
    let mut sets = name.inside();
    while !sets.is_empty() {
        let mut set = sets.expect(SET)?.inside();
        let mut members = Vec::new();
        while !set.is_empty() {
            let mut member = set.expect(SEQUENCE)?.inside();
            let (kind, value) = (member.next()?, member.next()?);
            members.push(element(SEQUENCE, &[kind.whole, &canonical_value(value)?]));
        }
        // The order of a set in DER, which lower case may have changed.
        members.sort();
        let members: Vec<_> = members.iter().map(Vec::as_slice).collect();
        canonical.extend(element(SET, &members));
    }
    Some(canonical)
}

/// Strings in UTF-8, ASCII in lower case, runs of white space as one space, none at the ends (`asn1_string_canon`).
fn canonical_value(value: Element<'_>) -> Option<Vec<u8>> {
    let content = value.content;
    let text = match value.tag {
        UTF8_STRING => str::from_utf8(content).ok()?.to_owned(),
        PRINTABLE_STRING | T61_STRING | IA5_STRING | VISIBLE_STRING => {
            content.iter().copied().map(char::from).collect()
        }
        BMP_STRING => wide(content.chunks(2))?,
        UNIVERSAL_STRING => wide(content.chunks(4))?,
        _ => return Some(value.whole.to_owned()),
    };
    let is_space = |c: char| matches!(c, ' ' | '\t'..='\r');
    let words: Vec<_> = text.split(is_space).filter(|word| !word.is_empty()).collect();
    Some(element(UTF8_STRING, &[words.join(" ").to_ascii_lowercase().as_bytes()]))
}

fn wide<'a>(characters: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let number = |bytes: &[u8]| match *bytes {
        [a, b] => Some(u32::from_be_bytes([0, 0, a, b])),
        [a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    };
    characters.map(|bytes| char::from_u32(number(bytes)?)).collect()
}

const PRINTABLE_STRING: u8 = 0x13;
const T61_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const VISIBLE_STRING: u8 = 0x1a;
const UNIVERSAL_STRING: u8 = 0x1c;

#[cfg(test)]
mod tests {
    use super::*;

    fn string(tag: u8, content: &[u8]) -> Option<Vec<u8>> {
        canonical_value(Reader(&element(tag, &[content])).next()?)
    }

    #[test]
    fn strings_are_compared_without_case_and_space() {
        let same = Some(element(UTF8_STRING, &["a b é".as_bytes()]));
        assert_eq!(string(UTF8_STRING, "  A\t \nB é ".as_bytes()), same);
        assert_eq!(string(T61_STRING, b"A B \xe9"), same);
        assert_eq!(string(BMP_STRING, b"\0A\0 \0b\0 \0\xe9"), same);
        assert_eq!(string(UNIVERSAL_STRING, b"\0\0\0a\0\0\0 \0\0\0B\0\0\0 \0\0\0\xe9"), same);
        assert_eq!(string(BMP_STRING, b"\0A\0"), None);
        assert_eq!(string(UTF8_STRING, b"\xff"), None);
        assert_eq!(string(0x03, b"\0A"), Some(element(0x03, &[b"\0A"])), "a bit string stays");
    }

    #[test]
    fn no_prefix_of_a_certificate_is_one() {
        let certificate = webpki_root_certs::TLS_SERVER_ROOT_CERTS[0].as_ref();
        assert!(subject(certificate).is_some());
        for length in 0..certificate.len() {
            assert_eq!(subject(&certificate[..length]), None, "{length}");
        }
        assert_eq!(subject(&[certificate, &[0]].concat()), None);
    }
}
