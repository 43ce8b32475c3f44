use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::config::rules::{
    Cidr, HostPattern, InterceptRule, PathPattern, PortRange, PropagationRule, RecordRule, WorkloadRule,
};

const CALL: Subject<'_> = Subject {
    direction: Direction::Outbound,
    address: IpAddr::V4(std::net::Ipv4Addr::new(93, 184, 216, 34)),
    port: 443,
    host: Some("api.example.com"),
    method: "POST",
    path: "/v1/chat/completions",
    content_type: Some(b"application/json"),
    user_agent: None,
};

fn recording(rules: impl IntoIterator<Item = (Matcher, Action)>) -> Policy {
    let record = rules.into_iter().map(|(matcher, action)| RecordRule { matcher, action }).collect();
    Policy::new(Rules { record, ..Rules::default() })
}

#[test]
fn without_rules_everything_is_recorded_injected_and_outside() {
    let policy = Policy::default();
    assert_eq!(policy.verdict(&CALL), Verdict::Record);
    assert!(policy.injects(&CALL) && !policy.inside(None, CALL.address));
    assert_eq!(policy.external_context(), ExternalContext::Continue);
    assert!(policy.captured_request_headers().is_empty() && policy.captured_response_headers().is_empty());
    assert!(!policy.keeps_query_value("page"));
}

#[test]
fn a_call_is_its_users_outbound_and_its_ports_inbound() {
    let workload = |name: &str| Arc::new(Workload { name: name.into(), container: None, attributes: Vec::new() });
    let rule = |uid, port: Option<u16>, name| WorkloadRule {
        uid,
        port: port.map(|port| PortRange { first: port, last: port }),
        workload: workload(name),
    };
    let workloads = vec![rule(Some(1), Some(80), "both"), rule(Some(2), None, "user"), rule(None, Some(81), "port")];
    let policy = Policy::new(Rules { workloads, ..Rules::default() });
    assert!(policy.names_uids() && !Policy::default().names_uids());
    let name = |direction, uid, port| policy.workload(direction, uid, port).map(|found| &*found.name);
    let (outbound, inbound) = (Direction::Outbound, Direction::Inbound);
    assert_eq!((name(outbound, Some(1), 443), name(outbound, Some(2), 80)), (Some("both"), Some("user")));
    assert_eq!((name(outbound, Some(3), 80), name(outbound, None, 80)), (None, None));
    assert_eq!((name(inbound, None, 80), name(inbound, None, 81)), (Some("both"), Some("port")));
    assert_eq!((name(inbound, None, 82), name(inbound, Some(2), 82)), (None, None));
}

#[test]
fn each_condition_of_a_matcher_holds_or_the_rule_does_not_match() {
    let matcher = Matcher {
        host: Some(HostPattern::Below(".example.com".into())),
        address: Cidr::new(CALL.address, 16),
        port: Some(PortRange { first: 400, last: 500 }),
        path: Some(PathPattern::Begins("/v1/".into())),
        method: Some("POST".into()),
        direction: Some(Direction::Outbound),
    };
    let policy = recording([(matcher, Action::Ignore)]);
    let matching = [
        CALL,
        Subject { host: Some("API.Example.com:443"), ..CALL },
        Subject { host: Some("user:x@api.example.com.:443"), ..CALL },
        Subject { port: 400, ..CALL },
        Subject { address: "::ffff:93.184.0.1".parse().unwrap(), ..CALL },
        Subject { path: "/v1/", ..CALL },
    ];
    for call in matching {
        assert_eq!(policy.verdict(&call), Verdict::Ignore, "{call:?}");
    }
    let others = [
        Subject { direction: Direction::Inbound, ..CALL },
        Subject { address: "93.185.0.1".parse().unwrap(), ..CALL },
        Subject { port: 501, ..CALL },
        Subject { host: Some("example.com"), ..CALL },
        Subject { host: Some("api.example.com.evil"), ..CALL },
        Subject { host: None, ..CALL },
        Subject { method: "post", ..CALL },
        Subject { method: "", path: "", ..CALL },
        Subject { path: "/v2/v1/", ..CALL },
    ];
    for call in others {
        assert_eq!(policy.verdict(&call), Verdict::Record, "{call:?}");
    }
}

