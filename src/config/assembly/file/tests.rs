use std::path::Path;

use super::*;
use crate::config::rules::{Action, ExternalContext, HostPattern, PathPattern, PortRange};
use crate::net::Direction;

const EVERY_KEY: &str = r#"
record:
  - host: "*.Example.com"
    address: 10.0.0.0/8
    port: 8080
    path: /v1/traces*
    method: post
    direction: outbound
    action: ignore
  - {host: localhost, port: "8000-8999", direction: inbound, action: count}
  - action: record
headers:
  request: [X-Request-Id]
  response:
    - x-ratelimit-remaining-tokens
query: [page, limit]
propagation:
  - host: api.openai.com
    inject: false
  - path: /x
trust:
  hosts: ["*.internal.example", "*"]
  addresses: [203.0.113.0/24, "fd00::/8", 2001:db8::1]
tls:
  intercept:
    - host: "*.Bank.example"
      intercept: false
    - address: 10.0.0.0/8
      port: 8443
      intercept: true
  roots:
    - file: /etc/corp//root.pem
      host: "*.corp.example"
      address: 10.0.0.0/8
    - {file: /etc/corp/root.pem, host: localhost}
  client_certificates:
    - certificate: /etc/corp/client.pem
      key: /etc/corp/client.key
      host: api.corp.example
context: link
probes:
  paths: [/healthz, "/live/*"]
