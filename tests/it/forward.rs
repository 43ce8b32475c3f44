//! The forward proxy, where nothing is redirected: clients that are told of it by variables are seen as if they had been
//! redirected, and nobody gets anywhere through it that is none of theirs.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::support::{AGENT_V4, AGENT_V6, GUARD, Internet, Netns, Pod, WORLD_V4, binary, hex, integer, python, text};
use super::tls_clients;

#[test]
fn python_clients_that_are_told_see_the_same_and_every_call_is_traced() {
    let kinds = ["openai", "requests", "httpx", "grpcio"];
    let rows = ["openai", "requests", "httpx h1", "httpx h2", "grpcio"];
    tls_clients::play_told("told-python", &kinds, &rows, &SETTINGS, &variables());
}

#[test]
fn curl_and_git_that_are_told_see_the_same_and_every_call_is_traced() {
    let rows = ["curl h1", "curl h2", "git"];
    tls_clients::play_told("told-shell", &["shell"], &rows, &SETTINGS, &variables());
}

#[test]
fn plain_requests_go_on_in_origin_form_each_to_its_own_server_and_are_traced() {
    let (mut pod, internet) = stage("plain", &SETTINGS);
    let origin = pod.origin("http", &["80"]);
    let run = |words: &[&str]| {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut command = internet.ignorant(&words, "hosts");
        command.envs(variables());
        String::from_utf8(pod.run(command).stdout).unwrap()
    };
    // Two servers and back, on one connection to the proxy.
    let urls = ["http://one.test/a?b=c", "http://one.test/again", "http://two.test/", "http://one.test"];
    let told = run(&[
        &["curl", "-sS", "-w", "%{num_connects}\\n", "-o", "/dev/null"][..],
        &urls.join(" -o /dev/null ").split(' ').collect::<Vec<_>>(),
    ]
    .concat());
    assert_eq!(told, "1\n0\n0\n0\n");
    run(&["curl", "-sSf", "-H", "Expect: 100-continue", "-d", "body", "http://one.test/posted"]);
    run(&["curl", "-sSf", "-H", "Transfer-Encoding: chunked", "-d", "body", "http://one.test/chunked"]);
    run(&["curl", "-sSf", "-I", "http://one.test/head"]);
    run(&["curl", "-sSf", "--http1.0", "http://one.test/old"]);
    run(&["curl", "-sSf", "--proxy-anyauth", "http://one.test/challenged"]);
    run(&["curl", "-sSf", "--proxytunnel", "http://one.test/tunnelled"]);
    run(&["wget", "-qO-", "http://one.test/wget"]);
    let session = "import requests; s = requests.Session()
for url in ('http://one.test/s1', 'http://two.test/s2', 'http://one.test/s3'): assert s.post(url, data=b'x' * 100000, timeout=20).json()['length'] == 100000";
    run(&[python().to_str().unwrap(), "-c", session]);
    let paths = [
        "/a?b=c",
        "/again",
        "/",
        "/",
        "/posted",
        "/chunked",
        "/head",
        "/old",
        "/challenged",
        "/tunnelled",
        "/wget",
        "/s1",
        "/s2",
        "/s3",
    ];
    let spans = pod.finish();
    let calls: Vec<_> = origin.into_calls().into_iter().map(|call| call["call"].clone()).collect();
    assert_eq!(calls.iter().map(|call| call["path"].as_str().unwrap()).collect::<Vec<_>>(), paths);
    assert_eq!(spans.len(), calls.len(), "{spans:#?}");
    for call in &calls {
        let parent = call["traceparent"][0].as_str().unwrap();
        let span = spans.iter().find(|span| hex(&span.span_id) == parent.split('-').nth(2).unwrap()).unwrap();
        let names: Vec<_> =
            call["headers"].as_array().unwrap().iter().map(|pair| pair[0].as_str().unwrap().to_lowercase()).collect();
        assert!(!names.iter().any(|name| name.starts_with("proxy")), "{names:?}");
        let host =
            call["headers"].as_array().unwrap().iter().find(|pair| pair[0] == "Host").unwrap()[1].as_str().unwrap();
        let path = call["path"].as_str().unwrap().replace("b=c", "b=REDACTED");
        assert_eq!(text(span, "url.full"), format!("http://{host}{path}"));
        assert_eq!((text(span, "server.address"), integer(span, "server.port")), (host, Some(80)));
        assert_eq!(text(span, "network.peer.address"), call["local"][0].as_str().unwrap());
        assert_eq!((span.kind, text(span, "sidetrace.end")), (SpanKind::Client as i32, ""));
    }
}

