//! What others call in the pod, through the real inbound redirect: callers and apps see the same as without us, every call
//! leaves one SERVER span that continues the caller's context, and nobody gets anywhere that they could not get before.

use std::process::Command;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

use super::support::{
    AGENT_V4, AGENT_V6, BARE_V4, BARE_V6, Netns, Pod, RulesFile, WORLD_V4, binary, hex, integer, python, root, text,
    until,
};

/// Method, path, query and status of the calls that `calls.sh` makes.
const CALLS: [(&str, &str, &str, i64); 8] = [
    ("GET", "/plain", "x=REDACTED&key=REDACTED", 200),
    ("POST", "/echo", "", 200),
    ("POST", "/echo", "", 200),
    ("GET", "/stream", "", 200),
    ("GET", "/status/404", "", 404),
    ("HEAD", "/plain", "", 200),
    ("GET", "/empty", "", 204),
    ("GET", "/large", "", 200),
];

#[test]
fn callers_and_apps_see_the_same_and_every_call_is_a_server_span() {
    let mut pod = Pod::without_sidecar(&[]);
    let everywhere = [AGENT_V4, AGENT_V6].map(|host| (host, 8080));
    let apps = [
        (pod.app("http", &["8080"]), everywhere.to_vec()),
        (pod.app("http_at", &["8090", AGENT_V4]), vec![(AGENT_V4, 8090)]),
        (pod.app("http_at", &["8091", AGENT_V6]), vec![(AGENT_V6, 8091)]),
    ];
    let call = |pod: &Pod| {
        let called = apps.iter().flat_map(|(_, addresses)| addresses);
        called.map(|(host, port)| pod.run_bare(calls(&base(host, *port))).stdout).collect::<Vec<_>>()
    };
    let without = call(&pod);
    redirect_and_start(&mut pod);
    assert!(without == call(&pod), "the answers differ");

    let spans = pod.finish();
    let mut rest = spans.as_slice();
    for (app, addresses) in apps {
        let seen = app.into_calls();
        let (before, after) = seen.split_at(addresses.len() * CALLS.len());
        assert_eq!(before.iter().map(untraced).collect::<Vec<_>>(), after.iter().map(untraced).collect::<Vec<_>>());
        for (index, (host, port)) in addresses.into_iter().enumerate() {
            let (own, others) = rest.split_at(CALLS.len());
            rest = others;
            let caller = if host.contains(':') { BARE_V6 } else { BARE_V4 };
            let at = index * CALLS.len()..(index + 1) * CALLS.len();
            for ((span, call), (without, with)) in own.iter().zip(CALLS).zip(before[at.clone()].iter().zip(&after[at]))
            {
                server_span(span, call, (host, port), caller);
                continues(span, with, None);
                assert_eq!(with["call"]["local"], json!([host, port]), "where the caller wanted to go");
                // The one thing that changes: connections come from the pod itself.
                assert_eq!((&without["call"]["peer"], &with["call"]["peer"]), (&json!(caller), &json!(host)));
            }
        }
    }
    assert!(rest.is_empty(), "{rest:#?}");
}

#[test]
fn an_app_is_reached_at_its_link_local_address() {
    let mut pod = Pod::without_sidecar(&[]);
    let app = pod.app("http", &["8080"]);
    redirect_and_start(&mut pod);
    pod.agent.sh_ok("ip addr add fe80::aa/64 dev eth0 nodad");
    pod.bare.sh_ok("ip addr add fe80::bb/64 dev eth0 nodad");
    pod.bare.sh_ok("curl -sSf -H 'Host: a' 'http://[fe80::aa%25eth0]:8080/plain'");
    let span = only(pod.finish());
    let calls = app.into_calls();
    continues(&span, &calls[0], None);
    assert_eq!(calls[0]["call"]["local"], json!(["fe80::aa", 8080]));
    assert!(text(&span, "client.address").starts_with("fe80::"), "{span:#?}");
}

