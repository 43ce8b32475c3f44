//! Servers behind the names that they have in the real world: an authority that no system knows, addresses of their own, and
//! a hosts file that only the clients see.

use std::collections::BTreeMap;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Netns, full_uid_map};

/// The names, their addresses, their certificates, and what makes a client trust them with and without us.
#[derive(Debug)]
pub(crate) struct Internet {
    folder: PathBuf,
    hosts: String,
}

impl Internet {
    /// Makes the authority, `root.pem`, and what clients without us trust.
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sidetrace-internet-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("home")).unwrap();
        std::fs::create_dir_all(folder.join("trust")).unwrap();
        let internet = Self { folder, hosts: "127.0.0.1 localhost\n::1 localhost\n".into() };
        internet.write("resolv.conf", "nameserver 127.0.0.1\n");
        internet.sh(AUTHORITY);
        internet.write("hosts", &internet.hosts);
        internet
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// As a word of a command line.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// Runs a script in the folder; it must succeed.
    pub(crate) fn sh(&self, script: &str) {
        let output = Command::new("sh").args(["-euc", script]).current_dir(&self.folder).output().unwrap();
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Gives names their addresses in the world, and a certificate with its key in `NAME.pem`.
    pub(crate) fn settle(&mut self, world: &Netns, names: &[(&str, &str)]) {
        for (name, address) in names {
            self.address(world, address);
            self.name(name, address);
            self.sh(&format!(
                "{LEAF}; leaf '{name}' root 'subjectAltName=DNS:{name}'; cat '{name}.key' '{name}.crt' > '{name}.pem'"
            ));
        }
    }

    /// An address in the world.
    pub(crate) fn address(&self, world: &Netns, address: &str) {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        world.sh_ok(&format!("ip addr replace {address} dev lo {nodad}"));
    }

    /// A line of the hosts file.
    pub(crate) fn name(&mut self, name: &str, address: &str) {
        self.hosts.push_str(&format!("{address} {name}\n"));
        self.write("hosts", &self.hosts);
    }

    /// Another hosts file, by its name in the folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    /// Settings for a sidecar that intercepts and trusts what the clients trust.
    pub(crate) fn settings(&self) -> BTreeMap<&'static str, String> {
        let trust = self.folder.join("trust");
        if full_uid_map() {
            chown(&trust, Some(15100), Some(15100)).unwrap();
        }
        BTreeMap::from([("SIDETRACE_TRUST_DIR", self.path("trust")), ("SIDETRACE_EXTRA_ROOTS", self.path("root.pem"))])
    }

    /// A client with nothing in its environment but what makes it trust the internet's authority.
    pub(crate) fn bare(&self, words: &[String]) -> Command {
        let [bundle, node, java] = ["bundle.pem", "root.pem", "store.p12"].map(|name| self.path(name));
        self.client(words, &bundle, &node, &java)
    }

    /// The same with the files that the sidecar has written.
    pub(crate) fn ours(&self, words: &[String]) -> Command {
        let [bundle, node, java] =
            ["bundle.pem", "ca.pem", "truststore.p12"].map(|name| self.path(&format!("trust/{name}")));
        self.client(words, &bundle, &node, &java)
    }

    /// A client that trusts the files named, through the variables that each kind of client reads.
    pub(crate) fn client(&self, words: &[String], bundle: &str, node: &str, java: &str) -> Command {
        let mut command = self.ignorant(words, "hosts");
        for name in BUNDLES {
            command.env(name, bundle);
        }
        command.env("NODE_EXTRA_CA_CERTS", node);
        command.env(
            "JAVA_TOOL_OPTIONS",
            format!("-Djavax.net.ssl.trustStore={java} -Djavax.net.ssl.trustStorePassword=changeit"),
        );
        command
    }

    /// A client to whom nobody has said whom to trust; the hosts file is named.
    pub(crate) fn ignorant(&self, words: &[String], hosts: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc"]);
        // HOSTS may name another hosts file.
        let enter = "mount --bind \"${HOSTS:-$0}\" /etc/hosts; unset HOSTS; mount --bind \"$1\" /etc/resolv.conf; shift; exec \"$@\"";
        command.args([enter, &self.path(hosts), &self.path("resolv.conf")]).args(words);
        // What a client makes of an unordered set is the same each time.
        command
            .env_clear()
            .env("PYTHONHASHSEED", "0")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"));
        command
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Variables that name a full bundle.
const BUNDLES: [&str; 6] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "GIT_SSL_CAINFO",
];

/// Some system's bundle may have no newline at its end.
const AUTHORITY: &str = "
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=Root of the Internet' -days 30 \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign -keyout root.key -out root.crt
cp root.crt root.pem
{ cat /etc/ssl/certs/ca-certificates.crt; echo; cat root.pem; } > bundle.pem
keytool -importcert -noprompt -alias internet -file root.pem -keystore store.p12 -storetype PKCS12 -storepass changeit
";

/// `leaf NAME ISSUER EXTENSIONS [NOEKU] [OPTION…]`: a certificate, with a key of an elliptic curve where none is there.
pub(crate) const LEAF: &str = r#"leaf() {
    name=$1 issuer=$2 extensions=$3 usage=extendedKeyUsage=serverAuth; shift 3
    case $extensions in *extendedKeyUsage*) usage= ;; esac
    if [ "${1-}" = NOEKU ]; then usage=; shift; fi
    [ -e "$name.key" ] || openssl ecparam -name prime256v1 -genkey -noout -out "$name.key"
    subject=/CN=$name; [ "$name" != nameless ] || subject=/O=none
    openssl req -new -key "$name.key" -subj "$subject" -out "$name.csr"
    printf 'basicConstraints=critical,CA:FALSE\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n%b\n%b\n' "$usage" "$extensions" > "$name.ext"
    openssl x509 -req -in "$name.csr" -CA "$issuer.crt" -CAkey "$issuer.key" -set_serial "0x$(openssl rand -hex 8)" -days 20 -extfile "$name.ext" -out "$name.crt" "$@"
}"#;