#[test]
fn no_server_answers_in_the_name_of_another_or_ends_the_clients_connection() {
    let (mut pod, _internet) = stage("poison", &SETTINGS);
    let listen = |address: &'static str| pod.world.enter(move || TcpListener::bind(address).unwrap());
    let (one, two) = (listen("10.231.3.1:80"), listen("10.231.3.2:80"));
    let answer = |text: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    let asks = |name: &str| format!("GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\n{AUTHORIZED}\r\n");
    let mut client = pod.agent.enter(|| TcpStream::connect("127.0.0.1:15107").unwrap());
    client.set_read_timeout(Some(GUARD)).unwrap();
    let accept = |listener: &TcpListener| {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream
    };
    let evil = answer("from one for two");
    // In one piece with an answer, while nothing is under way, behind requests that wait; and no more than FIN.
    for (unasked, pipelined) in [(evil.as_str(), false), (&evil, true), ("", false), ("", true)] {
        for late in [false, true] {
            let first = if pipelined { asks("one.test") + &asks("two.test") } else { asks("one.test") };
            client.write_all(first.as_bytes()).unwrap();
            let mut upstream = accept(&one);
            hear(&mut upstream, "\r\n\r\n");
            let well = answer("from one");
            let now = if late { well.clone() } else { format!("{well}{unasked}") };
            upstream.write_all(now.as_bytes()).unwrap();
            if late || unasked.is_empty() {
                hear(&mut client, "from one");
                // Who waited for its turn may have left already.
                let _ = upstream.write_all(if late { unasked.as_bytes() } else { b"" });
                let _ = upstream.shutdown(Shutdown::Write);
            } else {
                hear(&mut client, "from one");
            }
            // Upstream was left, whoever asks next.
            let _ = upstream.read_to_end(&mut vec![]);
            if !pipelined {
                client.write_all(asks("two.test").as_bytes()).unwrap();
            }
            let mut upstream = accept(&two);
            hear(&mut upstream, "\r\n\r\n");
            upstream.write_all(answer("from two").as_bytes()).unwrap();
            let heard = hear(&mut client, "from two");
            assert_eq!(heard, answer("from two"), "{unasked} {pipelined} {late}");
            upstream.shutdown(Shutdown::Write).unwrap();
            let _ = upstream.read_to_end(&mut vec![]);
        }
    }
    drop(client);
    let spans = pod.finish();
    assert_eq!(spans.len(), 16, "{spans:#?}");
    assert!(spans.iter().all(|span| text(span, "sidetrace.end").is_empty()), "{spans:#?}");
}

#[test]
fn what_follows_a_tunnel_or_an_upgrade_is_the_clients_own_affair() {
    let (mut pod, _internet) = stage("tunnels", &[CREDENTIAL, ("SIDETRACE_FORWARD_DESTINATION_PORTS", "80,7000-7002")]);
    let (_sum, _greet, _upgrade) =
        (pod.origin("sum", &["7000"]), pod.origin("greet", &["7001"]), pod.origin("upgrade", &["7002"]));
    // Bytes right behind the head, then FIN: the server answers only then.
    let heard = talk(
        &pod.agent,
        V4,
        format!("CONNECT one.test:7000 HTTP/1.1\r\n{AUTHORIZED}\r\n\u{1}\u{2}345").as_bytes(),
        NOTHING,
    );
    assert!(heard.starts_with("HTTP/1.1 200 Connection established\r\n\r\n"), "{heard}");
    let direct = talk(&pod.bare, (WORLD_V4, 7000), b"\x01\x02345", NOTHING);
    assert_eq!(heard.split_once("\r\n\r\n").unwrap().1, direct);
    // A server that speaks first.
    let heard = talk(
        &pod.agent,
        V6,
        format!("CONNECT {WORLD_V4}:7001 HTTP/1.0\r\n{AUTHORIZED}\r\n").as_bytes(),
        ("at your service", b"and back"),
    );
    assert!(heard.contains("and back"), "{heard}");
    let asks = |target: &str, more: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: one.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n{more}\r\n")
    };
    let heard = talk(
        &pod.agent,
        V4,
        asks("http://one.test:7002/", AUTHORIZED).as_bytes(),
        ("hello", b"GET http://raw \xff bytes"),
    );
    let direct = talk(&pod.bare, (WORLD_V4, 7002), asks("/", "").as_bytes(), ("hello", b"GET http://raw \xff bytes"));
    assert_eq!(heard, direct);
    assert!(heard.contains("http://raw"), "{heard}");
    let spans = pod.finish();
    let reasons: Vec<_> = spans.iter().map(|span| text(span, "sidetrace.passthrough.reason")).collect();
    assert_eq!(reasons, ["not_http", "server_first", "upgraded"], "{spans:#?}");
    assert_eq!(spans[0].name, "connect one.test:7000");
    assert_eq!(
        (text(&spans[0], "server.address"), text(&spans[0], "network.peer.address")),
        ("one.test", "10.231.3.1")
    );
}