genai:
  providers: [{host: "*.llm.example", provider: vllm}]
  ask_usage:
    - {host: a.example, ask: false}
    - path: /v1/*
  mcp_meta: [{host: mcp.example, write: true}]
  redact:
    - pattern: '(?i)project \w+'
      replace: "[PROJECT]"
    - pattern: a+
    - path: $..password
  prices:
    - {provider: openai, model: gpt-4o, input: 2.5, output: 10, cache_read: 1.25, cache_write: 3}
    - {model: "gpt-*", input: 1, output: 2}
workloads:
  - uid: 10001
    port: 8080-8089
    name: planner
    container: plan
    resource: {service.version: 2, team: a b}
  - {uid: 0, name: root}
"#;

#[test]
fn every_key_is_read() {
    let rules = parse(EVERY_KEY).unwrap();
    let first = &rules.record[0];
    assert_eq!(first.matcher.host, Some(HostPattern::Below(".example.com".into())));
    assert_eq!(first.matcher.address.unwrap().to_string(), "10.0.0.0/8");
    assert_eq!(first.matcher.port, Some(PortRange { first: 8080, last: 8080 }));
    assert_eq!(first.matcher.path, Some(PathPattern::Begins("/v1/traces".into())));
    assert_eq!(first.matcher.method.as_deref(), Some("POST"));
    assert_eq!((first.matcher.direction, first.action), (Some(Direction::Outbound), Action::Ignore));
    assert_eq!(rules.record[1].to_owned().matcher.to_string(), "host=localhost port=8000-8999 direction=inbound");
    assert_eq!((rules.record[1].action, rules.record[2].action), (Action::Count, Action::Record));
    assert_eq!(rules.request_headers, ["x-request-id"]);
    assert_eq!(rules.response_headers, ["x-ratelimit-remaining-tokens"]);
    assert_eq!(rules.query, ["page", "limit"]);
    assert_eq!(rules.propagation.iter().map(|rule| rule.inject).collect::<Vec<_>>(), [false, true]);
    assert_eq!(rules.trusted_hosts, [HostPattern::Below(".internal.example".into()), HostPattern::Any]);
    let addresses: Vec<_> = rules.trusted_addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["203.0.113.0/24", "fd00::/8", "2001:db8::1/128"]);
    let intercept: Vec<_> = rules.intercept.iter().map(|rule| (rule.matcher.to_string(), rule.intercept)).collect();
    assert_eq!(
        intercept,
        [("host=*.bank.example".to_owned(), false), ("address=10.0.0.0/8 port=8443".to_owned(), true)]
    );
    let roots: Vec<_> = rules.roots.iter().map(|rule| (rule.matcher.to_string(), rule.file.as_path())).collect();
    let file = Path::new("/etc/corp/root.pem");
    assert_eq!(
        roots,
        [("host=*.corp.example address=10.0.0.0/8".to_owned(), file), ("host=localhost".to_owned(), file)]
    );
    let client = &rules.client_certificates[0];
    assert_eq!(client.matcher.host, Some(HostPattern::Is("api.corp.example".into())));
    assert_eq!(
        (client.certificate.as_path(), client.key.as_path()),
        (Path::new("/etc/corp/client.pem"), Path::new("/etc/corp/client.key"))
    );
    assert_eq!(rules.context, ExternalContext::Link);
    assert_eq!(rules.probe_paths, [PathPattern::Is("/healthz".into()), PathPattern::Begins("/live/".into())]);
    let genai = &rules.genai;
    assert_eq!(
        (genai.providers[0].host.to_string(), genai.providers[0].provider.as_str()),
        ("*.llm.example".into(), "vllm")
    );
    assert_eq!(genai.ask_usage.iter().map(|rule| rule.on).collect::<Vec<_>>(), [false, true]);
    assert!(genai.mcp_meta[0].on);
    assert_eq!((genai.redact.len(), genai.prices.len()), (3, 2));
    assert_eq!((genai.prices[0].cache_read, genai.prices[1].cache_write), (Some(1.25), None));
    let workload = &rules.workloads[0];
    assert_eq!((workload.uid, workload.port), (Some(10001), Some(PortRange { first: 8080, last: 8089 })));
    assert_eq!((&*workload.workload.name, workload.workload.container.as_deref()), ("planner", Some("plan")));
    assert_eq!(workload.workload.attributes.len(), 2);
    assert_eq!((rules.workloads[1].uid, rules.workloads[1].port), (Some(0), None));
    let shown = show(&rules);
    let value = |name: &str| &shown.iter().find(|(shown, _, set)| shown == name && *set).unwrap().1;
    assert!(value("record[0]").ends_with("method=POST direction=outbound -> ignore"), "{shown:?}");
    assert_eq!(
        (value("record[2]").as_str(), value("probes.paths").as_str()),
        ("everything -> record", "/healthz, /live/*")
    );
    assert_eq!(value("genai.providers[0]"), "host=*.llm.example -> vllm");
    assert_eq!(value("genai.ask_usage[1]"), "path=/v1/* -> ask=true");
    assert_eq!(value("genai.redact[0]"), "\"(?i)project \\\\w+\" -> [PROJECT]");
    assert_eq!(value("genai.redact[1]"), "\"a+\" -> [REDACTED:custom]");
    assert_eq!(value("genai.redact[2]"), "$..password -> [REDACTED]");
    assert_eq!(
        value("genai.prices[0]"),
        "provider=openai model=gpt-4o -> input=2.5 output=10 cache_read=1.25 cache_write=3"
    );
    assert_eq!(
        value("workloads[0]"),
        "uid=10001 port=8080-8089 -> name=planner container=plan service.version=2 team=a b"
    );
    assert_eq!(value("workloads[1]"), "uid=0 -> name=root");
    assert_eq!(value("propagation[0]"), "host=api.openai.com -> inject=false");
    assert_eq!(value("tls.intercept[1]"), "address=10.0.0.0/8 port=8443 -> intercept=true");
    assert_eq!(value("tls.roots[1]"), "host=localhost -> /etc/corp/root.pem");
    assert_eq!(
        value("tls.client_certificates[0]"),
        "host=api.corp.example -> certificate=/etc/corp/client.pem key=/etc/corp/client.key"
    );
}

#[test]
fn nothing_and_empty_sections_are_the_default() {
    let empty = "record:\nheaders:\n  request:\nquery: []\npropagation: ~\ntrust: {}\nprobes: null\ntls:\n  roots:\n";
    for text in
        ["", "tls: {intercept: [], roots: ~, client_certificates: []}", "# only a comment", "{}", "---\n...\n", empty]
    {
        assert_eq!(parse(text), Ok(Rules::default()), "{text:?}");
    }
    assert!(show(&Rules::default()).iter().all(|(_, _, set)| !set));
}

#[test]
fn every_refusal_names_the_place_the_line_the_value_and_what_is_accepted() {
    let table = [
        ("recrod: []", "recrod (line 1): unknown key; did you mean record? accepted: record, headers, query"),
        ("colour: red", "colour (line 1): unknown key; accepted: record"),
        ("record:\n  - hots: a\n    action: count", "record[0].hots (line 2): unknown key; did you mean host?"),
        ("record:\n  - host: a", "record[0] (line 2): the key action is missing; accepted: record, count or ignore"),
        ("record: [{action: drop}]", "record[0].action (line 1): \"drop\" is not record, count or ignore"),
        ("record: [{action: }]", "record[0].action (line 1): nothing is not record"),
        ("record: [{host: , action: count}]", "record[0].host (line 1): nothing is not a host name"),
        ("record: [{host: 'a:80', action: count}]", "\"a:80\" is not a host name without scheme and port"),
        ("record: [{host: 'http://a', action: count}]", "\"http://a\" is not a host name"),
        ("record: [{host: 'a*', action: count}]", "\"a*\" is not a host name"),
        ("record: [{host: 'é.fr', action: count}]", "xn-- form"),
        ("record: [{host: [a], action: count}]", "record[0].host (line 1): a list is not one value"),
        ("record: [{address: 10.0.0.0/33, action: count}]", "\"10.0.0.0/33\" is not a network"),
        ("record: [{address: 10.1.2.3/8, action: count}]", "did you mean 10.0.0.0/8?"),
        ("record: [{address: example.com, action: count}]", "\"example.com\" is not a network"),
        ("record: [{address: 10.0.0.0/, action: count}]", "is not a network"),
        ("record: [{address: 10.0.0.0/+8, action: count}]", "is not a network"),
        ("record: [{port: 0, action: count}]", "record[0].port (line 1): \"0\" is not a port from 1 to 65535"),
        ("record: [{port: 65536, action: count}]", "\"65536\" is not a port"),
        ("record: [{port: 9-8, action: count}]", "\"9-8\" is not a port"),
        ("record: [{port: +8, action: count}]", "\"+8\" is not a port"),
        ("record: [{port: 8-, action: count}]", "\"8-\" is not a port"),
        ("record: [{path: v1, action: count}]", "\"v1\" is not a path"),
        ("record: [{path: '/a?b', action: count}]", "\"/a?b\" is not a path without query"),
        ("record: [{path: '/a*b', action: count}]", "\"/a*b\" is not a path"),
        ("record: [{method: 'GET POST', action: count}]", "\"GET POST\" is not one method"),
        ("record: [{method: '*', action: count}]", "\"*\" is not one method"),
        ("record: [{direction: both, action: count}]", "\"both\" is not outbound or inbound"),
        ("record: {host: a}", "record (line 1): a mapping is not a list"),
        ("record: [ignore]", "record[0] (line 1): \"ignore\" is not a mapping"),
        ("headers: [a]", "headers (line 1): a list is not a mapping"),
        ("headers: {requests: [a]}", "headers.requests (line 1): unknown key; did you mean request?"),
        ("headers: {request: a}", "headers.request (line 1): \"a\" is not a list"),
        ("headers: {request: ['a b']}", "headers.request[0] (line 1): \"a b\" is not a header's name"),
        ("headers: {response: [Set-Cookie]}", "headers.response[0] (line 1): \"Set-Cookie\" carries credentials"),
        ("query: [a=b]", "query[0] (line 1): \"a=b\" is not a query parameter's name"),
        ("query: [api_key]", "query[0] (line 1): \"api_key\" may carry a credential"),
        ("propagation: [{host: a, inject: 'no'}]", "propagation[0].inject (line 1): \"no\" is not true or false"),
        ("propagation: [{host: a, action: count}]", "propagation[0].action (line 1): unknown key"),
        ("trust: {host: [a]}", "trust.host (line 1): unknown key; did you mean hosts?"),
        ("trust: {hosts: ['a..b']}", "trust.hosts[0] (line 1): \"a..b\" is not a host name"),
        ("trust: {addresses: [10.0.0.0-10.0.0.9]}", "trust.addresses[0] (line 1): "),
        (
            "tls: {intercepts: []}",
            "tls.intercepts (line 1): unknown key; did you mean intercept? accepted: intercept, roots",
        ),
        ("tls: {intercept: false}", "tls.intercept (line 1): \"false\" is not a list"),
        ("tls: {intercept: [{host: a}]}", "tls.intercept[0] (line 1): the key intercept is missing; accepted: true or"),
        (
            "tls: {intercept: [{host: a, intercept: 0}]}",
            "tls.intercept[0].intercept (line 1): \"0\" is not true or false",
        ),
        ("tls: {intercept: [{host: 'a:1', intercept: true}]}", "tls.intercept[0].host (line 1): \"a:1\" is not a host"),
        (
            "tls: {intercept: [{address: a, intercept: true}]}",
            "tls.intercept[0].address (line 1): \"a\" is not a network",
        ),
        ("tls: {intercept: [{port: 0, intercept: true}]}", "tls.intercept[0].port (line 1): \"0\" is not a port"),
        (
            "tls: {intercept: [{method: GET, intercept: true}]}",
            "tls.intercept[0].method (line 1): unknown key; accepted: host, address, port, intercept",
        ),
        ("tls: {intercept: [{path: /a, intercept: true}]}", "tls.intercept[0].path (line 1): unknown key"),
        ("tls: {intercept: [{direction: inbound, intercept: true}]}", "direction (line 1): unknown key"),
        (
            "tls:\n  intercept:\n  - {address: 10.0.0.0/8, intercept: true}\n  - {address: 10.0.0.0/8, port: 1, intercept: false}",
            "tls.intercept[1] (line 4): is never reached: [0]",
        ),
        ("tls: {roots: [{host: a}]}", "tls.roots[0] (line 1): the key file is missing; accepted: an absolute path"),
        ("tls: {roots: [{host: a, file: a.pem}]}", "tls.roots[0].file (line 1): \"a.pem\" is not an absolute path"),
        ("tls: {roots: [{host: a, file: /a/../b}]}", "\"/a/../b\" is not an absolute path without \"..\""),
        ("tls: {roots: [{host: a, file: \"/a\\0\"}]}", "\"/a\\0\" is not an absolute path"),
        ("tls: {roots: [{host: a, file: /}]}", "\"/\" is not an absolute path"),
        ("tls: {roots: [{host: a, file: }]}", "tls.roots[0].file (line 1): nothing is not an absolute path"),
        ("tls: {roots: [{file: /a}]}", "tls.roots[0] (line 1): names no server; accepted: host, address or both"),
        ("tls: {roots: [{host: '', file: /a}]}", "tls.roots[0].host (line 1): \"\" is not a host name"),
        ("tls: {roots: [{host: a, port: 443, file: /a}]}", "tls.roots[0].port (line 1): unknown key"),
        ("tls: {roots: [{host: a, file: /a}, {file: /a, host: A}]}", "tls.roots[1] (line 1): has the file of [0]"),
        (
            "tls: {roots: [{host: a, address: '::1', file: /a}, {file: /a, host: a}]}",
            "tls.roots[1] (line 1): has the file of [0], and one matches all of the other; keep the wider",
        ),
        (
            "tls: {client_certificates: [{host: a, certificate: /a}]}",
            "tls.client_certificates[0] (line 1): the key key is missing; accepted: an absolute path",
        ),
        ("tls: {client_certificates: [{host: a, key: /a}]}", "the key certificate is missing; accepted: an absolute"),
        ("tls: {client_certificates: [{host: a, certificate: a, key: /a}]}", "].certificate (line 1): \"a\" is not an"),
        (
            "tls: {client_certificates: [{host: a, certificate: /a, key: [a]}]}",
            "].key (line 1): a list is not one value",
        ),
        (
            "tls: {client_certificates: [{certificate: /a, key: /a}]}",
            "names no server; accepted: host, address or both",
        ),
        (
            "tls: {client_certificates: [{host: '*', certificate: /a, key: /a}, {host: '*', certificate: /b, key: /b}]}",
            "tls.client_certificates[1] (line 1): is never reached: [0] matches all of it",
        ),
        ("context: drop", "context (line 1): \"drop\" is not continue, link or ignore"),
        ("probes: {paths: [healthz]}", "probes.paths[0] (line 1): \"healthz\" is not a path"),
        ("genai: {provider: []}", "genai.provider (line 1): unknown key; did you mean providers?"),
        ("genai: {providers: [{provider: a}]}", "genai.providers[0] (line 1): the key host is missing"),
        ("genai: {providers: [{host: a}]}", "the key provider is missing; accepted: a value of gen_ai.provider.name"),
        ("genai: {providers: [{host: a, provider: A B}]}", "\"A B\" is not a provider's name"),
        (
            "genai: {providers: [{host: a, provider: b}, {host: a, provider: c}]}",
            "genai.providers[1] (line 1): is never",
        ),
        ("genai: {ask_usage: [{host: a, ask: 1}]}", "genai.ask_usage[0].ask (line 1): \"1\" is not true or false"),
        ("genai: {mcp_meta: [{host: a, ask: true}]}", "genai.mcp_meta[0].ask (line 1): unknown key"),
        ("genai: {mcp_meta: [{}, {host: a}]}", "genai.mcp_meta[1] (line 1): is never reached"),
        (
            "genai: {redact: [{pattern: '('}]}",
            "genai.redact[0].pattern (line 1): \"(\" is not a regular expression that is",
        ),
        ("genai: {redact: [{pattern: 'a*'}]}", "matches nothing at all"),
        ("genai: {redact: [{pattern: '\\w{900}{90}'}]}", "256 KiB"),
        ("genai: {redact: [{path: password}]}", "\"password\" is not a path such as $.password"),
        ("genai: {redact: [{path: $.a, replace: b}]}", "genai.redact[0].replace (line 1): is for patterns"),
        ("genai: {redact: [{path: $.a, pattern: b}]}", "has a pattern and a path"),
        ("genai: {redact: [{replace: b}]}", "genai.redact[0] (line 1): has neither pattern nor path"),
        ("genai: {prices: [{input: 1, output: 1}]}", "genai.prices[0] (line 1): the key model is missing"),
        ("genai: {prices: [{model: a, input: 1}]}", "the key output is missing; accepted: what a million tokens cost"),
        (
            "genai: {prices: [{model: a, input: -1, output: 1}]}",
            "genai.prices[0].input (line 1): \"-1\" is not what a million",
        ),
        ("genai: {prices: [{model: a, input: 1e3, output: 1}]}", "\"1e3\" is not what a million"),
        ("genai: {prices: [{model: 'a*b', input: 1, output: 1}]}", "\"a*b\" is not a model's name"),
        (
            "genai: {prices: [{model: 'a*', input: 1, output: 1}, {model: ab, input: 1, output: 1}]}",
            "genai.prices[1] (line 1): is never reached: [0] matches all of it",
        ),
        ("workloads: [{uid: 1}]", "workloads[0] (line 1): the key name is missing; accepted: the service.name of"),
        ("workloads: [{name: a}]", "workloads[0] (line 1): says of no call that it is its own; accepted: uid, port"),
        ("workloads: [{uid: root, name: a}]", "workloads[0].uid (line 1): \"root\" is not a user id from 0 to"),
        ("workloads: [{uid: 4294967295, name: a}]", "\"4294967295\" is not a user id"),
        ("workloads: [{port: 0, name: a}]", "workloads[0].port (line 1): \"0\" is not a port"),
        ("workloads: [{uid: 1, name: ''}]", "workloads[0].name (line 1): \"\" is not a text of up to 256 bytes"),
        ("workloads: [{uid: 1, name: a, container: [b]}]", "workloads[0].container (line 1): a list is not one value"),
        ("workloads: [{uid: 1, name: a, resource: b}]", "workloads[0].resource (line 1): \"b\" is not a mapping"),
        (
            "workloads: [{uid: 1, name: a, resource: {service.name: b}}]",
            "workloads[0].resource.service.name (line 1): is what the key name of the workload says",
        ),
        ("workloads: [{uid: 1, name: a, resource: {a b: c}}]", "the key is not an attribute's name"),
        ("workloads: [{uid: 1, name: a, resource: {a: }}]", "workloads[0].resource.a (line 1): nothing is not a text"),
        ("workloads: [{uid: 1, service.name: a, name: b}]", "workloads[0].service.name (line 1): unknown key"),
        ("workloads: [{uid: 1, name: a}, {uid: 1, name: b}]", "workloads[1] (line 1): uid 1 is workloads[0] already"),
        (
            "workloads: [{port: 80-90, name: a}, {uid: 1, port: 85, name: b}]",
            "workloads[1] (line 1): port 85 is workloads[0] already",
        ),
        ("[]", "the file (line 1): a list is not a mapping"),
        ("record", "the file (line 1): \"record\" is not a mapping"),
        (
            "record: [{action: count}, {host: a, action: count}]",
            "record[1] (line 1): is never reached: [0] matches all",
        ),
        ("propagation:\n- host: a\n- host: A\n  inject: false", "propagation[1] (line 3): is never reached: [0]"),
    ];
    for (text, expected) in table {
        let problems = parse(text).unwrap_err();
        assert!(problems.len() == 1 && problems[0].contains(expected), "{text}: {expected}\n{problems:#?}");
    }
}

#[test]
fn redaction_has_a_bound() {
    let rules = |count: usize| format!("genai: {{redact: [{}]}}", "{path: $.a},".repeat(count));
    assert_eq!(parse(&rules(64)).unwrap().genai.redact.len(), 64);
    assert!(parse(&rules(65)).unwrap_err()[0].contains("65 entries; accepted: up to 64"));
}

#[test]
fn all_problems_come_at_once_up_to_a_bound() {
    let text = "context: x\nrecord:\n  - port: x\n    pth: /\n  - action: x\nquery: [1, token]\nheaders: {x: 1}";
    let problems = parse(text).unwrap_err();
    assert_eq!(problems.len(), 7, "{problems:#?}");
    let many = format!("query: [{}]", "a=b,".repeat(999));
    let problems = parse(&many).unwrap_err();
    assert_eq!((problems.len(), problems[50].as_str()), (51, "and 949 more"));
    let long = format!("context: {}", "é".repeat(10_000));
    assert!(parse(&long).unwrap_err()[0].len() < 300);
    let rules = |count: usize| format!("query: [{}]", (0..count).map(|n| format!("q{n},")).collect::<String>());
    assert_eq!(parse(&rules(1000)).unwrap().query.len(), 1000);
    assert!(parse(&rules(1001)).unwrap_err()[0].contains("1001 entries; accepted: up to 1000"));
}

#[test]
fn a_name_that_smells_of_a_credential_can_never_be_listed() {
    for name in [
        "authorization",
        "Proxy-Authorization",
        "cookie",
        "set-cookie",
        "x-api-key",
        "api-key",
        "apikey",
        "x-goog-api-key",
        "ocp-apim-subscription-key",
        "x-functions-key",
        "x-amz-security-token",
        "x-auth-token",
        "x-access-token",
        "x-forwarded-authorization",
        "private-token",
        "x-vault-token",
        "x-client-secret",
        "x-hub-signature-256",
        "x-goog-iap-jwt-assertion",
        "x-amzn-oidc-accesstoken",
        "mcp-session-id",
    ] {
        assert!(parse(&format!("headers: {{request: [{name}]}}")).is_err(), "{name}");
        assert!(parse(&format!("headers: {{response: [{name}]}}")).is_err(), "{name}");
    }
    for name in [
        "key",
        "accessToken",
        "client_secret",
        "X-Amz-Signature",
        "sig",
        "code",
        "password",
        "auth",
        "X-Amz-Credential",
    ] {
        assert!(parse(&format!("query: [{name}]")).is_err(), "{name}");
    }
    for name in
        ["x-request-id", "x-ratelimit-remaining-tokens", "idempotency-key", "openai-processing-ms", "retry-after"]
    {
        assert!(parse(&format!("headers: {{request: [{name}]}}")).is_ok(), "{name}");
    }
}

#[test]
fn the_same_files_may_count_for_several_servers() {
    let text =
        "tls: {roots: [{host: a, file: /a}, {host: b, file: /a}, {host: a, file: /b}, {address: '::1', file: /a}]}";
    assert_eq!(parse(text).unwrap().roots.len(), 4);
    let text = "tls: {client_certificates: [{host: a, certificate: /a, key: /k}, {host: b, certificate: /a, key: /k}]}";
    assert_eq!(parse(text).unwrap().client_certificates.len(), 2);
}