#[test]
fn a_callers_context_is_continued_into_the_app() {
    let mut pod = Pod::without_sidecar(&[]);
    let app = pod.app("http", &["8080"]);
    redirect_and_start(&mut pod);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let headers = format!("-H 'traceparent: 00-{trace}-00f067aa0ba902b7-01' -H 'tracestate: a=1' -H 'baggage: k=v'");
    pod.bare.sh_ok(&format!("curl -sSf {headers} {}/plain", base(AGENT_V4, 8080)));
    let span = only(pod.finish());
    let calls = app.into_calls();
    assert_eq!((hex(&span.trace_id).as_str(), span.trace_state.as_str()), (trace, "a=1"));
    continues(&span, &calls[0], Some("00f067aa0ba902b7"));
    assert_eq!(calls[0]["call"]["tracestate"], json!(["a=1"]));
    assert_eq!(header(&calls[0], "baggage"), ["k=v"]);
}

#[test]
fn the_client_behind_a_proxy_is_named_if_the_proxy_is_inside() {
    let mut pod = Pod::without_sidecar(&[]);
    let _app = pod.app("http", &["8080"]);
    redirect_and_start(&mut pod);
    pod.world.sh_ok("ip addr add 203.0.113.5/24 dev bridge");
    let rows = [
        (&pod.bare, "-H 'X-Forwarded-For: 198.51.100.7, 10.0.0.1'", "198.51.100.7", BARE_V4),
        (&pod.bare, "-H 'Forwarded: for=\"[2001:db8::1]:80\";proto=https'", "2001:db8::1", BARE_V4),
        (&pod.bare, "-H 'X-Forwarded-For: nobody'", BARE_V4, BARE_V4),
        (&pod.world, "--interface 203.0.113.5 -H 'X-Forwarded-For: 198.51.100.7'", "203.0.113.5", "203.0.113.5"),
    ];
    for (netns, more, ..) in rows {
        netns.sh_ok(&format!("curl -sSf {more} {}/plain", base(AGENT_V4, 8080)));
    }
    let expected = rows.map(|(.., client, peer)| (client, peer));
    let spans = pod.finish();
    let said: Vec<_> =
        spans.iter().map(|span| (text(span, "client.address"), text(span, "network.peer.address"))).collect();
    assert_eq!(said, expected);
}

