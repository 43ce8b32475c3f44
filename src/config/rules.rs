//! The rules of the file that `SIDETRACE_CONFIG` names: what is recorded, captured, propagated and trusted.
//! [`super::assembly`] makes them, `policy` decides by them.

mod genai;
mod workloads;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use http::HeaderName;

pub use genai::{GenAiRules, Price, ProviderRule, Redact, Switch};
pub use workloads::WorkloadRule;

use crate::net::Direction;

/// Everything that the file may say; the default is what holds without one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Which calls are recorded: the first that matches decides.
    pub record: Vec<RecordRule>,
    /// Request headers that spans carry.
    pub request_headers: Vec<HeaderName>,
    /// Response headers that spans carry.
    pub response_headers: Vec<HeaderName>,
    /// Query parameters whose values may stay in `url.full`.
    pub query: Vec<String>,
    /// Which calls carry our headers: the first that matches decides.
    pub propagation: Vec<PropagationRule>,
    /// Verified names inside the trust boundary.
    pub trusted_hosts: Vec<HostPattern>,
    /// Addresses inside the trust boundary, beside private ones.
    pub trusted_addresses: Vec<Cidr>,
    /// Which TLS connections are intercepted: the first that matches decides. Host is the name that the client asks for.
    pub intercept: Vec<InterceptRule>,
    /// Authorities that are trusted beside the system's, for some servers.
    pub roots: Vec<RootsRule>,
    /// Who we are where a server asks for it: the first that matches.
    pub client_certificates: Vec<ClientCertificateRule>,
    /// What a context from outside the boundary is worth.
    pub context: ExternalContext,
    /// Paths of health probes, beside the built-in ones.
    pub probe_paths: Vec<PathPattern>,
    /// LLM and MCP calls.
    pub genai: GenAiRules,
    /// Several workloads of one pod: the first that matches.
    pub workloads: Vec<WorkloadRule>,
}

impl Rules {
    /// Whether a rule asks for interception.
    pub fn ask_for_interception(&self) -> bool {
        self.intercept.iter().any(|rule| rule.intercept)
    }
}

/// One rule of `record`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRule {
    /// Which calls it is about.
    pub matcher: Matcher,
    /// What becomes of them.
    pub action: Action,
}

/// What becomes of a call that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A span, and our headers.
    Record,
    /// Neither span nor headers; counted.
    Count,
    /// Neither span nor headers.
    Ignore,
}

/// One rule of `propagation`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropagationRule {
    /// Which calls it is about.
    pub matcher: Matcher,
    /// Whether `traceparent` and its like are written.
    pub inject: bool,
}

/// One rule of `tls.intercept`. Only host, address and port can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterceptRule {
    /// Which connections it is about.
    pub matcher: Matcher,
    /// Whether they are intercepted.
    pub intercept: bool,
}

/// One rule of `tls.roots`. Only host and address can be set; all that match count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootsRule {
    /// Which servers it is about.
    pub matcher: Matcher,
    /// Certificates, PEM.
    pub file: PathBuf,
}

/// One rule of `tls.client_certificates`. Only host and address can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificateRule {
    /// Which servers it is about.
    pub matcher: Matcher,
    /// The certificate and those above it, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// What a context that comes from outside the trust boundary is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExternalContext {
    /// It is the parent.
    #[default]
    Continue,
    /// A new trace, linked to it.
    Link,
    /// A new trace.
    Ignore,
}

/// Conditions on a call; one that is absent holds for every call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matcher {
    /// Of the Host header or `:authority`.
    pub host: Option<HostPattern>,
    /// Of the original destination.
    pub address: Option<Cidr>,
    /// Of the original destination.
    pub port: Option<PortRange>,
    /// Without the query.
    pub path: Option<PathPattern>,
    /// In capitals.
    pub method: Option<String>,
    /// Seen from the pod.
    pub direction: Option<Direction>,
}

