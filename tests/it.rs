//! The program as a whole, through real parts: real namespaces and iptables, unmodified clients, real servers, a real
//! collector. One module a behaviour; `support` makes the parts.
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

mod it {
    pub(crate) mod support;

    mod admin;
    mod authority;
    mod clients;
    mod conformance;
    mod delivery;
    mod ends;
    mod events;
    mod export;
    mod genai;
    mod h2;
    mod hellos;
    mod hostile;
    mod inbound;
    mod life;
    mod manifests;
    mod metrics;
    mod policy;
    mod redirect_rules;
    mod rules;
    mod secrets;
    mod soak;
    mod tls;
    mod tls_clients;
    mod tls_refusals;
    mod tls_verdicts;
    mod trust;
    mod wire;
    mod workloads;
}

use it::support;