#[test]
fn a_port_probe_is_answered_by_the_app_itself_where_the_prober_is_exempt() {
    let mut pod = Pod::without_sidecar(&[]);
    pod.redirect(&["-b", "*", "--inbound-exclude-cidr", WORLD_V4]);
    pod.start_sidecar();
    let connect = |netns: &Netns| netns.enter(|| std::net::TcpStream::connect((AGENT_V4, 9)).map(drop));
    assert_eq!(connect(&pod.world).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    // The others find every port open while the sidecar lives: a stated limit. It may be reset before it was seen.
    if let Err(error) = connect(&pod.bare) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    pod.finish();
}

#[test]
fn errors_are_the_servers_own_and_unknown_methods_are_named_as_such() {
    let mut pod = Pod::without_sidecar(&[]);
    let _app = pod.app("http", &["8080"]);
    redirect_and_start(&mut pod);
    let url = base(AGENT_V4, 8080);
    for path in ["status/400", "status/499", "status/500", "status/503", "cut", "reset"] {
        pod.bare.sh(&format!("curl -sS -o /dev/null {url}/{path}"));
    }
    pod.bare.sh_ok(&format!("curl -sS -o /dev/null -X OTHER {url}/plain"));
    let spans = pod.finish();
    let said: Vec<_> = spans
        .iter()
        .map(|span| (integer(span, "http.response.status_code"), text(span, "error.type"), failed(span)))
        .collect();
    assert_eq!(
        said,
        [
            (Some(400), "", false),
            (Some(499), "", false),
            (Some(500), "500", true),
            (Some(503), "503", true),
            (Some(200), "connection_closed", true),
            (None, "connection_reset", true),
            (Some(501), "501", true),
        ]
    );
    assert_eq!((spans[6].name.as_str(), text(&spans[6], "http.request.method")), ("HTTP", "_OTHER"));
    assert_eq!(text(&spans[6], "http.request.method_original"), "OTHER");
}

#[test]
fn grpc_is_the_same_and_only_the_servers_failures_are_errors() {
    let mut pod = Pod::without_sidecar(&[]);
    let app = pod.app("grpc", &["8081"]);
    let call = |pod: &Pod| {
        let both = [AGENT_V4.to_owned(), format!("[{AGENT_V6}]")];
        both.map(|host| {
            let to = format!("{host}:8081");
            ["grpc_calls.py", "grpc_codes.py"].map(|client| pod.run_bare(client_of(client, &[&to])).stdout)
        })
    };
    let without = call(&pod);
    redirect_and_start(&mut pod);
    assert_eq!(without, call(&pod));
    let spans = pod.finish();
    let seen = app.into_calls();
    let (before, after) = seen.split_at(seen.len() / 2);
    assert_eq!(before.iter().map(untraced).collect::<Vec<_>>(), after.iter().map(untraced).collect::<Vec<_>>());
    let all = 3 + 16;
    assert_eq!((spans.len(), after.len()), (2 * all, 2 * all));
    let errors = ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];
    for (index, span) in spans.iter().enumerate() {
        let (host, caller) = if index < all { (AGENT_V4, BARE_V4) } else { (AGENT_V6, BARE_V6) };
        assert_eq!(span.kind, SpanKind::Server as i32);
        assert!(span.name == "test.Echo/Unary" || span.name == "test.Echo/Bidi", "{}", span.name);
        assert_eq!((text(span, "rpc.system.name"), text(span, "rpc.method")), ("grpc", span.name.as_str()));
        assert_eq!((text(span, "server.address"), integer(span, "server.port")), (host, Some(8081)));
        assert_eq!((text(span, "client.address"), text(span, "network.peer.address")), (caller, caller));
        let status = text(span, "rpc.status_code");
        assert_eq!(text(span, "error.type"), if errors.contains(&status) { status } else { "" });
        assert_eq!(failed(span), errors.contains(&status));
        continues(span, &after[index], None);
    }
    let mut statuses: Vec<_> = spans.iter().map(|span| text(span, "rpc.status_code")).collect();
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses.len(), 17, "{statuses:?}");
}

#[test]
fn http2_without_tls_is_the_same() {
    let mut pod = Pod::without_sidecar(&[]);
    let mut command = Command::new("node");
    command.arg(root().join("tests/it/origin_h2.mjs")).arg("8083");
    let app = super::support::Process::start("origin_h2", &pod.agent, command);
    app.wait_for("listening", 1);
    let call = |pod: &Pod| {
        [AGENT_V4, AGENT_V6].map(|host| {
            let url = base(host, 8083);
            // Without a request body: this origin answers before it has read one, and curl and Node then race for the end.
            let curl = "curl -sS -i --http2-prior-knowledge";
            pod.bare.sh_ok(&format!("({curl} '{url}/a?b=c'; {curl} -X DELETE {url}/b) | grep -v ^date:"))
        })
    };
    let without = call(&pod);
    redirect_and_start(&mut pod);
    assert_eq!(without, call(&pod));
    let spans = pod.finish();
    assert_eq!(spans.len(), 4, "{spans:#?}");
    for (spans, (host, caller)) in spans.chunks(2).zip([(AGENT_V4, BARE_V4), (AGENT_V6, BARE_V6)]) {
        for (span, call) in spans.iter().zip([("GET", "/a", "b=REDACTED", 200), ("DELETE", "/b", "", 200)]) {
            server_span_of(span, call, (host, 8083), caller, "2");
        }
    }
}