/// Each rule's verdict alone says what the list must say: the first that does not pass the call by.
#[test]
fn the_first_rule_that_matches_decides_whatever_stands_behind_it() {
    let mut random = SmallRng::seed_from_u64(7);
    let actions = [Action::Record, Action::Count, Action::Ignore];
    let verdicts = [Verdict::Record, Verdict::Count, Verdict::Ignore];
    for _ in 0..5_000 {
        let rules: Vec<_> = (0..random.random_range(0..6))
            .map(|_| {
                let first = random.random_range(1..20);
                let port = Some(PortRange { first, last: first + random.random_range(0..5) });
                let host =
                    random.random::<bool>().then(|| HostPattern::Is(["a", "b"][random.random_range(0..2)].into()));
                (Matcher { port, host, ..Matcher::default() }, random.random_range(0..3))
            })
            .collect();
        let policy = recording(rules.iter().map(|(matcher, action)| (matcher.clone(), actions[*action])));
        let host = ["a", "b"][random.random_range(0..2)];
        let call = Subject { port: random.random_range(1..25), host: Some(host), ..CALL };
        let expected = rules.iter().find(|(matcher, _)| {
            let port = matcher.port.unwrap();
            (port.first..=port.last).contains(&call.port)
                && matcher.host.as_ref().is_none_or(|pattern| pattern.to_string() == host)
        });
        assert_eq!(policy.verdict(&call), expected.map_or(Verdict::Record, |(_, action)| verdicts[*action]));
        // What covers another rule hides it.
        for (wide, _) in &rules {
            for (narrow, _) in rules.iter().filter(|(narrow, _)| wide.covers(narrow)) {
                assert!(!matches(narrow, &call, Some(host)) || matches(wide, &call, Some(host)));
            }
        }
    }
}

#[test]
fn headers_are_written_unless_the_first_matching_rule_says_no() {
    let rule = |host: HostPattern, inject| PropagationRule {
        matcher: Matcher { host: Some(host), ..Matcher::default() },
        inject,
    };
    let propagation = vec![
        rule(HostPattern::Is("api.example.com".into()), true),
        rule(HostPattern::Below(".example.com".into()), false),
    ];
    let policy = Policy::new(Rules { propagation, ..Rules::default() });
    for (host, expected) in [("api.example.com:80", true), ("b.example.com", false), ("example.com", true)] {
        assert_eq!(policy.injects(&Subject { host: Some(host), ..CALL }), expected, "{host}");
    }
    assert!(policy.injects(&Subject { host: None, ..CALL }));
}

#[test]
fn inside_are_private_and_listed_addresses_and_names_that_were_verified() {
    let policy = Policy::new(Rules {
        trusted_hosts: vec![HostPattern::Below(".internal.example".into())],
        trusted_addresses: vec![Cidr::new("203.0.113.0".parse().unwrap(), 24).unwrap()],
        ..Rules::default()
    });
    let inside = |address: &str| policy.inside(None, address.parse().unwrap());
    for address in [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "fd00::1",
        "fc00::1",
        "::ffff:10.0.0.1",
        "203.0.113.9",
        "::ffff:203.0.113.9",
    ] {
        assert!(inside(address), "{address}");
    }
    for address in [
        "1.1.1.1",
        "172.32.0.1",
        "203.0.114.1",
        "169.254.169.254",
        "fe80::1",
        "100.128.0.1",
        "0.0.0.0",
        "2001:db8::1",
        "::ffff:1.1.1.1",
    ] {
        assert!(!inside(address), "{address}");
    }
    let public = "1.1.1.1".parse().unwrap();
    for (name, expected) in [
        ("a.internal.example", true),
        ("A.INTERNAL.EXAMPLE.", true),
        ("internal.example", false),
        ("a.svc.cluster.local", false),
        ("localhost", false),
    ] {
        assert_eq!(policy.inside(Some(name), public), expected, "{name}");
    }
}

