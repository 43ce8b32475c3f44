//! Which variable tells which runtime where the forward proxy is, beside the table of trust. The injector, the manifests and
//! `docs/forward-proxy.md` share it.

/// What the agent's process needs where nothing is redirected. `grpc_proxy` and `ALL_PROXY` are left out on purpose: whoever reads
/// them reads one of these too.
pub const PROXY_VARIABLES: &[ProxyVariable] = &[
    ProxyVariable {
        name: "HTTP_PROXY",
        value: ProxyValue::Address,
        read_by: "Python (requests, httpx, urllib, boto3), Go, Deno, Bun, uv, Node 24",
    },
    ProxyVariable {
        name: "http_proxy",
        value: ProxyValue::Address,
        read_by: "the same, and those that take no capitals: curl, git, wget",
    },
    ProxyVariable {
        name: "HTTPS_PROXY",
        value: ProxyValue::Address,
        read_by: "Python (openai and the other SDKs, requests, httpx, boto3), Go, Deno, Bun, uv, curl, git, Node 24",
    },
    ProxyVariable {
        name: "https_proxy",
        value: ProxyValue::Address,
        read_by: "the same, and those that take no capitals: gRPC for C++ and Python (grpcio), @grpc/grpc-js, wget",
    },
    ProxyVariable { name: "NO_PROXY", value: ProxyValue::Exceptions, read_by: "who reads the capitals above" },
    ProxyVariable { name: "no_proxy", value: ProxyValue::Exceptions, read_by: "who reads the others" },
    ProxyVariable {
        name: "NODE_USE_ENV_PROXY",
        value: ProxyValue::On,
        read_by: "Node 24 (fetch, http, https), which reads the others only with it",
    },
];

/// One variable of the agent's environment. A value that somebody set stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyVariable {
    /// How it is called.
    pub name: &'static str,
    /// What it says.
    pub value: ProxyValue,
    /// The runtimes and libraries that read it.
    pub read_by: &'static str,
}

/// What a variable says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyValue {
    /// Where the proxy is, and the credential.
    Address,
    /// What is not sent through it: loopback, and the clouds' metadata services, which it refuses.
    Exceptions,
    /// `1`.
    On,
}

impl ProxyVariable {
    /// The value to set, for a proxy at this port. `credential` is what stands between `sidetrace:` and `@`: in manifests
    /// `$(SIDETRACE_FORWARD_CREDENTIAL)`.
    pub fn value(&self, credential: &str, port: u16) -> String {
        match self.value {
            ProxyValue::Address => format!("http://sidetrace:{credential}@127.0.0.1:{port}"),
            ProxyValue::Exceptions => EXCEPTIONS.to_owned(),
            ProxyValue::On => "1".to_owned(),
        }
    }
}

/// Of AWS, GCP and Azure; ECS; EKS; the first and the third by IPv6, GCP by IPv6 and by name.
const EXCEPTIONS: &str = "localhost,127.0.0.1,::1,169.254.169.254,169.254.170.2,169.254.170.23,fd00:ec2::254,\
                          fd00:ec2::23,fd20:ce::254,metadata.google.internal";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_shows_the_table() {
        let document = include_str!("../../docs/forward-proxy.md");
        let mut table = String::from("| variable | value | read by |\n| --- | --- | --- |\n");
        for variable in PROXY_VARIABLES {
            let value = variable.value("$(SIDETRACE_FORWARD_CREDENTIAL)", 15107);
            table += &format!("| `{}` | `{value}` | {} |\n", variable.name, variable.read_by);
        }
        assert!(document.contains(&table), "docs/forward-proxy.md must have this table:\n\n{table}");
    }
}