#[test]
fn what_is_refused_is_refused_with_a_word_and_counted() {
    let (mut pod, mut internet) = stage("refused", &[CREDENTIAL, ("SIDETRACE_FORWARD_DESTINATION_PORTS", "1-65535")]);
    for (name, address) in
        [("loop.test", "127.0.0.1"), ("pod.test", AGENT_V4), ("meta.test", "169.254.169.254"), ("any.test", "0.0.0.0")]
    {
        internet.name(name, address);
    }
    let _listening = pod.origin("http", &["80"]);
    let connect = |to: &str| format!("CONNECT {to} HTTP/1.1\r\n{AUTHORIZED}\r\n");
    let absolute = |to: &str| format!("GET http://{to}/ HTTP/1.1\r\nHost: x\r\n{AUTHORIZED}\r\n");
    let wrong = AUTHORIZED.replace("OjAx", "OjAy");
    let mut rows = vec![
        ("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n".to_owned(), 400),
        (format!("CONNECT one.test HTTP/1.1\r\n{AUTHORIZED}\r\n"), 400),
        ("\x16\x03\x01\x00\x05hello".to_owned(), 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
        ("CONNECT one.test:80 HTTP/1.1\r\n\r\n".to_owned(), 407),
        ("CONNECT 169.254.169.254:80 HTTP/1.1\r\n\r\n".to_owned(), 407),
        (format!("GET http://one.test/ HTTP/1.1\r\nHost: x\r\n{wrong}\r\n"), 407),
        (format!("POST http://one.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n{wrong}\r\nbody"), 407),
        (format!("GET https://one.test/ HTTP/1.1\r\nHost: x\r\n{AUTHORIZED}\r\n"), 501),
        (connect("one.test:1"), 502),
        (absolute("one.test:1"), 502),
        (connect("none.test:80"), 502),
    ];
    for to in [
        "meta.test:80",
        "169.254.169.254:80",
        "[::ffff:a9fe:a9fe]:80",
        "[fe80::1]:80",
        "[fd00:ec2::254]:80",
        "any.test:80",
        "[::]:80",
        "224.0.0.1:80",
        "255.255.255.255:80",
        "0xa9fea9fe:80",
        "2852039166:80",
    ] {
        rows.extend([(connect(to), 403), (absolute(to), 403)]);
    }
    for port in [15100, 15101, 15106, 15107, 15120, 4317] {
        for host in [
            "127.0.0.1",
            "localhost",
            "loop.test",
            "pod.test",
            "127.9.9.9",
            "0.0.0.0",
            "[::1]",
            "[::ffff:127.0.0.1]",
            AGENT_V4,
            &format!("[{AGENT_V6}]"),
            "2130706433",
        ] {
            rows.push((connect(&format!("{host}:{port}")), 403));
        }
    }
    for (request, status) in &rows {
        let heard = talk(&pod.agent, V4, request.as_bytes(), NOTHING);
        assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{heard}");
        assert!(heard.contains("\r\n\r\nSidetrace: ") && heard.ends_with('\n'), "{request}{heard}");
        assert_eq!(
            heard.contains("\r\nproxy-authenticate: Basic realm=\"sidetrace\"\r\n"),
            *status == 407,
            "{request}{heard}"
        );
    }
    // One connection: asked, asked again, elsewhere, and well.
    let (no, no_tunnel) = ("GET http://one.test/ HTTP/1.1\r\n\r\n", "CONNECT one.test:80 HTTP/1.1\r\n\r\n");
    let rest = [no, &absolute("meta.test:80"), &absolute("one.test")].concat();
    let heard = talk(&pod.agent, V4, no_tunnel.as_bytes(), ("Sidetrace: ", rest.as_bytes()));
    let statuses: Vec<_> =
        heard.match_indices("HTTP/1.1 ").map(|(at, found)| heard[at + found.len()..][..3].to_owned()).collect();
    assert_eq!(statuses, ["407", "407", "403", "200"], "{heard}");
    // What stands behind a CONNECT is said to somebody else.
    let heard = talk(&pod.agent, V4, [no_tunnel, &absolute("one.test")].concat().as_bytes(), NOTHING);
    assert!(heard.matches("HTTP/1.1 ").count() == 1 && heard.contains("\r\nconnection: close\r\n"), "{heard}");
    let of = |status: u16| rows.iter().filter(|(_, other)| *other == status).count() as u64;
    let count = |reason: &str| pod.metric(&format!("sidetrace_forward_refused_total{{reason=\"{reason}\"}}"));
    assert_eq!((count("malformed"), count("no_credential"), count("wrong_credential")), (of(400) + of(501), 5, 2));
    assert_eq!((count("forbidden"), count("unreachable"), count("no_such_name")), (of(403) + 1, 2, 1));
    assert_eq!(pod.metric("sidetrace_forward_connections_total"), rows.len() as u64 + 2);
    assert_eq!(pod.metric("sidetrace_loops_total"), 0);
    let spans = pod.finish();
    let refused: Vec<_> = spans.iter().filter(|span| text(span, "sidetrace.end") == "refused").collect();
    assert_eq!((spans.len(), refused.len()), (3, 2), "{spans:#?}");
    assert!(
        refused
            .iter()
            .all(|span| text(span, "error.type") == "connection_refused" && span.name == "connect one.test:1")
    );
}

#[test]
fn a_client_that_does_not_trust_us_is_passed_through_from_its_second_attempt_on() {
    let (mut pod, internet) = stage("distrust", &SETTINGS);
    let own = internet.path("one.test.pem");
    let _server = pod.origin("tls", &["443", &own]);
    let words = ["curl", "-sSf", "--cacert", &internet.path("root.pem"), "https://one.test/"].map(str::to_owned);
    let attempt = || {
        let mut command = internet.ignorant(&words, "hosts");
        command.envs(variables());
        pod.agent.output(command).status.success()
    };
    assert_eq!([attempt(), attempt(), attempt()], [false, true, true]);
    let spans = pod.finish();
    let passed = |span: &&Span| text(span, "sidetrace.passthrough.reason") == "tls_client_refuses";
    assert_eq!((spans.len(), spans.iter().filter(passed).count()), (3, 2), "{spans:#?}");
    assert!(spans.iter().all(|span| span.name == "connect one.test:443"), "{spans:#?}");
}

#[test]
fn only_the_pod_itself_can_connect_and_the_credential_is_nowhere() {
    let (mut pod, internet) = stage("secret", &[CREDENTIAL, ("SIDETRACE_LOG", "trace")]);
    let origin = pod.origin("http", &["80"]);
    for address in [format!("{AGENT_V4}:15107"), format!("[{AGENT_V6}]:15107")] {
        let refused = pod.bare.enter(move || TcpStream::connect(address).unwrap_err().kind());
        assert_eq!(refused, std::io::ErrorKind::ConnectionRefused);
    }
    let mut command = internet.ignorant(&["curl", "-sSf", "http://one.test/"].map(str::to_owned), "hosts");
    command.envs(variables());
    pod.run(command);
    talk(&pod.agent, V4, format!("CONNECT one.test:22 HTTP/1.1\r\n{AUTHORIZED}\r\n").as_bytes(), NOTHING);
    talk(&pod.agent, V4, format!("nonsense {AUTHORIZED}\r\n\r\n").as_bytes(), NOTHING);
    let metrics = pod.agent.sh_ok("curl -sf http://127.0.0.1:15120/metrics");
    let mut config = Command::new(binary());
    config.arg("config").env_clear().envs([CREDENTIAL]);
    let config = String::from_utf8(config.output().unwrap().stdout).unwrap();
    assert!(config.contains("SIDETRACE_FORWARD_CREDENTIAL") && config.contains("(hidden)"), "{config}");
    pod.collector.wait_for_spans(1);
    let log = pod.stop_sidecar();
    let call = origin.into_calls();
    assert_eq!(call.len(), 1);
    let everything = [metrics, config, log, format!("{call:?}"), pod.collector.everything()].concat();
    for secret in [PASSWORD, ENCODED] {
        assert!(!everything.contains(secret), "{secret}");
    }
}

#[test]
fn it_stands_beside_a_redirect_and_does_not_loop() {
    let (mut pod, internet) = stage("beside", &[]);
    pod.redirect(&[]);
    let origin = pod.origin("http", &["80"]);
    let mut command = internet.ignorant(&["curl", "-sSf", "http://one.test/"].map(str::to_owned), "hosts");
    command.envs(variables());
    pod.run(command);
    // Another rule of somebody's sends everything here.
    pod.agent.sh_ok("iptables -t nat -I OUTPUT -p tcp -d 10.231.9.9 -j REDIRECT --to-ports 15107");
    let heard = pod.agent.enter(|| {
        let mut stream = TcpStream::connect("10.231.9.9:80").unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.read(&mut [0; 1]).map_err(|error| error.kind())
    });
    assert_eq!(heard, Err(std::io::ErrorKind::ConnectionReset));
    assert_eq!(pod.metric("sidetrace_loops_total"), 1);
    let spans = pod.finish();
    assert_eq!((spans.len(), origin.into_calls().len()), (1, 1), "{spans:#?}");
}

/// A pod without a redirect, whose sidecar knows the names.
fn stage(name: &str, settings: &[(&str, &str)]) -> (Pod, Internet) {
    let mut pod = Pod::without_sidecar(if settings.is_empty() { &SETTINGS } else { settings });
    let mut internet = Internet::new(&format!("forward-{name}"));
    internet.settle(&pod.world, &[("one.test", "10.231.3.1"), ("two.test", "10.231.3.2")]);
    for (setting, value) in internet.settings() {
        pod.set(setting, &value);
    }
    pod.start_sidecar_among(&internet);
    (pod, internet)
}

fn variables() -> Vec<(&'static str, String)> {
    let proxy = sidetrace::trust::PROXY_VARIABLES;
    proxy.iter().map(|variable| (variable.name, variable.value(PASSWORD, 15107))).collect()
}

/// Says `first`; once it has heard what it waits for, says the rest; says FIN, and hears it out.
fn talk(netns: &Netns, to: (&str, u16), first: &[u8], (heard_first, then): (&str, &[u8])) -> String {
    let to = SocketAddr::new(to.0.parse().unwrap(), to.1);
    let (first, heard_first, then) = (first.to_vec(), heard_first.to_owned(), then.to_vec());
    netns.enter(move || {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.write_all(&first).unwrap();
        let mut heard = vec![];
        let mut some = [0; 4096];
        while !String::from_utf8_lossy(&heard).contains(&heard_first) {
            let length = stream.read(&mut some).unwrap();
            assert!(length > 0, "{}", String::from_utf8_lossy(&heard));
            heard.extend_from_slice(&some[..length]);
        }
        stream.write_all(&then).unwrap();
        // Who was answered with a close may be closed already.
        let _ = stream.shutdown(Shutdown::Write);
        stream.read_to_end(&mut heard).unwrap();
        String::from_utf8_lossy(&heard).into_owned()
    })
}

/// Reads up to this end.
fn hear(stream: &mut TcpStream, end: &str) -> String {
    let mut heard = vec![];
    let mut some = [0; 4096];
    while !heard.ends_with(end.as_bytes()) {
        let length = stream.read(&mut some).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&some[..length]);
    }
    String::from_utf8(heard).unwrap()
}

const NOTHING: (&str, &[u8]) = ("", b"");
const V4: (&str, u16) = ("127.0.0.1", 15107);
const V6: (&str, u16) = ("::1", 15107);
const PASSWORD: &str = "0123456789abcdef-of-this-pod";
const ENCODED: &str = "c2lkZXRyYWNlOjAxMjM0NTY3ODlhYmNkZWYtb2YtdGhpcy1wb2Q=";
const AUTHORIZED: &str = "Proxy-Authorization: Basic c2lkZXRyYWNlOjAxMjM0NTY3ODlhYmNkZWYtb2YtdGhpcy1wb2Q=\r\n";
const CREDENTIAL: (&str, &str) = ("SIDETRACE_FORWARD_CREDENTIAL", PASSWORD);
const SETTINGS: [(&str, &str); 1] = [CREDENTIAL];