#[test]
fn health_probes_leave_no_span_and_no_header_and_are_counted() {
    let rules = RulesFile::new("probes", "probes: {paths: [/healthz]}\n");
    let mut pod = Pod::without_sidecar(&[("SIDETRACE_CONFIG", rules.name())]);
    let app = pod.app("http", &["8080"]);
    let grpc = pod.app("grpc", &["8081"]);
    redirect_and_start(&mut pod);
    let url = base(AGENT_V4, 8080);
    pod.world.sh_ok(&format!("curl -sSf -A kube-probe/1.34 {url}/plain"));
    pod.world.sh_ok(&format!("curl -sSf {url}/healthz"));
    pod.world.sh(&format!(
        "curl -sS --http2-prior-knowledge -H 'content-type: application/grpc' -d '' -o /dev/null \
                              http://{AGENT_V4}:8081/grpc.health.v1.Health/Check"
    ));
    assert_eq!(probes(&pod), 3);
    // As a kubelet asks whether a port is open. The app sees what it would see: a connection, and its end.
    for (netns, host) in [(&pod.world, AGENT_V4), (&pod.bare, AGENT_V4), (&pod.bare, AGENT_V6)] {
        let to = (host, 8080);
        netns.enter(move || drop(std::net::TcpStream::connect(to).unwrap()));
    }
    until("bare connects are counted", || probes(&pod) == 6);
    // What is no probe is recorded, beside them.
    pod.world.sh_ok(&format!("curl -sSf {url}/plain"));
    let span = only(pod.finish());
    let seen = app.into_calls();
    assert_eq!(seen.len(), 3);
    assert!(seen[..2].iter().all(|call| call["call"]["traceparent"] == json!([])), "{seen:?}");
    continues(&span, &seen[2], None);
    drop(grpc);
}