/// A server in a rule: below this name, in this network of 8 bits.
fn server(below: Option<&str>, network: Option<&str>) -> Matcher {
    Matcher {
        host: below.map(|name| HostPattern::Below(format!(".{name}"))),
        address: network.map(|network| Cidr::new(network.parse().unwrap(), 8).unwrap()),
        ..Matcher::default()
    }
}

#[test]
fn the_first_rule_about_a_connection_says_whether_it_is_intercepted() {
    let rule = |matcher, intercept| InterceptRule { matcher, intercept };
    let policy = Policy::new(Rules {
        intercept: vec![
            rule(server(Some("bank.example"), None), false),
            rule(Matcher { port: Some(PortRange { first: 8443, last: 8443 }), ..server(None, Some("10.0.0.0")) }, true),
            rule(server(Some("example"), Some("10.0.0.0")), false),
            rule(Matcher { host: Some(HostPattern::Any), ..server(None, Some("11.0.0.0")) }, false),
        ],
        ..Rules::default()
    });
    for (name, address, port, expected) in [
        (Some("api.bank.example"), "1.1.1.1", 443, Some(false)),
        (Some("API.Bank.Example."), "1.1.1.1", 443, Some(false)),
        (Some("api.bank.example"), "10.0.0.1", 8443, Some(false)),
        (Some("bank.example"), "1.1.1.1", 443, None),
        (Some("a.example"), "10.0.0.1", 8443, Some(true)),
        (None, "10.0.0.1", 8443, Some(true)),
        (None, "::ffff:10.0.0.1", 8443, Some(true)),
        (Some("a.example"), "10.0.0.1", 443, Some(false)),
        (Some("a.example"), "1.1.1.1", 443, None),
        (Some("other"), "10.0.0.1", 443, None),
        (None, "10.0.0.1", 443, None),
        (Some("any"), "11.0.0.1", 443, Some(false)),
        (None, "11.0.0.1", 443, None),
    ] {
        assert_eq!(policy.intercepts(name, address.parse().unwrap(), port), expected, "{name:?} {address} {port}");
    }
    assert_eq!(Policy::default().intercepts(Some("a"), CALL.address, 443), None);
}

#[test]
fn all_roots_count_that_name_the_server_and_the_first_client_certificate() {
    let servers = [
        server(Some("corp.example"), Some("10.0.0.0")),
        server(Some("example"), None),
        server(None, Some("10.0.0.0")),
        Matcher { host: Some(HostPattern::Any), ..Matcher::default() },
    ];
    let roots = servers.clone().map(|matcher| RootsRule { matcher, file: "/root".into() });
    let client_certificates =
        servers.map(|matcher| ClientCertificateRule { matcher, certificate: "/c".into(), key: "/k".into() });
    let policy =
        Policy::new(Rules { roots: roots.into(), client_certificates: client_certificates.into(), ..Rules::default() });
    for (name, address, expected) in [
        (Some("api.corp.example"), "10.0.0.1", &[0, 1, 2, 3][..]),
        (Some("API.CORP.EXAMPLE."), "::ffff:10.0.0.1", &[0, 1, 2, 3]),
        (Some("api.corp.example"), "1.1.1.1", &[1, 3]),
        (Some("corp.example"), "10.0.0.1", &[1, 2, 3]),
        (Some("example"), "1.1.1.1", &[3]),
        (None, "10.0.0.1", &[2]),
        (None, "1.1.1.1", &[]),
    ] {
        let address = address.parse().unwrap();
        let found: Vec<_> = policy.roots_for(name, address).collect();
        assert_eq!(found, expected, "{name:?} {address}");
        assert_eq!(policy.client_certificate_for(name, address), expected.first().copied(), "{name:?} {address}");
    }
    assert_eq!((policy.roots().len(), policy.client_certificates().len()), (4, 4));
}