impl Matcher {
    /// Whether every call that `other` matches is matched by this one; false also where that is not obvious.
    pub fn covers(&self, other: &Self) -> bool {
        fn field<T: PartialEq>(mine: Option<&T>, other: Option<&T>) -> bool {
            mine.is_none() || mine == other
        }
        field(self.host.as_ref(), other.host.as_ref())
            && field(self.address.as_ref(), other.address.as_ref())
            && field(self.port.as_ref(), other.port.as_ref())
            && field(self.path.as_ref(), other.path.as_ref())
            && field(self.method.as_ref(), other.method.as_ref())
            && field(self.direction.as_ref(), other.direction.as_ref())
    }
}

/// A host's name, the names below one, or any. In lower case, without port, brackets and final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// `*`: any name, but there must be one.
    Any,
    /// `name`
    Is(String),
    /// `*.name`, kept as `.name`: what is below it, not itself.
    Below(String),
}

impl HostPattern {
    /// Compares with a name without port, brackets and final dot; capitals do not matter.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            HostPattern::Any => true,
            HostPattern::Is(name) => name.eq_ignore_ascii_case(host),
            HostPattern::Below(suffix) => host.len() > suffix.len() && ends_with_ignoring_case(host, suffix),
        }
    }
}

/// Whether `text` ends with `suffix`, capitals or not.
pub fn ends_with_ignoring_case(text: &str, suffix: &str) -> bool {
    let (text, suffix) = (text.as_bytes(), suffix.as_bytes());
    text.len().checked_sub(suffix.len()).is_some_and(|at| text[at..].eq_ignore_ascii_case(suffix))
}

/// A network: an address and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The network of this size that an address is in; `None` if the prefix is too long. An IPv4 address inside IPv6 is
    /// the IPv4 address.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let network = match address {
            IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & mask_v4(prefix)?).into()),
            IpAddr::V6(v6) => match (v6.to_ipv4_mapped(), prefix.checked_sub(96)) {
                (Some(v4), Some(prefix)) => return Self::new(v4.into(), prefix),
                _ => IpAddr::V6((u128::from(v6) & mask_v6(prefix)?).into()),
            },
        };
        Some(Self { network, prefix })
    }

    /// Its first address.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// Whether an address is in it. An IPv4 address inside IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(v4)) => {
                mask_v4(self.prefix).is_some_and(|mask| u32::from(v4) & mask == u32::from(network))
            }
            (IpAddr::V6(network), IpAddr::V6(v6)) => {
                mask_v6(self.prefix).is_some_and(|mask| u128::from(v6) & mask == u128::from(network))
            }
            _ => false,
        }
    }
}

fn mask_v4(prefix: u8) -> Option<u32> {
    (prefix <= 32).then(|| u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0))
}

fn mask_v6(prefix: u8) -> Option<u128> {
    (prefix <= 128).then(|| u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0))
}

/// Ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl PortRange {
    /// Whether it is one of them.
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// A path, or what paths begin with. Capitals matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// `/path`
    Is(String),
    /// `/path*`, kept without the star.
    Begins(String),
}

impl PathPattern {
    /// Compares with a path without its query.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            PathPattern::Is(whole) => whole == path,
            PathPattern::Begins(prefix) => path.starts_with(prefix.as_str()),
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields: Vec<String> = Vec::new();
        fields.extend(self.host.as_ref().map(|host| format!("host={host}")));
        fields.extend(self.address.as_ref().map(|address| format!("address={address}")));
        fields.extend(self.port.as_ref().map(|port| format!("port={port}")));
        fields.extend(self.path.as_ref().map(|path| format!("path={path}")));
        fields.extend(self.method.as_ref().map(|method| format!("method={method}")));
        fields.extend(self.direction.map(|direction| {
            let name = match direction {
                Direction::Outbound => "outbound",
                Direction::Inbound => "inbound",
            };
            format!("direction={name}")
        }));
        f.write_str(if fields.is_empty() { "everything".to_owned() } else { fields.join(" ") }.as_str())
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Any => f.write_str("*"),
            HostPattern::Is(name) => f.write_str(name),
            HostPattern::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathPattern::Is(path) => f.write_str(path),
            PathPattern::Begins(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Record => "record",
            Action::Count => "count",
            Action::Ignore => "ignore",
        })
    }
}