#[test]
fn tls_is_spliced_and_leaves_one_server_span() {
    let mut pod = Pod::without_sidecar(&[]);
    let folder = std::env::temp_dir().join(format!("sidetrace-inbound-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let folder_name = folder.display();
    pod.world.sh_ok(&format!(
        "cd {folder_name} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=tls.test \
         -addext subjectAltName=DNS:tls.test -days 2 -keyout key.pem -out cert.pem 2>&1 && cat key.pem cert.pem > both.pem"
    ));
    let _app = pod.app("tls", &["8443", folder.join("both.pem").to_str().unwrap()]);
    let call = |pod: &Pod| {
        [AGENT_V4.to_owned(), format!("[{AGENT_V6}]")].map(|host| {
            pod.bare.sh_ok(&format!(
                "curl -sS -i --cacert {folder_name}/cert.pem --resolve tls.test:8443:{host} \
                 https://tls.test:8443/plain https://tls.test:8443/stream"
            ))
        })
    };
    let without = call(&pod);
    redirect_and_start(&mut pod);
    assert_eq!(without, call(&pod));
    let spans = pod.finish();
    assert_eq!(spans.len(), 2, "{spans:#?}");
    for (span, caller) in spans.iter().zip([BARE_V4, BARE_V6]) {
        assert_eq!((span.kind, span.name.as_str()), (SpanKind::Server as i32, "connect tls.test:8443"));
        assert_eq!(text(span, "sidetrace.passthrough.reason"), "tls");
        assert_eq!(text(span, "sidetrace.tls.server_name"), "tls.test");
        assert_eq!((text(span, "server.address"), integer(span, "server.port")), ("tls.test", Some(8443)));
        assert_eq!((text(span, "network.peer.address"), text(span, "client.address")), (caller, caller));
        assert_eq!(text(span, "sidetrace.end"), "");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn half_closes_resets_and_servers_that_speak_first_are_as_without_us() {
    let mut pod = Pod::without_sidecar(&[]);
    let _apps = [("http", "8080"), ("greet", "8025"), ("sum", "8026"), ("upgrade", "8027")]
        .map(|(mode, port)| pod.app(mode, &[port]));
    let get = "send:GET /plain HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n";
    let cut = "send:GET /cut HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n";
    let reset = "send:GET /reset HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n";
    let upgrade = "send:GET /socket HTTP/1.1\\r\\nHost: a\\r\\nConnection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n";
    let rows: [(u16, &[&str]); 7] = [
        (8080, &[get, "fin", "rest"]),
        (8080, &[cut, "rest"]),
        (8080, &[reset, "rest"]),
        (8025, &["hear:21", "send:HELO\\r\\n", "hear:6", "fin", "rest"]),
        (8025, &["hear:21", "send:HELO\\r\\n", "hear:6", "reset"]),
        (8026, &["send:\\0\\1\\2", "zeros:300000", "fin", "rest"]),
        (8027, &[upgrade, "hear:77", "zeros:9999", "hear:9999", "fin", "rest"]),
    ];
    let call = |pod: &Pod| rows.map(|(port, steps)| talk(&pod.bare, port, steps));
    let without = call(&pod);
    redirect_and_start(&mut pod);
    assert_eq!(without, call(&pod));
    let spans = pod.finish();
    let ends: Vec<_> = spans
        .iter()
        .map(|span| (span.kind, text(span, "sidetrace.passthrough.reason"), text(span, "sidetrace.end")))
        .collect();
    let server = SpanKind::Server as i32;
    assert_eq!(
        ends,
        [
            (server, "", ""),
            (server, "", "broken"),
            (server, "", "broken"),
            (server, "server_first", ""),
            (server, "server_first", "cancelled"),
            (server, "not_http", ""),
            (server, "upgraded", "")
        ]
    );
}

#[test]
fn an_app_that_is_down_shows_as_a_reset() {
    let mut pod = Pod::without_sidecar(&[]);
    let curl = |pod: &Pod| pod.bare.sh(&format!("curl -sS {}/", base(AGENT_V4, 9))).status.code();
    assert_eq!(curl(&pod), Some(7), "refused");
    redirect_and_start(&mut pod);
    // The redirect accepts before the app does. A stated limit; curl may meet the reset before it has seen the connection.
    assert!(matches!(curl(&pod), Some(7 | 56)), "reset");
    let span = only(pod.finish());
    assert_eq!((span.kind, span.name.clone()), (SpanKind::Server as i32, format!("connect {AGENT_V4}:9")));
    assert_eq!((text(&span, "sidetrace.end"), text(&span, "error.type")), ("refused", "connection_refused"));
    assert_eq!((text(&span, "network.peer.address"), text(&span, "client.address")), (BARE_V4, BARE_V4));
}

#[test]
fn the_inbound_port_helps_nobody_to_get_anywhere() {
    let mut pod = Pod::without_sidecar(&[]);
    let loopback = pod.app("http_at", &["8070", "127.0.0.1"]);
    let elsewhere = pod.origin("http", &["8080"]);
    redirect_and_start(&mut pod);
    let closed = |netns: &Netns, url: &str| {
        let output = netns.sh(&format!("curl -sS --max-time 20 {url}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(7 | 52 | 56)) && output.stdout.is_empty(), "{url}: {said}");
    };
    // Not redirected: from outside and from inside, whatever the request asks for.
    for netns in [&pod.world, &pod.bare, &pod.agent] {
        closed(netns, &format!("{}/plain", base(AGENT_V4, 15106)));
        closed(netns, &format!("{}/plain", base(AGENT_V6, 15106)));
        closed(netns, &format!("--proxy {} http://{WORLD_V4}:8080/plain", base(AGENT_V4, 15106)));
    }
    assert_eq!(pod.metric("sidetrace_connections_not_redirected_total"), 9);
    // The outbound port is not even open to others.
    assert_eq!(pod.bare.sh(&format!("curl -sS {}/", base(AGENT_V4, 15101))).status.code(), Some(7));
    // What listens on loopback alone stays unreachable.
    closed(&pod.bare, &format!("{}/plain", base(AGENT_V4, 8070)));
    // Only passing through: another's address, which the rules leave alone and these redirect all the same.
    pod.agent.sh_ok("iptables -t nat -I PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 15106");
    pod.bare.sh_ok(&format!("ip route add 203.0.113.9 via {AGENT_V4}"));
    closed(&pod.bare, "http://203.0.113.9:8080/plain");
    // Our own listeners, redirected by rules that are not ours: outbound, inbound, health.
    for port in [15101, 15106, 15120] {
        let rule = format!("iptables -t nat -I PREROUTING -p tcp -d {AGENT_V4} --dport {port}");
        pod.agent.sh_ok(&format!("{rule} -j REDIRECT --to-ports 15106"));
    }
    for port in [15101, 15120] {
        closed(&pod.bare, &format!("{}/metrics", base(AGENT_V4, port)));
    }
    assert_eq!(pod.metric("sidetrace_loops_total"), 2);
    // The app that does not listen where the caller wanted to go.
    let span = only(pod.finish());
    assert_eq!(span.name, format!("connect {AGENT_V4}:8070"));
    assert!(loopback.into_calls().is_empty() && elsewhere.into_calls().is_empty());
}

#[test]
fn a_chain_of_two_pods_is_one_trace() {
    let mut pod = Pod::without_sidecar(&[]);
    let origin = pod.origin("http", &["8080"]);
    let app = Pod::origin_in(&pod.bare, "http", &["8088"]);
    redirect_and_start(&mut pod);
    pod.start_second(&["-b", "8088"]);
    pod.agent.sh_ok(&format!("curl -sSf {}/call/{WORLD_V4}/8080", base(BARE_V4, 8088)));
    let mut spans = pod.finish();
    assert_eq!(spans.len(), 3, "{spans:#?}");
    spans.sort_by_key(|span| span.start_time_unix_nano);
    let [caller, server, client] = spans.try_into().unwrap();
    assert_eq!([&caller, &server, &client].map(|span| span.kind), [3, 2, 3]);
    assert!(caller.parent_span_id.is_empty());
    assert!(caller.trace_id == server.trace_id && caller.trace_id == client.trace_id, "one trace");
    continues(&server, &app.into_calls()[0], Some(&hex(&caller.span_id)));
    continues(&client, &origin.into_calls()[0], Some(&hex(&server.span_id)));
    assert_eq!(text(&caller, "url.full"), format!("http://{BARE_V4}:8088/call/{WORLD_V4}/8080"));
    assert_eq!(text(&server, "network.peer.address"), AGENT_V4);
}

#[test]
fn a_context_from_outside_is_continued_linked_or_ignored() {
    let rules = RulesFile::new("context", "context: continue\n");
    let mut pod = Pod::without_sidecar(&[("SIDETRACE_CONFIG", rules.name())]);
    let app = pod.app("http", &["8080"]);
    let url = base(AGENT_V4, 8080);
    redirect_and_start(&mut pod);
    pod.world.sh_ok("ip addr add 203.0.113.5/24 dev bridge");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let headers = format!("-H 'traceparent: 00-{trace}-00f067aa0ba902b7-01' -H 'tracestate: a=1'");
    let outside = |pod: &Pod| pod.world.sh_ok(&format!("curl -sSf --interface 203.0.113.5 {headers} {url}/plain"));
    let inside = |pod: &Pod| pod.bare.sh_ok(&format!("curl -sSf {headers} {url}/plain"));
    outside(&pod);
    for (text, from_inside) in [
        ("context: link\n", true),
        ("context: ignore\n", true),
        // Who is listed is inside.
        ("context: ignore\ntrust: {addresses: [203.0.113.0/24]}\n", false),
    ] {
        pod.reload(&rules, text);
        outside(&pod);
        if from_inside {
            inside(&pod);
        }
    }
    let spans = pod.finish();
    let seen = app.into_calls();
    assert_eq!((spans.len(), seen.len()), (6, 6));
    let parent = Some("00f067aa0ba902b7");
    for (index, (parent, links)) in
        [(parent, 0), (None, 1), (parent, 0), (None, 0), (parent, 0), (parent, 0)].into_iter().enumerate()
    {
        let (span, call) = (&spans[index], &seen[index]);
        continues(span, call, parent);
        assert_eq!(hex(&span.trace_id) == trace, parent.is_some(), "{index}");
        assert_eq!(span.links.len(), links, "{index}");
        let state = if parent.is_some() { json!(["a=1"]) } else { json!([]) };
        assert_eq!(call["call"]["tracestate"], state, "{index}");
    }
    let link = &spans[1].links[0];
    assert_eq!((hex(&link.trace_id).as_str(), hex(&link.span_id).as_str()), (trace, "00f067aa0ba902b7"));
    assert_eq!((link.trace_state.as_str(), link.flags & 0xff), ("a=1", 1));
    assert_eq!(text(&spans[1], "client.address"), "203.0.113.5");
}

#[test]
fn the_check_passes_with_inbound_rules_in_place() {
    let mut pod = Pod::without_sidecar(&[]);
    pod.redirect(&["-b", "*"]);
    let check = |pod: &Pod| {
        let mut command = Command::new(binary());
        command.arg("check").env_clear();
        String::from_utf8(pod.run(command).stdout).unwrap()
    };
    let said = check(&pod);
    assert_eq!(said.matches("the check itself answered").count(), 2, "{said}");
    pod.start_sidecar();
    let said = check(&pod);
    assert_eq!(said.matches("a running sidecar answered").count(), 2, "{said}");
    assert!(pod.finish().is_empty());
}

fn redirect_and_start(pod: &mut Pod) {
    pod.redirect(&["-b", "*"]);
    pod.start_sidecar();
}

fn server_span(span: &Span, call: (&str, &str, &str, i64), app: (&str, u16), caller: &str) {
    server_span_of(span, call, app, caller, "1.1");
}

/// Everything that the conventions ask of an HTTP server's span.
fn server_span_of(
    span: &Span,
    (method, path, query, status): (&str, &str, &str, i64),
    (host, port): (&str, u16),
    caller: &str,
    version: &str,
) {
    assert_eq!((span.name.as_str(), span.kind), (method, SpanKind::Server as i32));
    assert_eq!(text(span, "http.request.method"), method);
    assert_eq!((text(span, "url.path"), text(span, "url.query"), text(span, "url.scheme")), (path, query, "http"));
    assert_eq!(text(span, "url.full"), "", "the client's");
    assert_eq!(integer(span, "http.response.status_code"), Some(status));
    assert_eq!((text(span, "server.address"), integer(span, "server.port")), (host, Some(i64::from(port))));
    assert_eq!((text(span, "client.address"), text(span, "network.peer.address")), (caller, caller));
    assert!(integer(span, "network.peer.port").is_some_and(|own| own > 1023));
    assert_eq!(text(span, "network.protocol.version"), version);
    assert!(text(span, "user_agent.original").starts_with("curl/"));
    assert!(
        !failed(span) && text(span, "error.type").is_empty() && text(span, "sidetrace.end").is_empty(),
        "{span:#?}"
    );
    assert!(span.end_time_unix_nano > span.start_time_unix_nano);
}

/// The app has heard of the span, exactly once, and the span's parent is the caller's.
fn continues(span: &Span, call: &Value, parent: Option<&str>) {
    let written = format!("00-{}-{}-{:02x}", hex(&span.trace_id), hex(&span.span_id), span.flags & 0xff);
    assert_eq!(call["call"]["traceparent"], json!([written]));
    assert_eq!(hex(&span.parent_span_id), parent.unwrap_or_default());
}

/// What reached the app but for the context and who it came from.
fn untraced(call: &Value) -> Value {
    let mut call = call["call"].clone();
    let fields = call.as_object_mut().unwrap();
    for name in ["traceparent", "tracestate", "peer"] {
        fields.remove(name);
    }
    let headers = fields["headers"].as_array_mut().unwrap();
    headers.retain(|pair| !matches!(pair[0].as_str(), Some("traceparent" | "tracestate")));
    call
}

fn header<'a>(call: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = call["call"]["headers"].as_array().unwrap().iter();
    headers
        .filter(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(name))
        .map(|pair| pair[1].as_str().unwrap())
        .collect()
}

fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == 2)
}

fn probes(pod: &Pod) -> u64 {
    pod.metric("sidetrace_calls_unrecorded_total{reason=\"probe\"}")
}

fn only(spans: Vec<Span>) -> Span {
    assert_eq!(spans.len(), 1, "{spans:#?}");
    spans.into_iter().next().unwrap()
}

fn base(host: &str, port: u16) -> String {
    if host.contains(':') { format!("http://[{host}]:{port}") } else { format!("http://{host}:{port}") }
}

fn calls(base: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg(root().join("tests/it/clients/calls.sh")).arg(base);
    command
}

fn client_of(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(python());
    command.arg(root().join("tests/it/clients").join(name)).args(arguments);
    command
}

fn talk(netns: &Netns, port: u16, steps: &[&str]) -> String {
    let port = port.to_string();
    let output = netns.output(client_of("talk.py", &[&[AGENT_V4, port.as_str()], steps].concat()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