#[test]
fn probes_are_inbound_and_known_by_agent_or_by_a_listed_path() {
    let policy = Policy::new(Rules { probe_paths: vec![PathPattern::Is("/healthz".into())], ..Rules::default() });
    let call = |method, path, agent: Option<&'static str>| Subject {
        direction: Direction::Inbound,
        method,
        path,
        user_agent: agent.map(str::as_bytes),
        ..CALL
    };
    for probe in [
        call("GET", "/healthz", None),
        call("HEAD", "/healthz", Some("curl/8")),
        call("GET", "/any", Some("kube-probe/1.34")),
        call("POST", "/grpc.health.v1.Health/Check", Some("grpc-go/1.7")),
        call("GET", "/", Some("GoogleHC/1.0")),
        call("GET", "/", Some("ELB-HealthChecker/2.0")),
        call("GET", "/", Some("Consul Health Check")),
    ] {
        assert_eq!(policy.verdict(&probe), Verdict::Probe, "{probe:?}");
        assert_eq!(policy.verdict(&Subject { direction: Direction::Outbound, ..probe }), Verdict::Record);
    }
    for other in [
        call("POST", "/healthz", None),
        call("GET", "/healthz/more", None),
        call("GET", "/metrics", Some("Prometheus/3.5")),
        call("GET", "/", Some("my kube-probe/1")),
    ] {
        assert_eq!(policy.verdict(&other), Verdict::Record, "{other:?}");
    }
    let path = Some(PathPattern::Is("/healthz".into()));
    let recorded = recording([(Matcher { path, ..Matcher::default() }, Action::Record)]);
    assert_eq!(recorded.verdict(&call("GET", "/healthz", Some("kube-probe/1"))), Verdict::Record, "a rule wins");
}

#[test]
fn the_agents_own_telemetry_is_recognised_and_calls_beside_it_are_not() {
    let json = Some("application/json");
    let post = |host, path, content| (host, "POST", path, content);
    let table = [
        ("otlp", post("10.0.0.9:4318", "/v1/traces", Some("application/x-protobuf"))),
        ("otlp", post("c", "/v1/metrics", Some("Application/JSON; charset=utf-8"))),
        ("otlp", post("c", "/base/v1/logs", json)),
        ("otlp", post("c", "/opentelemetry.proto.collector.logs.v1.LogsService/Export", Some("application/grpc"))),
        ("zipkin", post("c:9411", "/api/v2/spans", json)),
        ("openai_agents", post("api.openai.com", "/v1/traces/ingest", json)),
        ("statsig", ("statsigapi.net", "GET", "/v1/initialize", None)),
        ("statsig", post("events.statsigapi.net", "/v1/rgstr", json)),
        ("statsig", post("API.STATSIG.COM:443", "/v1/log_event", json)),
        ("statsig", ("featureassets.org", "GET", "/x", None)),
        ("statsig", post("prodregistryv2.org", "/v1/rgstr", json)),
        ("sentry", post("o1.ingest.sentry.io", "/api/42/envelope/", Some("application/x-sentry-envelope"))),
        ("sentry", post("o1.ingest.us.sentry.io", "/api/42/store/", json)),
        ("sentry", post("sentry.mine.example", "/api/42/envelope/", None)),
        ("posthog", post("us.i.posthog.com", "/batch/", json)),
        ("posthog", post("app.posthog.com", "/capture/", json)),
        ("datadog", post("http-intake.logs.datadoghq.eu", "/api/v2/logs", json)),
        ("datadog", post("trace.agent.datadoghq.com", "/api/v0.2/traces", None)),
        ("datadog", ("localhost:8126", "PUT", "/v0.5/traces", Some("application/msgpack"))),
        ("datadog", post("localhost:8126", "/telemetry/proxy/api/v2/apmtelemetry", json)),
        ("segment", post("api.segment.io", "/v1/batch", json)),
        ("honeycomb", post("api.honeycomb.io", "/1/batch/mine", json)),
        ("langsmith", post("api.smith.langchain.com", "/runs/multipart", Some("multipart/form-data"))),
        ("langsmith", post("eu.api.smith.langchain.com", "/runs/batch", json)),
        ("langsmith", post("smith.mine.example", "/api/v1/runs/batch", json)),
        ("langfuse", post("cloud.langfuse.com", "/api/public/ingestion", json)),
        ("langfuse", post("cloud.langfuse.com", "/api/public/otel/v1/traces", None)),
    ];
    let call = |(host, method, path, content): (&'static str, _, _, Option<&'static str>)| Subject {
        host: Some(host),
        method,
        path,
        content_type: content.map(str::as_bytes),
        ..CALL
    };
    let policy = Policy::default();
    for (kind, request) in table {
        assert_eq!(policy.verdict(&call(request)), Verdict::Telemetry(kind), "{request:?}");
        let inbound = Subject { direction: Direction::Inbound, ..call(request) };
        assert_eq!(policy.verdict(&inbound), Verdict::Record, "the agent's, not what others send to it");
        let all = recording([(Matcher::default(), Action::Record)]);
        assert_eq!(all.verdict(&call(request)), Verdict::Record, "a rule wins");
    }
    let calls = [
        post("api.openai.com", "/v1/chat/completions", json),
        post("api.example.com", "/v1/traces", Some("text/plain")),
        ("api.example.com", "GET", "/v1/logs", json),
        post("api.example.com", "/v1/traces/ingest", json),
        post("notstatsig.com", "/v1/x", json),
        post("statsig.com.evil.example", "/v1/x", json),
        ("sentry.io", "GET", "/api/0/projects/", None),
        post("shop.example", "/api/1/store/", json),
        post("shop.example", "/api/1/2/envelope/", json),
        ("app.posthog.com", "GET", "/api/projects", None),
        ("api.datadoghq.com", "GET", "/api/v1/query", None),
        ("api.honeycomb.io", "GET", "/1/queries/x", None),
        ("api.smith.langchain.com", "POST", "/runs/query", json),
        post("langgraph.mine.example", "/runs/batch", json),
        ("cloud.langfuse.com", "GET", "/api/public/traces", None),
        ("", "", "", None),
    ];
    for request in calls {
        assert_eq!(policy.verdict(&call(request)), Verdict::Record, "{request:?}");
    }
}

