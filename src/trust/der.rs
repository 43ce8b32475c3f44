//! As much DER (X.690) as certificates' names and key stores take: one element after another, read and written.

/// The next element: its tag, its content, and what follows. Definite lengths only; tags above 30 do not occur.
pub(super) fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    (tag & 0x1f != 0x1f).then_some((tag, content, rest))
}

/// The next element, if it has this tag: its content, and what follows.
pub(super) fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// The subject of a certificate: the content of its `Name` (RFC 5280, section 4.1).
pub(super) fn subject(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, after) = expect(SEQUENCE, certificate)?;
    let (body, _) = expect(SEQUENCE, certificate)?;
    let (tag, _, rest) = element(body)?;
    // Version 1 says no version.
    let rest = if tag == explicit(0) { rest } else { body };
    let (_serial, rest) = expect(INTEGER, rest)?;
    let (_algorithm, rest) = expect(SEQUENCE, rest)?;
    let (_issuer, rest) = expect(SEQUENCE, rest)?;
    let (_validity, rest) = expect(SEQUENCE, rest)?;
    let (subject, _) = expect(SEQUENCE, rest)?;
    after.is_empty().then_some(subject)
}

/// An element of these parts.
pub(super) fn write(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => bytes.push(short),
        _ => {
            let digits = length.to_be_bytes();
            let skipped = digits.iter().take_while(|digit| **digit == 0).count();
            bytes.push(0x80 | (digits.len() - skipped) as u8);
            bytes.extend(digits.iter().skip(skipped));
        }
    }
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

/// The tag of `[number] EXPLICIT`.
pub(super) const fn explicit(number: u8) -> u8 {
    0xa0 | number
}

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const BMP_STRING: u8 = 0x1e;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_at_every_size_of_length() {
        for size in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let content = vec![7; size];
            let written = write(OCTET_STRING, &[&content]);
            assert_eq!(expect(OCTET_STRING, &written), Some((&content[..], &[][..])), "{size}");
        }
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
