//! The program as a whole, through real parts: real namespaces and iptables, unmodified clients, real servers, a real
//! collector. One module a behaviour; `support` makes the parts.
#![allow(missing_docs, reason = "a test's name is its documentation")]

mod it {
    pub(crate) mod support;

    mod clients;
    mod redirect_rules;
}

use it::support;
