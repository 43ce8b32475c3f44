//! Without NET_ADMIN: the agent is told of the sidecar as its HTTP proxy.

use super::deployed::Deployed;
use super::manifest::Manifest;
use super::world::{Family, World};
use crate::it::support::text;

#[test]
fn without_any_capability_an_agent_that_reads_proxy_variables_is_traced() {
    let world = World::new(Family::V4);
    let manifest = Manifest::of("forward-proxy");
    assert!(!manifest.render(&world).contains("NET_ADMIN"));
    let mut pod = Deployed::start(&world, &manifest);
    pod.wait_for_line("agent", "serving");
    for call in ["chat", "stream", "fetch", "plain", "tool"] {
        let said = pod.ask(&format!("/{call}"));
        assert!(said.starts_with(&format!("200 did {call} ")), "{said}");
    }
    pod.delete();
    assert!(!pod.events().iter().any(|event| event.ends_with("sidetrace-init")));
    world.wait_for_responses(&pod.responses());
    world.wait_for_span("tools/call add");
    let gets = world.wait_for_spans("GET", 2);
    for path in ["/forecast", "/status"] {
        assert_eq!(gets.iter().filter(|span| text(span, "url.full").ends_with(path)).count(), 1, "{gets:#?}");
    }
}

#[test]
fn the_proxy_is_for_who_knows_its_credential_and_leads_nowhere_else() {
    let world = World::new(Family::V4);
    let pod = Deployed::start(&world, &Manifest::of("forward-proxy"));
    pod.wait_for_line("agent", "serving");
    let status =
        |credential: &str, destination: &str| pod.exec("agent", &["python3", "-c", CONNECT, credential, destination]);
    assert_eq!(status("own", "api.weather.example:443"), "200");
    assert_eq!(status("sidetrace:another-credential", "api.weather.example:443"), "407");
    assert_eq!(status("", "api.weather.example:443"), "407");
    for refused in ["127.0.0.1:15120", "127.0.0.1:15107", "169.254.169.254:80", "api.weather.example:22"] {
        assert_eq!(status("own", refused), "403", "{refused}");
    }
    // Nobody outside reaches it.
    let outside = std::net::TcpStream::connect((pod.addresses()[0], 15107));
    assert_eq!(outside.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

/// Asks the agent's own proxy for a tunnel: `CREDENTIAL DESTINATION`, where `own` is the one in the variables.
const CONNECT: &str = "
import base64, os, socket, sys, urllib.parse
credential, destination = sys.argv[1:]
proxy = urllib.parse.urlsplit(os.environ['HTTPS_PROXY'])
credential = f'{proxy.username}:{proxy.password}' if credential == 'own' else credential
header = f'Proxy-Authorization: Basic {base64.b64encode(credential.encode()).decode()}\\r\\n' if credential else ''
connection = socket.create_connection((proxy.hostname, proxy.port), 20)
connection.sendall(f'CONNECT {destination} HTTP/1.1\\r\\nHost: {destination}\\r\\n{header}\\r\\n'.encode())
print(connection.recv(4096).split()[1].decode())
";
