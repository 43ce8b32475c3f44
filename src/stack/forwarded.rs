//! Who called first, as proxies before the pod say it. Worth as much as the one who says it: asked for callers inside the
//! trust boundary only.
//!
//! Sources: RFC 7239, section 4 and 6; `X-Forwarded-For` as everybody writes it.

use std::net::{IpAddr, SocketAddr};

use crate::trace::propagation::Carrier;

/// The first client's address. A name that hides it (`unknown`, `_hidden`) is none.
pub(super) fn client(headers: &impl Carrier) -> Option<IpAddr> {
    match headers.values("forwarded").next() {
        Some(line) => {
            let first = text(line)?.split(',').next()?;
            let parameters = first.split(';').filter_map(|parameter| parameter.split_once('='));
            let mut named = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
            named.next().and_then(|(_, node)| address(node.trim().trim_matches('"')))
        }
        None => address(text(headers.values("x-forwarded-for").next()?)?.split(',').next()?.trim()),
    }
}

fn text(line: &[u8]) -> Option<&str> {
    std::str::from_utf8(line).ok()
}

/// An address, bare or in brackets, with a port or without.
fn address(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(node);
    bare.parse().ok().or_else(|| node.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn the_first_client_is_found_and_nothing_else() {
        let table = [
            ("x-forwarded-for", "198.51.100.7", "198.51.100.7"),
            ("x-forwarded-for", " 198.51.100.7 , 10.0.0.1", "198.51.100.7"),
            ("x-forwarded-for", "198.51.100.7:4711, 10.0.0.1", "198.51.100.7"),
            ("x-forwarded-for", "2001:db8::1", "2001:db8::1"),
            ("x-forwarded-for", "[2001:db8::1]:80", "2001:db8::1"),
            ("x-forwarded-for", "unknown, 198.51.100.7", ""),
            ("x-forwarded-for", "", ""),
            ("x-forwarded-for", "secret", ""),
            ("forwarded", "for=192.0.2.43, for=198.51.100.17", "192.0.2.43"),
            ("forwarded", "proto=https; For=\"[2001:db8:cafe::17]:4711\";by=203.0.113.43", "2001:db8:cafe::17"),
            ("forwarded", "for=_hidden", ""),
            ("forwarded", "proto=https, for=192.0.2.43", ""),
            ("forwarded", ";;=,", ""),
            ("other", "192.0.2.43", ""),
        ];
        for (name, line, expected) in table {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), line.parse().unwrap())]);
            let found = client(&headers).map(|address| address.to_string()).unwrap_or_default();
            assert_eq!(found, expected, "{name}: {line}");
        }
    }
}
