//! The certificates that we show, as the strictest verifiers judge them: OpenSSL's `-x509_strict`, and Python with the flag
//! that its 3.13 sets by itself.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sidetrace::budget::Budget;
use sidetrace::config::AuthoritySource;
use sidetrace::telemetry::Metrics;
use sidetrace::tls::authority::Authority;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, Stream};

use super::support::python;

const NAMES: [&str; 7] = [
    "api.openai.com",
    "a",
    "_dmarc.my_host.example",
    "xn--bcher-kva.example",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example",
    "192.0.2.7",
    "2001:db8::7",
];

#[test]
fn openssl_accepts_every_certificate_by_its_strictest_rules() {
    let folder = Folder::new("openssl");
    accepted_by_openssl(&folder, &open(&AuthoritySource::Memory));
}

#[test]
fn a_mounted_authority_of_any_name_key_and_encoding_signs_what_openssl_accepts() {
    let folder = Folder::new("mounted");
    // Names as directories have them: attributes that occur twice, several at one level, other kinds of strings.
    let subject = "/DC=com/DC=example/OU=one/OU=two+CN=Issuing CA/L=Z\u{fc}rich";
    let keys = [
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", "PRIVATE KEY"),
        ("ecparam -name secp384r1 -genkey -noout", "EC PRIVATE KEY"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521", "PRIVATE KEY"),
        ("genrsa -traditional 2048", "RSA PRIVATE KEY"),
        ("genrsa 3072", "PRIVATE KEY"),
        ("genpkey -algorithm ED25519", "PRIVATE KEY"),
    ];
    for (generate, label) in keys {
        for path_length in ["", ",pathlen:0"] {
            let (kind, options) = generate.split_once(' ').unwrap();
            folder.openssl(&format!("{kind} -out ca.key {options}"));
            let key = std::fs::read_to_string(folder.0.join("ca.key")).unwrap();
            assert!(key.contains(&format!("BEGIN {label}")), "{generate}");
            let mut command = folder.command("req -x509 -new -key ca.key -out ca.crt -days 30 -utf8 -multivalue-rdn");
            command.args(["-subj", subject, "-addext", &format!("basicConstraints=critical,CA:TRUE{path_length}")]);
            command.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
            succeed(&mut command);
            let (certificate, key) = (folder.0.join("ca.crt"), folder.0.join("ca.key"));
            let source = AuthoritySource::Mounted { certificate, key, overlap: Duration::ZERO };
            accepted_by_openssl(&folder, &open(&source));
        }
    }
}

#[test]
fn python_connects_with_strict_verification() {
    let folder = Folder::new("python");
    let authority = Arc::new(open(&AuthoritySource::Memory));
    folder.write("root.pem", &[authority.roots()[0].as_ref()]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        for name in NAMES {
            let shown = Shown(authority.leaf(&server_name(name)).unwrap());
            let config = config.clone().with_no_client_auth().with_cert_resolver(Arc::new(shown));
            let (mut socket, _) = listener.accept().unwrap();
            let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = Stream::new(&mut connection, &mut socket);
            let mut said = [0; 5];
            stream.read_exact(&mut said).unwrap_or_else(|error| panic!("{name}: {error}"));
            stream.write_all(&said).unwrap();
        }
    });
    let script = "\
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
context.verify_flags |= ssl.VERIFY_X509_STRICT
for name in sys.argv[3:]:
    with socket.create_connection(('127.0.0.1', int(sys.argv[2])), timeout=30) as plain:
        with context.wrap_socket(plain, server_hostname=name) as tls:
            tls.sendall(b'hello')
            assert tls.recv(5) == b'hello', name
";
    let mut command = Command::new(python());
    succeed(command.args(["-c", script]).arg(folder.0.join("root.pem")).arg(port.to_string()).args(NAMES));
    server.join().unwrap();
}

fn open(source: &AuthoritySource) -> Authority {
    Authority::open(source, Budget::unlimited(), Arc::new(Metrics::default()), SystemTime::now).unwrap()
}

fn server_name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).unwrap()
}

fn accepted_by_openssl(folder: &Folder, authority: &Authority) {
    folder.write("root.pem", &[authority.roots()[0].as_ref()]);
    for name in NAMES {
        let leaf = authority.leaf(&server_name(name)).unwrap();
        let (own, above) = leaf.cert.split_first().unwrap();
        folder.write("leaf.pem", &[own.as_ref()]);
        folder.write("above.pem", &above.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        let asked = if name.parse::<std::net::IpAddr>().is_ok() { "-verify_ip" } else { "-verify_hostname" };
        // A file without a certificate is an error to OpenSSL.
        let above = if above.is_empty() { "" } else { "-untrusted above.pem" };
        folder.openssl(&format!(
            "verify -x509_strict -purpose sslserver -CAfile root.pem {above} {asked} {name} leaf.pem"
        ));
    }
}

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sidetrace-authority-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, certificates: &[&[u8]]) {
        let mut text = String::new();
        for der in certificates {
            let path = self.0.join("one.der");
            std::fs::write(&path, der).unwrap();
            text.push_str(&self.openssl("x509 -inform DER -in one.der"));
        }
        std::fs::write(self.0.join(name), text).unwrap();
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("openssl");
        command.args(line.split_whitespace()).current_dir(&self.0 as &Path);
        command
    }

    fn openssl(&self, line: &str) -> String {
        succeed(&mut self.command(line))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}
