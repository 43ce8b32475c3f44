//! What becomes of a call by the rules: recorded or not, headers written or not, who is inside the trust boundary. Pure, and
//! asked for every request: with no rules an answer is a few comparisons and no allocation.

mod current;
mod own_telemetry;

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;

pub use current::{Policies, Reader};
pub use own_telemetry::telemetry;

use crate::config::rules::{Action, ClientCertificateRule, ExternalContext, Matcher, Price, RootsRule, Rules, Switch};
use crate::net::Direction;
use crate::redaction::Redaction;
use crate::trace::Workload;

/// A call, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Seen from the pod.
    pub direction: Direction,
    /// Of the original destination.
    pub address: IpAddr,
    /// Of the original destination.
    pub port: u16,
    /// The Host header or `:authority` as it came (the server name of a connection that is not read). What the client says:
    /// it decides what is recorded, never what is trusted.
    pub host: Option<&'a str>,
    /// Empty for a connection that is not read, as the path is.
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// `Content-Type` as it came.
    pub content_type: Option<&'a [u8]>,
    /// `User-Agent` as it came.
    pub user_agent: Option<&'a [u8]>,
}

/// What becomes of a call. Whatever is not recorded has no span, no header of ours, and no part in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A span, and our headers.
    Record,
    /// A rule says: count only.
    Count,
    /// A rule says: ignore.
    Ignore,
    /// The agent's own telemetry, of this kind; counted.
    Telemetry(&'static str),
    /// An inbound health probe; counted.
    Probe,
}

/// The rules in force.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Rules,
    /// By the rules; shared with the calls under way.
    redaction: Arc<Redaction>,
}

/// By the rules: everything else is made from them.
impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Policy {
    /// Decides by these rules.
    pub fn new(rules: Rules) -> Self {
        let redaction = Arc::new(Redaction::new(&rules.genai.redact));
        Self { rules, redaction }
    }

    /// Whether the call is recorded, and if not, why: a rule of the user's wins over what is recognised.
    pub fn verdict(&self, call: &Subject<'_>) -> Verdict {
        match self.rule(call) {
            Some(Action::Record) => return Verdict::Record,
            Some(Action::Count) => return Verdict::Count,
            Some(Action::Ignore) => return Verdict::Ignore,
            None => {}
        }
        match call.direction {
            Direction::Outbound => telemetry(call).map_or(Verdict::Record, Verdict::Telemetry),
            Direction::Inbound if self.is_health_probe(call.method, call.path, call.user_agent) => Verdict::Probe,
            Direction::Inbound => Verdict::Record,
        }
    }

    fn rule(&self, call: &Subject<'_>) -> Option<Action> {
        if self.rules.record.is_empty() {
            return None;
        }
        let host = call.host.map(bare_host);
        self.rules.record.iter().find(|rule| matches(&rule.matcher, call, host)).map(|rule| rule.action)
    }

    /// Whether our headers are written, if the call is recorded.
    pub fn injects(&self, call: &Subject<'_>) -> bool {
        if self.rules.propagation.is_empty() {
            return true;
        }
        let host = call.host.map(bare_host);
        self.rules.propagation.iter().find(|rule| matches(&rule.matcher, call, host)).is_none_or(|rule| rule.inject)
    }

    /// Whether the far side is inside the trust boundary: by its address, the original destination outbound and the peer
    /// inbound, or by a name that a certificate has proved. The Host header proves nothing: an agent that was talked into
    /// something may write what it likes there. Names of a cluster (`.svc`, `.cluster.local`) need no rule of their own:
    /// with a private address they are inside, and with another one they are not.
    pub fn inside(&self, verified_name: Option<&str>, address: IpAddr) -> bool {
        is_private(address)
            || self.rules.trusted_addresses.iter().any(|network| network.contains(address))
            || verified_name.is_some_and(|name| {
                let name = bare_host(name);
                self.rules.trusted_hosts.iter().any(|pattern| pattern.matches(name))
            })
    }

    /// Whether a rule says that a TLS connection is intercepted or left alone; `None`: none is about it. By the name that the
    /// client asks for: nothing is verified yet.
    pub fn intercepts(&self, name: Option<&str>, address: IpAddr, port: u16) -> Option<bool> {
        let name = name.map(bare_host);
        let mut rules = self.rules.intercept.iter();
        rules.find(|rule| reaches(&rule.matcher, name, address, port)).map(|rule| rule.intercept)
    }

    /// Which of [`Policy::roots`] count for a server, beside those that count for all. By the name that its certificate has to
    /// prove. Two servers for which the same ones count are verified in the same way.
    pub fn roots_for(&self, name: Option<&str>, address: IpAddr) -> impl Iterator<Item = usize> {
        let name = name.map(bare_host);
        let rules = self.rules.roots.iter().enumerate();
        rules.filter(move |(_, rule)| serves(&rule.matcher, name, address)).map(|(index, _)| index)
    }

    /// Which of [`Policy::client_certificates`] is shown to a server that asks for one. By the name that its certificate has
    /// to prove.
    pub fn client_certificate_for(&self, name: Option<&str>, address: IpAddr) -> Option<usize> {
        let name = name.map(bare_host);
        self.rules.client_certificates.iter().position(|rule| serves(&rule.matcher, name, address))
    }

    /// Authorities that are trusted for some servers.
    pub fn roots(&self) -> &[RootsRule] {
        &self.rules.roots
    }

    /// Who we are to some servers.
    pub fn client_certificates(&self) -> &[ClientCertificateRule] {
        &self.rules.client_certificates
    }

    /// Who answers at a host, by a rule.
    pub fn provider_for(&self, host: &str) -> Option<&str> {
        let host = bare_host(host);
        let rule = self.rules.genai.providers.iter().find(|rule| rule.host.matches(host));
        rule.map(|rule| &*rule.provider)
    }

    /// What a context that comes from outside is worth.
    pub fn external_context(&self) -> ExternalContext {
        self.rules.context
    }

    /// Whether an inbound request only asks whether the agent lives. By user agent, or by a path that was listed.
    pub fn is_health_probe(&self, method: &str, path: &str, user_agent: Option<&[u8]>) -> bool {
        let known = |agent: &[u8]| PROBES.iter().any(|probe| agent.starts_with(probe.as_bytes()));
        user_agent.is_some_and(known)
            || path.starts_with(GRPC_HEALTH)
            || (matches!(method, "GET" | "HEAD") && self.rules.probe_paths.iter().any(|pattern| pattern.matches(path)))
    }

    /// Whether usage is asked for on the client's behalf.
    pub fn asks_usage(&self, call: &Subject<'_>) -> bool {
        is_on(&self.rules.genai.ask_usage, call)
    }

    /// Whether our context is written into MCP `_meta`.
    pub fn writes_meta(&self, call: &Subject<'_>) -> bool {
        is_on(&self.rules.genai.mcp_meta, call)
    }

    /// What a model's tokens cost, if that is known.
    pub fn price(&self, provider: Option<&str>, model: &str) -> Option<&Price> {
        self.rules.genai.prices.iter().find(|price| price.matches(provider, model))
    }

    /// What is taken out of captured content. A call keeps the one that it began with.
    pub fn redaction(&self) -> &Arc<Redaction> {
        &self.redaction
    }

    /// Whether it counts whose an outbound connection is.
    pub fn names_uids(&self) -> bool {
        self.rules.workloads.iter().any(|rule| rule.uid.is_some())
    }

    /// Whose calls a connection carries, where the pod has several workloads: of an outbound one by the uid of its client, of an
    /// inbound one by the port that it came for. `None`: the pod's.
    pub fn workload(&self, direction: Direction, uid: Option<u32>, port: u16) -> Option<&Arc<Workload>> {
        let mut rules = self.rules.workloads.iter();
        let rule = match direction {
            Direction::Outbound => rules.find(|rule| rule.uid.is_some() && rule.uid == uid),
            Direction::Inbound => rules.find(|rule| rule.port.is_some_and(|ports| ports.contains(port))),
        };
        rule.map(|rule| &rule.workload)
    }

    /// Request headers that spans carry.
    pub fn captured_request_headers(&self) -> &[HeaderName] {
        &self.rules.request_headers
    }

    /// Response headers that spans carry.
    pub fn captured_response_headers(&self) -> &[HeaderName] {
        &self.rules.response_headers
    }

    /// Whether this query parameter's value may stay in `url.full`.
    pub fn keeps_query_value(&self, name: &str) -> bool {
        self.rules.query.iter().any(|kept| kept == name)
    }
}

