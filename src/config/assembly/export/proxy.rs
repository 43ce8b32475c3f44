//! `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` -> the way to the backend, read as curl reads them.

use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::{Reader, bare, is_loopback};
use crate::config::HttpProxy;

impl Reader {
    /// The proxy for this endpoint. What is on this host is reached directly: no proxy has the same one.
    pub(super) fn export_proxy(&mut self, endpoint: &Uri) -> Option<HttpProxy> {
        let https = endpoint.scheme() == Some(&Scheme::HTTPS);
        // A CGI server makes HTTP_PROXY of a request's header "Proxy" (CVE-2016-5385).
        let cgi = self.value("REQUEST_METHOD").is_some();
        let names: &[&'static str] = match (https, cgi) {
            (true, _) => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
            (false, false) => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
            (false, true) => &["http_proxy", "all_proxy", "ALL_PROXY"],
        };
        let found = names.iter().find_map(|name| Some((*name, self.value(name)?.to_owned())));
        let host = endpoint.host()?;
        let port = endpoint.port_u16().unwrap_or(if https { 443 } else { 80 });
        let exceptions = self.value("no_proxy").or_else(|| self.value("NO_PROXY")).unwrap_or_default();
        let direct = is_loopback(host) || excepted(exceptions, bare(host), port);
        match found {
            Some((name, _)) if direct => {
                self.setting(name, "(not used: the endpoint is on this host or in NO_PROXY)", true);
                None
            }
            Some((name, text)) => {
                let proxy = parse_proxy(&text);
                match &proxy {
                    Some(proxy) => self.setting(name, proxy.uri(), true),
                    // The value may hold a password: it is not repeated.
                    None => self.problems.push(format!("{name}: is not http://[user:password@]host:port")),
                }
                proxy
            }
            None => {
                self.setting(if https { "HTTPS_PROXY" } else { "HTTP_PROXY" }, "", false);
                None
            }
        }
    }
}

impl HttpProxy {
    /// Without credentials.
    pub(super) fn uri(&self) -> Uri {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        Uri::from_str(&format!("http://{host}:{}/", self.port)).unwrap_or_default()
    }
}

fn parse_proxy(text: &str) -> Option<HttpProxy> {
    let rest = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some(_) => return None,
        None => text,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let host = Authority::from_str(host).ok().filter(|host| !host.host().is_empty())?;
    let port = if host.as_str().len() == host.host().len() { 80 } else { host.port_u16().filter(|port| *port != 0)? };
    let authorization = user.map(|user| {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let decoded = [percent_decode_str(name).collect(), b":".to_vec(), percent_decode_str(password).collect()];
        let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(decoded.concat()))).ok()?;
        value.set_sensitive(true);
        Some(value)
    });
    let authorization = match authorization {
        Some(value) => Some(value?),
        None => None,
    };
    Some(HttpProxy { host: bare(host.host()).to_owned(), port, authorization })
}

/// Members are `*`, a domain (which its subdomains belong to, with or without a dot before it), an address or a network
/// in CIDR notation; all but `*` and networks may name a port.
fn excepted(list: &str, host: &str, port: u16) -> bool {
    let address = host.parse::<IpAddr>().ok();
    list.split([',', ' ']).map(str::trim).filter(|member| !member.is_empty()).any(|member| {
        if member == "*" {
            return true;
        }
        if let Some((network, length)) = member.split_once('/') {
            return address.is_some_and(|address| is_within(address, network, length).unwrap_or(false));
        }
        let (name, only) = match member.rsplit_once(':') {
            // An IPv6 address has colons of its own; with a port it stands in brackets.
            Some((name, only)) if !name.contains(':') || name.ends_with(']') => (name, Some(only)),
            _ => (member, None),
        };
        if only.is_some_and(|only| only.parse() != Ok(port)) {
            return false;
        }
        match (address, bare(name).parse::<IpAddr>()) {
            (Some(address), Ok(named)) => address == named,
            (None, Err(_)) => is_under(host, name),
            _ => false,
        }
    })
}

