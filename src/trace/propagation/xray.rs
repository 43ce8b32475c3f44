//! AWS X-Ray: `X-Amzn-Trace-Id`.
//!
//! Source: AWS X-Ray Developer Guide, "Tracing header"; Elastic Load Balancing, "Request tracing for your Application Load
//! Balancer". `Root`, `Parent` and `Sampled` are ours to write. Every other field stays as it came: `Self` is the load
//! balancers', `Lineage` is how Lambda notices that a function calls itself, and applications may add their own.

use http::header::{HeaderName, HeaderValue};

use super::{
    Carrier, Edits, Incoming, Placement, RemoteContext, header_value, loose_hex, loose_hex_64, only, trim_ows,
};

/// The caller's context; without ids, what it says of sampling.
pub(super) fn read(carrier: &impl Carrier) -> Incoming {
    only(carrier, &X_AMZN_TRACE_ID).and_then(parse).unwrap_or(Incoming::Nothing)
}

/// `Root=1-{8 digits}-{24 digits};Parent={span id};Sampled={0|1}`, then what else was there.
pub(super) fn write(placement: &Placement, carrier: &impl Carrier, edits: &mut Edits) {
    let trace_id = placement.trace_id.to_string();
    let (time, id) = trace_id.split_at_checked(8).unwrap_or_default();
    let sampled = u8::from(placement.flags.is_sampled());
    let own = format!("Root=1-{time}-{id};Parent={};Sampled={sampled}", placement.span_id);
    let mut line = own.clone().into_bytes();
    for field in carrier.values(X_AMZN_TRACE_ID.as_str()).flat_map(fields) {
        if ![ROOT, PARENT, SAMPLED].iter().any(|name| after(field, name).is_some()) {
            line.push(b';');
            line.extend_from_slice(field);
        }
    }
    edits.set(X_AMZN_TRACE_ID, HeaderValue::from_bytes(&line).unwrap_or_else(|_| header_value(&own)));
}

fn parse(value: &[u8]) -> Option<Incoming> {
    let field = |name| fields(value).find_map(|field| after(field, name));
    let sampled = match field(SAMPLED) {
        Some(b"1") => Some(true),
        Some(b"0") => Some(false),
        // Not decided yet.
        Some(b"?" | b"") | None => None,
        Some(_) => return None,
    };
    // A load balancer that starts a trace sends no parent: there is no span that we could be a child of.
    let (Some(root), Some(parent)) = (field(ROOT), field(PARENT)) else { return sampled.map(Incoming::Decision) };
    let [b'1', b'-', rest @ ..] = root else { return None };
    let (time, id) = (rest.get(..8)?, rest.get(8..)?.strip_prefix(b"-")?);
    let trace_id = loose_hex(time, 8..=8)? << 96 | loose_hex(id, 24..=24)?;
    RemoteContext::new(trace_id, loose_hex_64(parent, 16..=16)?, sampled).map(Incoming::Context)
}

fn fields(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b';').map(trim_ows).filter(|field| !field.is_empty())
}

/// What stands behind a field's name, which is matched whatever its case.
fn after<'a>(field: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (key, value) = field.split_at_checked(name.len())?;
    key.eq_ignore_ascii_case(name).then_some(value)
}

const X_AMZN_TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const ROOT: &[u8] = b"Root=";
const PARENT: &[u8] = b"Parent=";
const SAMPLED: &[u8] = b"Sampled=";

#[cfg(test)]
mod tests {
    use super::super::tests::{decision_or_flags, headers};
    use super::super::{Handling, Propagators, start};
    use super::*;

    const ROOT_ID: &str = "Root=1-5759e988-bd862e3fe1be46a994272793";

    #[test]
    fn a_header_is_read_exactly_as_aws_says() {
        let table = [
            (format!("{ROOT_ID};Parent=53995c3f42cd8ad8;Sampled=1"), "context 1"),
            (format!("{ROOT_ID};Parent=53995c3f42cd8ad8;Sampled=0"), "context 0"),
            (format!("{ROOT_ID};Parent=53995c3f42cd8ad8;Sampled=?"), "context ?"),
            (format!("{ROOT_ID};Parent=53995c3f42cd8ad8"), "context ?"),
            (format!("Sampled=1; Parent=53995c3f42cd8ad8 ;{ROOT_ID};"), "context 1"),
            (format!("root{};PARENT=53995C3F42CD8AD8;sampled=1", &ROOT_ID[4..]), "context 1"),
            (format!("Self=1-67891234-12456789abcdef012345678;{ROOT_ID};Parent=53995c3f42cd8ad8"), "context ?"),
            (format!("{ROOT_ID};Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:a87bd80c:1"), "context 1"),
            (ROOT_ID.into(), "nothing"),
            (format!("{ROOT_ID};Sampled=0"), "decision false"),
            ("Sampled=1".into(), "decision true"),
            ("Sampled=?".into(), "nothing"),
            (format!("{ROOT_ID};Parent=53995c3f42cd8ad8;Sampled=2"), "nothing"),
            (format!("{ROOT_ID};Parent=0000000000000000;Sampled=1"), "nothing"),
            (format!("{ROOT_ID};Parent=53995c3f42cd8ad;Sampled=1"), "nothing"),
            (format!("{ROOT_ID}0;Parent=53995c3f42cd8ad8;Sampled=1"), "nothing"),
            (format!("{};Parent=53995c3f42cd8ad8", ROOT_ID.replace("1-", "2-")), "nothing"),
            ("Root=1-00000000-000000000000000000000000;Parent=53995c3f42cd8ad8".into(), "nothing"),
            ("Root=1-5759e988bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8".into(), "nothing"),
            (String::new(), "nothing"),
            (";;=;".into(), "nothing"),
        ];
        for (value, expected) in table {
            let read = read(&headers(&[("x-amzn-trace-id", &value)]));
            assert_eq!(decision_or_flags(&read), expected, "{value:?}");
            if let Some(context) = read.context() {
                assert_eq!(context.trace_id.to_string(), "5759e988bd862e3fe1be46a994272793");
                assert_eq!(context.span_id.to_string(), "53995c3f42cd8ad8");
            }
        }
        let whole = format!("{ROOT_ID};Parent=53995c3f42cd8ad8;Sampled=1");
        for end in 0..whole.len() {
            // The decision may be cut off, the ids may not.
            let expected = match end {
                _ if end < ROOT_ID.len() + 1 + "Parent=53995c3f42cd8ad8".len() => "nothing",
                _ => "context ?",
            };
            assert_eq!(decision_or_flags(&read(&headers(&[("x-amzn-trace-id", &whole[..end])]))), expected, "{end}");
        }
    }

    #[test]
    fn fields_that_are_not_ours_to_write_stay() {
        let line =
            format!("Self=1-6-1;{ROOT_ID};Parent=53995c3f42cd8ad8; Lineage=a87bd80c:1|68fd508a:5 ;sampled=0;App=x");
        let mut map = headers(&[("x-amzn-trace-id", &line)]);
        let placement = start(&mut rand::rng());
        let xray = Propagators { xray: true, ..Propagators::NONE };
        xray.inject(&placement, Handling::default(), &map).apply(&mut map);
        let id = placement.trace_id.to_string();
        let own = format!("Root=1-{}-{};Parent={};Sampled=1", &id[..8], &id[8..], placement.span_id);
        let rest = "Self=1-6-1;Lineage=a87bd80c:1|68fd508a:5;App=x";
        assert_eq!(map.get_all("x-amzn-trace-id").iter().collect::<Vec<_>>(), [&format!("{own};{rest}")]);
    }
}