#[test]
fn a_bare_host_has_neither_port_nor_brackets() {
    for (authority, host) in [
        ("example.com", "example.com"),
        ("example.com.:443", "example.com"),
        ("[::1]:80", "::1"),
        ("[::1", "::1"),
        ("::1", "::1"),
        ("u:p@h:1", "h"),
        (":80", ""),
        ("", ""),
    ] {
        assert_eq!(bare_host(authority), host, "{authority}");
    }
}

#[test]
fn what_is_off_by_default_is_on_where_the_first_rule_that_matches_says_so() {
    use crate::config::rules::{GenAiRules, ProviderRule};
    let host = |name: &str| Some(HostPattern::Is(name.into()));
    let switch = |host: Option<HostPattern>, on| Switch { matcher: Matcher { host, ..Matcher::default() }, on };
    let switches = vec![switch(host("api.example.com"), true), switch(None, false)];
    let price = |provider: Option<&str>, model: &str, input| Price {
        provider: provider.map(str::to_owned),
        model: model.to_owned(),
        input,
        output: 1.0,
        cache_read: None,
        cache_write: None,
    };
    let genai = GenAiRules {
        providers: vec![ProviderRule { host: HostPattern::Below(".example.com".into()), provider: "vllm".into() }],
        ask_usage: switches.clone(),
        mcp_meta: switches[1..].to_vec(),
        prices: vec![price(Some("openai"), "gpt-4o", 1.0), price(None, "gpt-4o*", 2.0)],
        ..GenAiRules::default()
    };
    let policy = Policy::new(Rules { genai, ..Rules::default() });
    assert!(policy.asks_usage(&CALL) && !policy.writes_meta(&CALL));
    assert!(!policy.asks_usage(&Subject { host: Some("other.example"), ..CALL }));
    assert_eq!((policy.provider_for("API.example.com:443"), policy.provider_for("example.com")), (Some("vllm"), None));
    let input = |provider, model| policy.price(provider, model).map(|price| price.input);
    assert_eq!((input(Some("openai"), "gpt-4o"), input(Some("azure"), "gpt-4o")), (Some(1.0), Some(2.0)));
    assert_eq!((input(None, "gpt-4o-mini"), input(None, "gpt-4")), (Some(2.0), None));
    let nothing = Policy::default();
    assert!(!nothing.asks_usage(&CALL) && !nothing.writes_meta(&CALL) && nothing.price(None, "gpt-4o").is_none());
    assert_eq!(nothing.redaction().text("a@b.co"), "[REDACTED:email]");
}
