//! Where a run takes place: `world` with the origins and the span sink, for the whole bench; `agent` with one proxy, for
//! one run.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Settings;
use super::it::support::{Netns, Process, binary, root, until};
use super::origins::Origins;
use super::peers::{PROXY_ID, Peer};
use super::tls::{self, Authority};

/// The address of all origins and of the sink.
pub(crate) const ADDRESS: &str = "10.231.0.254";
/// nginx, HTTP/1.1: 1 KiB of JSON at `/`, 1 GiB of zeros at `/gib`.
pub(crate) const HTTP1: u16 = 8080;
/// The same nginx, HTTP/2 by prior knowledge.
pub(crate) const HTTP2: u16 = 8081;

#[derive(Debug)]
pub(crate) struct World {
    netns: Netns,
    folder: PathBuf,
    sidetrace: PathBuf,
    envoy: Option<PathBuf>,
    links: Cell<u32>,
    origins: Origins,
    authority: Authority,
    tls_origin: tls::Origin,
    _nginx: Process,
}

impl World {
    pub(crate) fn new(settings: &Settings) -> Self {
        let folder = std::env::temp_dir().join(format!("sidetrace-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let netns = Netns::new();
        netns.sh_ok(&format!("ip addr add {ADDRESS}/32 dev lo && {TUNED}"));
        fs::File::create(folder.join("gib")).unwrap().set_len(1 << 30).unwrap();
        // A length-prefixed message of 64 bytes, as gRPC sends it.
        fs::write(folder.join("message"), super::origins::message()).unwrap();
        let origins = Origins::start(&netns);
        let authority = Authority::new(&folder);
        let tls_origin = tls::Origin::start(&netns, &authority);
        tls::relays(&netns);
        let nginx = start_nginx(&netns, &folder);
        // The proxies' own user must be able to read the programs.
        let copy = |from: &Path, name: &str| {
            let to = folder.join(name);
            fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            to
        };
        let sidetrace =
            super::variable("SIDETRACE_BIN").map_or_else(binary, |path| copy(Path::new(&path), "sidetrace"));
        let wants_envoy = settings.peers.iter().any(|peer| matches!(peer, Peer::EnvoyOff | Peer::EnvoyOn));
        let envoy = wants_envoy.then(|| copy(&installed_envoy(), "envoy"));
        Self { netns, folder, sidetrace, envoy, links: Cell::new(0), origins, authority, tls_origin, _nginx: nginx }
    }

    /// Spans that have arrived at the sink so far.
    pub(crate) fn spans(&self) -> u64 {
        self.origins.spans()
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn tls_origin(&self) -> &tls::Origin {
        &self.tls_origin
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The namespace of one run: no connection, no port and no conntrack entry is left over from another.
#[derive(Debug)]
pub(crate) struct Agent<'world> {
    pub(crate) world: &'world World,
    pub(crate) netns: Netns,
    link: String,
}

impl<'world> Agent<'world> {
    pub(crate) fn new(world: &'world World) -> Self {
        let netns = Netns::new();
        world.links.set(world.links.get() + 1);
        let link = format!("veth{}", world.links.get());
        world.netns.join(&link, &netns, "eth0");
        world.netns.sh_ok(&format!("ip addr add 10.231.1.1/24 dev {link} && ip link set {link} up"));
        netns.sh_ok(&format!(
            "ip addr add 10.231.1.2/24 dev eth0 && ip link set eth0 up && ip route add default via 10.231.1.1 && {TUNED}"
        ));
        let agent = Self { world, netns, link };
        fs::create_dir(agent.trust_dir()).unwrap();
        chown(agent.trust_dir(), Some(PROXY_ID), Some(PROXY_ID)).unwrap();
        agent
    }

    /// A file of the run.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.world.folder.join(name)
    }

    /// Where a proxy leaves what makes its clients trust it.
    pub(crate) fn trust_dir(&self) -> PathBuf {
        self.file(&format!("{}-trust", self.link))
    }

    /// Whom a client trusts here: the proxy's own authority, where it has one, and then no other.
    pub(crate) fn root_certificate(&self) -> PathBuf {
        let own = ["ca.pem", "mitmproxy-ca-cert.pem"].map(|name| self.trust_dir().join(name));
        own.into_iter().find(|path| path.exists()).unwrap_or_else(|| self.world.authority.root())
    }

    /// Delays what comes from `world`, once, where the kernel can.
    pub(crate) fn delay(&self, time: Duration) -> bool {
        let delay = format!("tc qdisc add dev {} root netem delay {}ms", self.link, time.as_millis());
        self.world.netns.sh(&delay).status.success()
    }

    pub(crate) fn sidetrace(&self) -> &Path {
        &self.world.sidetrace
    }

    pub(crate) fn envoy(&self) -> &Path {
        self.world.envoy.as_deref().expect("copied when it was asked for")
    }

    /// Redirects all TCP of the agent, except that of the proxy's user.
    pub(crate) fn redirect(&self) {
        let mut command = Command::new("sh");
        command.arg(root().join("iptables/init.sh"));
        let output = self.netns.output(command);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The client runs in the agent's namespace, to its end. On the core of this process.
    pub(crate) fn client(&self, command: &[&str]) -> String {
        let mut client = Command::new(command[0]);
        client.args(&command[1..]);
        let output = self.netns.output(client);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {}\n{said}{complained}", output.status);
        said
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        // At once, not when the kernel gets to the namespace: the next run's link has the same address.
        self.world.netns.sh(&format!("ip link del {}", self.link));
    }
}

/// The host's default congestion control may be bbr, which cripples bulk over veth. Enough ports, and soon again free, for
/// a new connection per request.
const TUNED: &str = "sysctl -qw net.ipv4.tcp_congestion_control=reno &&
    sysctl -qw net.ipv4.ip_local_port_range='16384 65535' && sysctl -qw net.ipv4.tcp_tw_reuse=1 &&
    sysctl -qw net.core.somaxconn=4096 &&
    { sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_time_wait=1 2>/dev/null || true; }";

/// Without a master: one process, which ends with its handle.
fn start_nginx(netns: &Netns, folder: &Path) -> Process {
    let config = folder.join("nginx.conf");
    let body = format!("{{\"padding\":\"{}\"}}", "x".repeat(1010));
    let folder = folder.display();
    let text = format!(
        "master_process off; daemon off; pid {folder}/nginx.pid; error_log stderr error;
         events {{ worker_connections 8192; }}
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; sendfile on; tcp_nopush on;
                 client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
                 uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
                 server {{ listen {ADDRESS}:{HTTP1} reuseport backlog=4096; listen {ADDRESS}:{HTTP2} http2 reuseport;
                          location / {{ default_type application/json; return 200 '{body}'; }}
                          location = /gib {{ root {folder}; }} }} }}"
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(config);
    let nginx = Process::start("nginx", netns, command);
    until("nginx answers", || netns.sh(&format!("curl -sf -o /dev/null http://{ADDRESS}:{HTTP1}/")).status.success());
    nginx
}

fn installed_envoy() -> PathBuf {
    let python = root().join("target/tools/envoy/bin/python");
    assert!(python.exists(), "{} is missing: `make bench` installs it", python.display());
    let mut find = Command::new(python);
    find.args(["-c", "import importlib.util as u, pathlib as p; print(p.Path(u.find_spec('envoy').origin).with_name('_bin') / 'envoy')"]);
    let found = find.output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stdout).unwrap().trim().into()
}