/// Whether `host` is the domain or one below it.
fn is_under(host: &str, domain: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let domain = domain.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase();
    !domain.is_empty() && host.strip_suffix(&domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn is_within(address: IpAddr, network: &str, length: &str) -> Option<bool> {
    let (network, length) = (network.parse::<IpAddr>().ok()?, length.parse::<u32>().ok()?);
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => (address.to_bits().into(), network.to_bits().into(), 32_u32),
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        _ => return Some(false),
    };
    let ignored = width.checked_sub(length)?;
    // A shift by all 128 bits is none: then everything is within.
    let cut = |bits: u128| bits.checked_shr(ignored).unwrap_or(0);
    Some(cut(address) == cut(network))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_with_its_credentials_and_shown_without() {
        let table = [
            ("http://proxy:3128", Some(("proxy", 3128, None))),
            ("HTTP://proxy:3128/", Some(("proxy", 3128, None))),
            ("proxy:3128", Some(("proxy", 3128, None))),
            ("http://proxy", Some(("proxy", 80, None))),
            ("http://[fd00::1]:3128", Some(("fd00::1", 3128, None))),
            ("http://me:p%40ss@proxy:1", Some(("proxy", 1, Some("Basic bWU6cEBzcw==")))),
            ("http://me:p@ss@proxy:1", Some(("proxy", 1, Some("Basic bWU6cEBzcw==")))),
            ("me@10.0.0.1:1", Some(("10.0.0.1", 1, Some("Basic bWU6")))),
            ("https://proxy:3128", None),
            ("socks5://proxy:1080", None),
            ("http://", None),
            ("http://proxy:x", None),
            ("http://proxy:", None),
            ("http://:3128", None),
            ("http://proxy:70000", None),
        ];
        for (text, expected) in table {
            let proxy = parse_proxy(text);
            let seen = proxy.as_ref().map(|proxy| {
                (&*proxy.host, proxy.port, proxy.authorization.as_ref().map(|value| value.to_str().unwrap()))
            });
            assert_eq!(seen, expected, "{text}");
            let shown = format!("{proxy:?} {:?}", proxy.as_ref().map(HttpProxy::uri));
            assert!(!shown.contains("ss") && !shown.contains("bWU"), "{shown}");
        }
    }

    #[test]
    fn exceptions_are_names_addresses_and_networks() {
        let table = [
            ("*", "a.example", true),
            ("example", "a.example", true),
            (".example", "a.example", true),
            ("*.example", "a.example", true),
            ("Example.", "EXAMPLE", true),
            ("x, a.example ,y", "a.example", true),
            ("x a.example", "a.example", true),
            ("ample", "a.example", false),
            ("b.a.example", "a.example", false),
            ("a.example:4318", "a.example", true),
            ("a.example:4317", "a.example", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1:4318", "10.0.0.1", true),
            ("10.0.0.1:80", "10.0.0.1", false),
            ("10.0.0.0/8", "10.9.8.7", true),
            ("10.0.0.0/16", "10.9.8.7", false),
            ("0.0.0.0/0", "10.9.8.7", true),
            ("10.0.0.0/33", "10.9.8.7", false),
            ("0.0.0.0/0", "fd00::1", false),
            ("fd00::/8", "fd00::1", true),
            ("::/0", "fd00::1", true),
            ("fd00::1", "fd00::1", true),
            ("[fd00::1]:4318", "fd00::1", true),
            ("[fd00::1]:1", "fd00::1", false),
            ("0.0.1", "10.0.0.1", false),
            ("", "a.example", false),
            (".", "a.example", false),
        ];
        for (list, host, expected) in table {
            assert_eq!(excepted(list, host, 4318), expected, "{host} with {list:?}");
        }
    }
}