/// Off unless the first rule that matches says otherwise.
fn is_on(switches: &[Switch], call: &Subject<'_>) -> bool {
    if switches.is_empty() {
        return false;
    }
    let host = call.host.map(bare_host);
    switches.iter().find(|rule| matches(&rule.matcher, call, host)).is_some_and(|rule| rule.on)
}

fn matches(matcher: &Matcher, call: &Subject<'_>, host: Option<&str>) -> bool {
    matcher.direction.is_none_or(|direction| direction == call.direction)
        && matcher.method.as_ref().is_none_or(|method| method == call.method)
        && matcher.path.as_ref().is_none_or(|path| path.matches(call.path))
        && reaches(matcher, host, call.address, call.port)
}

/// What a rule says of a connection.
fn reaches(matcher: &Matcher, host: Option<&str>, address: IpAddr, port: u16) -> bool {
    matcher.port.is_none_or(|ports| ports.contains(port)) && serves(matcher, host, address)
}

/// What a rule says of a server.
fn serves(matcher: &Matcher, host: Option<&str>, address: IpAddr) -> bool {
    matcher.address.is_none_or(|network| network.contains(address))
        && matcher.host.as_ref().is_none_or(|pattern| host.is_some_and(|host| pattern.matches(host)))
}

/// An authority's host, without user information, port, brackets and final dot.
pub fn bare_host(authority: &str) -> &str {
    let host = match authority.bytes().rposition(|byte| byte == b'@') {
        Some(at) => &authority[at + 1..],
        None => authority,
    };
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(host, _)| host),
        None => match host.split_once(':') {
            // More colons: an IPv6 address without its brackets.
            Some((name, port)) if !port.contains(':') => name,
            _ => host,
        },
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// Loopback, private (RFC 1918, RFC 4193) and shared address space (RFC 6598), which clusters give to pods. Link-local
/// addresses are the cloud's, not the pod's.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_loopback() || v4.is_private() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    }
}

/// How health checkers begin their user agent. Prometheus is none: a scrape is a call.
const PROBES: [&str; 6] = [
    "kube-probe/",
    "GoogleHC/",
    "ELB-HealthChecker/",
    "Consul Health Check",
    "Envoy/HC",
    "Amazon-Route53-Health-Check-Service",
];
const GRPC_HEALTH: &str = "/grpc.health.v1.Health/";

#[cfg(test)]
impl Policy {
    /// Asks for usage everywhere.
    pub(crate) fn asking_for_usage() -> Self {
        let mut rules = Rules::default();
        rules.genai.ask_usage.push(Switch { matcher: Matcher::default(), on: true });
        Self::new(rules)
    }
}

#[cfg(test)]
mod tests;