impl fmt::Display for ExternalContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExternalContext::Continue => "continue",
            ExternalContext::Link => "link",
            ExternalContext::Ignore => "ignore",
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn a_network_contains_what_begins_with_its_bits_and_nothing_else() {
        let mut random = SmallRng::seed_from_u64(3);
        for _ in 0..20_000 {
            let (address, prefix) = match random.random::<bool>() {
                true => (IpAddr::V4(random.random::<u32>().into()), random.random_range(0..=32)),
                false => (IpAddr::V6(random.random::<u128>().into()), random.random_range(0..=128)),
            };
            let network = Cidr::new(address, prefix).unwrap();
            assert!(network.contains(address) && network.contains(network.network()), "{address} {network}");
            let width = if address.is_ipv4() { 32 } else { 128 };
            let bit = random.random_range(0..width);
            let other = match address {
                IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) ^ (1 << (31 - bit))).into()),
                IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) ^ (1 << (127 - bit))).into()),
            };
            assert_eq!(network.contains(other), bit >= u32::from(prefix), "{other} {network} {bit}");
            if let IpAddr::V4(v4) = address {
                assert!(network.contains(v4.to_ipv6_mapped().into()));
                assert_eq!(Cidr::new(v4.to_ipv6_mapped().into(), 96 + prefix), Some(network));
            }
        }
        for (address, prefix) in [("10.0.0.0", 33), ("::", 129)] {
            assert_eq!(Cidr::new(address.parse().unwrap(), prefix), None);
        }
        let everything = Cidr::new("::".parse().unwrap(), 0).unwrap();
        assert!(!everything.contains("10.0.0.1".parse().unwrap()), "all of IPv6 is not IPv4");
    }

    #[test]
    fn a_host_pattern_matches_names_as_dns_compares_them() {
        let mut random = SmallRng::seed_from_u64(5);
        let letters = b"ab.-9";
        for _ in 0..20_000 {
            let mut text =
                |most| (0..random.random_range(1..most)).map(|_| letters[random.random_range(0..5)] as char).collect();
            let (name, host): (String, String) = (text(4), text(8));
            assert_eq!(HostPattern::Is(name.clone()).matches(&host), name == host);
            let below = HostPattern::Below(format!(".{name}"));
            let expected = host.len() > name.len() + 1 && host.ends_with(&format!(".{name}"));
            assert_eq!(below.matches(&host), expected, "{below} {host}");
            assert_eq!(below.matches(&host.to_uppercase()), expected);
            assert!(HostPattern::Any.matches(&host) && !below.matches(&name));
        }
        assert!(!HostPattern::Below(".b".into()).matches("é"), "no split inside a character");
    }

    #[test]
    fn a_path_pattern_is_exact_or_a_beginning() {
        let table = [("/a", "/a", true), ("/a", "/a/", false), ("/a", "/A", false), ("/a*", "/a", true)];
        let more = [("/a*", "/ab/c", true), ("/a*", "/", false), ("/*", "/", true), ("/*", "", false)];
        for (pattern, path, expected) in table.into_iter().chain(more) {
            let compiled = match pattern.strip_suffix('*') {
                Some(prefix) => PathPattern::Begins(prefix.into()),
                None => PathPattern::Is(pattern.into()),
            };
            assert_eq!(compiled.matches(path), expected, "{pattern} {path}");
            assert_eq!(compiled.to_string(), pattern);
        }
    }

    #[test]
    fn a_port_range_includes_both_ends() {
        let range = PortRange { first: 8000, last: 8999 };
        let inside = |port| range.contains(port);
        assert!(inside(8000) && inside(8999) && !inside(7999) && !inside(9000));
    }
}
