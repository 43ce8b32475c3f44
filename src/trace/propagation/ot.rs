//! OpenTelemetry's own member of `tracestate`: `ot=th:…;rv:…`, where sampling leaves its threshold and may find its
//! randomness. Lines that come in here are valid.
//!
//! Source: OpenTelemetry specification v1.60, `trace/tracestate-handling.md`, `trace/tracestate-probability-sampling.md`;
//! W3C Trace Context level 2, section 3.3.1.4 (a changed member moves to the left end).

use std::sync::Arc;

use super::w3c::MAX_MEMBERS;

/// `rv`: what sampling decides by instead of the trace id.
pub fn randomness(line: &str) -> Option<u64> {
    let digits = sub_key(own(line)?, "rv")?;
    is_rv(digits).then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Whether the line has a `th`, valid or not.
pub fn has_threshold(line: &str) -> bool {
    own(line).is_some_and(|own| sub_key(own, "th").is_some())
}

/// The line with this `th`, or with none. A line that is right already comes back as it is.
pub fn with_threshold(line: &Arc<str>, threshold: Option<u64>) -> Arc<str> {
    let old = own(line);
    let written = threshold.map(digits);
    if old.and_then(|own| sub_key(own, "th")) == written.as_deref() {
        return line.clone();
    }
    let mut kept: Vec<&str> = old.map(|own| own.split(';').collect()).unwrap_or_default();
    kept.retain(|pair| !pair.is_empty() && !pair.starts_with("th:"));
    let others: Vec<&str> = line.split(',').map(str::trim).filter(|member| !member.starts_with("ot=")).collect();
    let with = written.map(|digits| format!("th:{digits}"));
    let room = MAX_VALUE.saturating_sub(kept.iter().map(|pair| pair.len() + 1).sum());
    // A value without room for the new threshold must not keep the old one.
    kept.extend(with.as_deref().filter(|pair| pair.len() <= room));
    let mut members = Vec::with_capacity(others.len() + 1);
    let own = format!("ot={}", kept.join(";"));
    if !kept.is_empty() {
        members.push(own.as_str());
    }
    members.extend(others.into_iter().filter(|member| !member.is_empty()));
    // A full list loses its oldest member.
    members.truncate(MAX_MEMBERS);
    members.join(",").into()
}

/// The line as it may leave the trust boundary: `th` and `rv`, which say nothing of anybody.
pub fn only_own(line: &Arc<str>) -> Arc<str> {
    let Some(own) = own(line) else { return Arc::default() };
    let pairs = [("th", is_th as fn(&str) -> bool), ("rv", is_rv)];
    let kept: Vec<String> = pairs
        .into_iter()
        .filter_map(|(key, valid)| Some((key, sub_key(own, key).filter(|value| valid(value))?)))
        .map(|(key, value)| format!("{key}:{value}"))
        .collect();
    let kept = kept.join(";");
    match kept.as_str() {
        "" => Arc::default(),
        _ if line.strip_prefix("ot=") == Some(&kept) => line.clone(),
        _ => format!("ot={kept}").into(),
    }
}

fn own(line: &str) -> Option<&str> {
    line.split(',').find_map(|member| member.trim().strip_prefix("ot="))
}

fn sub_key<'a>(own: &'a str, key: &str) -> Option<&'a str> {
    own.split(';').find_map(|pair| pair.split_once(':').filter(|(found, _)| *found == key)).map(|(_, value)| value)
}

/// 56 bits as 14 digits, without trailing zeros.
fn digits(threshold: u64) -> String {
    let all = format!("{threshold:014x}");
    match all.trim_end_matches('0') {
        "" => "0".to_owned(),
        some => some.to_owned(),
    }
}

fn is_th(digits: &str) -> bool {
    (1..=14).contains(&digits.len()) && is_lower_hex(digits)
}

fn is_rv(digits: &str) -> bool {
    digits.len() == 14 && is_lower_hex(digits)
}

fn is_lower_hex(digits: &str) -> bool {
    digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

const MAX_VALUE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn with(line: &str, threshold: Option<u64>) -> String {
        with_threshold(&Arc::from(line), threshold).to_string()
    }

    #[test]
    fn only_14_lower_case_digits_are_randomness() {
        for (line, expected) in [
            ("ot=rv:6e6d1a75832a2f", Some(0x006e_6d1a_7583_2a2f)),
            ("a=1, ot=th:8;rv:00000000000001", Some(1)),
            ("", None),
            ("ot=rv:6E6D1A75832A2F", None),
            ("ot=rv:6e6d1a75832a2", None),
            ("ot=rv:6e6d1a75832a2f0", None),
            ("ot=rv:+e6d1a75832a2f", None),
            ("ot=rv", None),
            ("not=rv:6e6d1a75832a2f", None),
            ("ot@x=rv:6e6d1a75832a2f", None),
        ] {
            assert_eq!(randomness(line), expected, "{line}");
        }
    }

    #[test]
    fn a_threshold_is_written_at_the_left_end_and_the_rest_keeps_its_order() {
        let half = Some(1 << 55);
        for (line, threshold, expected) in [
            ("", half, "ot=th:8"),
            ("", Some(0), "ot=th:0"),
            ("", Some(0x00fd_70a4_0000_0000), "ot=th:fd70a4"),
            ("", Some(1), "ot=th:00000000000001"),
            ("a=1, b=2", half, "ot=th:8,a=1,b=2"),
            ("a=1,ot=rv:6e6d1a75832a2f,b=2", half, "ot=rv:6e6d1a75832a2f;th:8,a=1,b=2"),
            ("a=1,ot=th:c;x:y", half, "ot=x:y;th:8,a=1"),
            ("a=1,ot=th:c;x:y", None, "ot=x:y,a=1"),
            ("a=1,ot=th:c", None, "a=1"),
            ("ot=th:c", None, ""),
            // What is right already stays as it came.
            ("a=1, ot=th:8", half, "a=1, ot=th:8"),
            ("a=1, ot=x:y", None, "a=1, ot=x:y"),
            ("", None, ""),
        ] {
            assert_eq!(with(line, threshold), expected, "{line}");
        }
    }

    #[test]
    fn a_full_list_loses_its_oldest_member_and_a_full_value_its_threshold() {
        let full: Vec<String> = (0..32).map(|n| format!("k{n}=v")).collect();
        assert_eq!(with(&full.join(","), Some(0)), format!("ot=th:0,{}", full[..31].join(",")));
        let long = format!("x:{}", "y".repeat(248));
        assert_eq!(with(&format!("ot=th:c;{long}"), Some(0)), format!("ot={long};th:0"));
        let longer = format!("{long}zz");
        assert_eq!(with(&format!("ot=th:c;{longer}"), Some(0)), format!("ot={longer}"));
    }

    #[test]
    fn nothing_but_valid_sampling_numbers_leaves_the_boundary() {
        for (line, expected) in [
            ("", ""),
            ("a=1", ""),
            ("ot=th:8", "ot=th:8"),
            ("ot=th:8;rv:6e6d1a75832a2f", "ot=th:8;rv:6e6d1a75832a2f"),
            ("a=1,ot=rv:6e6d1a75832a2f;secret:x;th:8,b=2", "ot=th:8;rv:6e6d1a75832a2f"),
            ("ot=th:alice;rv:6e6d1a75832a2f", "ot=rv:6e6d1a75832a2f"),
            ("ot=th:;rv:short", ""),
            ("ot=th:123456789012345", ""),
        ] {
            assert_eq!(&*only_own(&Arc::from(line)), expected, "{line}");
        }
    }
}
