//! The sidecar's own misfortunes: killed, or never redirected to; and what the user has set in its way.

use super::deployed::Deployed;
use super::manifest::Manifest;
use super::world::{Family, World};
use crate::it::support::{text, until};

#[test]
fn while_the_sidecar_is_dead_calls_are_refused_and_after_it_the_agent_trusts_as_before() {
    let world = World::new(Family::V4);
    let mut pod = Deployed::start(&world, &Manifest::of("python"));
    pod.wait_for_line("agent", "serving");
    let refused = pod.without_kubelet(|| {
        pod.kill("sidetrace");
        ["/fetch", "/plain", "/chat"].map(|path| pod.ask(path))
    });
    for said in refused {
        assert!(said.starts_with("502 failed") && said.contains("refused"), "{said}");
    }
    pod.wait_for("restarted", "sidetrace");
    pod.wait_for_nth("ready", "sidetrace", 2);
    let said = pod.ask("/fetch");
    assert_eq!(said, "200 did fetch /forecast");
    assert!(pod.ask("/chat").starts_with("200 did chat"), "a connection of before is as good as another");
    pod.delete();
    // What was made before the kill, and had not left, is gone with it: that is what SIGKILL means.
    let mine = pod.responses().split_off(1);
    assert_eq!(mine.len(), 2);
    let fetch = world.wait_for_span("GET");
    assert_eq!(text(&fetch, "url.full"), "https://api.weather.example/forecast");
    until("the later calls are there", || mine.iter().all(|id| world.responses().contains(id)));
    assert_eq!(pod.events().iter().filter(|event| *event == "started agent" || *event == "restarted agent").count(), 1);
}

#[test]
fn where_the_redirect_cannot_be_laid_the_pod_does_not_start_and_says_why() {
    let world = World::new(Family::V4);
    let dropped = "initContainers: [{name: sidetrace-init, securityContext: {capabilities: {add: [NET_RAW]}}}]\nrestartPolicy: Never";
    let mut pod = Deployed::start(&world, &Manifest::of("job").with(dropped));
    pod.wait_for_end(1);
    let said = pod.said("sidetrace-init").join("\n");
    assert!(said.contains("NET_ADMIN"), "{said}");
    assert_eq!(pod.said("agent"), [""; 0]);
    assert!(
        !pod.events().iter().any(|event| event == "started agent" || event == "started sidetrace"),
        "{:?}",
        pod.events()
    );
}

#[test]
fn whom_the_user_trusts_is_the_users_choice_and_calls_pass_after_the_first() {
    let world = World::new(Family::V4);
    let own = "
        containers:
          - name: agent
            env:
              - {name: REQUESTS_CA_BUNDLE, value: /etc/company/root.pem}
            volumeMounts:
              - {name: company-roots, mountPath: /etc/company, readOnly: true}";
    let mut pod = Deployed::start(&world, &Manifest::of("python").with(own));
    pod.wait_for_line("agent", "serving");
    let first = pod.ask("/fetch");
    assert!(first.starts_with("502 failed fetch SSLError"), "{first}");
    assert_eq!(pod.ask("/fetch"), "200 did fetch /forecast");
    assert!(pod.ask("/chat").starts_with("200"), "another client of the agent trusts us");
    pod.delete();
    world.wait_for_responses(&pod.responses());
    let spans = world.spans();
    let unread: Vec<_> = spans.iter().filter(|span| text(span, "server.address") == "api.weather.example").collect();
    assert_eq!(unread.len(), 2, "{spans:#?}");
    assert!(unread.iter().all(|span| span.name.starts_with("connect ")), "{unread:#?}");
    assert!(!text(unread[1], "sidetrace.passthrough.reason").is_empty(), "{unread:#?}");
}

#[test]
fn an_authority_of_the_users_signs_and_agents_trust_it() {
    let world = World::new(Family::V4);
    let mut pod = Deployed::start(&world, &Manifest::of("mounted-authority"));
    pod.wait_for_line("agent", "serving");
    // The sidecar's leaves are below an intermediate of its own, which this authority has signed.
    let authority = std::fs::read_to_string(world.internet.path("authority.crt")).unwrap();
    assert_eq!(pod.exec("agent", &["python3", "-c", TRUSTED]), authority.trim());
    assert_eq!(pod.ask("/fetch"), "200 did fetch /forecast");
    pod.delete();
    world.wait_for_responses(&pod.responses());
    assert!(world.wait_for_spans("GET", 1).iter().any(|span| text(span, "url.full").ends_with("/forecast")));
}

/// Calls with no trust but in our root, and prints that. It asks for something, as who does not trust us would not.
const TRUSTED: &str = "
import socket, ssl
root = '/run/sidetrace/trust/ca.pem'
context = ssl.create_default_context(cafile=root)
with context.wrap_socket(socket.create_connection(('api.weather.example', 443), 20), server_hostname='api.weather.example') as over:
    over.sendall(b'GET /trusted HTTP/1.0\\r\\n\\r\\n')
    assert over.recv(4096)
print(open(root).read())
";
