//! The little of DER (X.690) that certificates (RFC 5280) and trust stores are made of: written, and read without trust in
//! what is read.

use std::time::{Duration, SystemTime};

/// One element: its tag, its content, and the whole of it as it stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// The elements inside.
    pub(crate) fn inside(&self) -> Reader<'a> {
        Reader(self.content)
    }
}

/// Reads element after element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next element. `None` at the end, and where it is no DER.
    pub(crate) fn next(&mut self) -> Option<Element<'a>> {
        let all = self.0;
        let (&tag, rest) = all.split_first()?;
        // Tags of more than one byte occur in no certificate.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            // Of no definite length, or longer than 16 MiB.
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        let whole = all.get(..all.len() - rest.len())?;
        Some(Element { tag, content, whole })
    }

    /// The next element, which has to be of this kind.
    pub(crate) fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|element| element.tag == tag)
    }

    /// The next element if it is of this kind; else nothing is read.
    pub(crate) fn optional(&mut self, tag: u8) -> Option<Element<'a>> {
        if self.0.first() == Some(&tag) { self.next() } else { None }
    }

    /// Whether everything was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An element of these parts, one after the other.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut der = Vec::with_capacity(length + 5);
    der.push(tag);
    let bytes = length.to_be_bytes();
    let significant = bytes.get(length.leading_zeros() as usize / 8..).unwrap_or_default();
    match length {
        0..=0x7f => der.push(u8::try_from(length).unwrap_or_default()),
        _ => {
            der.push(0x80 | u8::try_from(significant.len()).unwrap_or_default());
            der.extend(significant);
        }
    }
    parts.iter().for_each(|part| der.extend(*part));
    der
}

/// The tag of `[number] EXPLICIT`.
pub(crate) const fn explicit(number: u8) -> u8 {
    0xa0 | number
}

/// `Time` as RFC 5280, 4.1.2.5 wants it: two digits of the year until 2049, four from 2050 on.
pub(crate) fn time(at: SystemTime) -> Vec<u8> {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(seconds / DAY);
    let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
    let rest = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    match year {
        ..=2049 => element(UTC_TIME, &[format!("{:02}", year % 100).as_bytes(), rest.as_bytes()]),
        _ => element(GENERALIZED_TIME, &[format!("{year:04}").as_bytes(), rest.as_bytes()]),
    }
}

/// The moment that a `Time` names. What lies before 1970 is 1970.
pub(crate) fn read_time(time: Element<'_>) -> Option<SystemTime> {
    let text = std::str::from_utf8(time.content).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (time.tag, text.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |index: usize| rest.get(index * 2..index * 2 + 2)?.parse::<i64>().ok();
    let (month, day) = (part(0)?, part(1)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + part(2)? * 3600 + part(3)? * 60 + part(4)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

/// The date of a day since 1970-01-01, in the Gregorian calendar. Years are counted from March on, so that the day that
/// some years have more is their last.
fn civil(day: u64) -> (u64, u64, u64) {
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, of_year - (153 * march_month + 2) / 5 + 1)
}

/// The other way round.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const BMP_STRING: u8 = 0x1e;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
const DAY: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_whatever_its_length() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let der = element(OCTET_STRING, &[&content]);
            let mut reader = Reader(&der);
            let read = reader.expect(OCTET_STRING).unwrap();
            assert_eq!((read.content, read.whole), (&content[..], &der[..]), "{length}");
            assert!(reader.is_empty() && reader.next().is_none());
            for end in 0..der.len().min(300) {
                assert_eq!(Reader(&der[..end]).next(), None, "{length} cut at {end}");
            }
        }
    }

    #[test]
    fn what_is_no_der_is_not_read() {
        for hostile in [&[0x30, 0x80, 0, 0][..], &[0x1f, 1, 0], &[0x30, 0x84, 0, 0, 0, 0], &[0x30, 0xff], &[0x30, 2, 0]]
        {
            assert_eq!(Reader(hostile).next(), None, "{hostile:?}");
        }
    }

    #[test]
    fn times_are_written_and_read_in_both_forms() {
        let cases = [
            (0, UTC_TIME, "700101000000Z"),
            (951_782_400, UTC_TIME, "000229000000Z"),
            (1_795_374_000, UTC_TIME, "261122190000Z"),
            (2_524_607_999, UTC_TIME, "491231235959Z"),
            (2_524_608_000, GENERALIZED_TIME, "20500101000000Z"),
            (4_107_542_400, GENERALIZED_TIME, "21000301000000Z"),
        ];
        for (seconds, tag, text) in cases {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let der = time(at);
            let read = Reader(&der).next().unwrap();
            assert_eq!((read.tag, read.content), (tag, text.as_bytes()));
            assert_eq!(read_time(read), Some(at), "{text}");
        }
        for day in (0..60_000).step_by(17) {
            let (year, month, date) = civil(day);
            assert_eq!(days(year.cast_signed(), month.cast_signed(), date.cast_signed()), day.cast_signed());
        }
        for wrong in
            ["", "Z", "2611221900Z", "261322190000Z", "261100190000Z", "26112219000-Z", "261122190000", "2é1122190000Z"]
        {
            let der = element(UTC_TIME, &[wrong.as_bytes()]);
            assert_eq!(read_time(Reader(&der).next().unwrap()), None, "{wrong}");
        }
    }
}
