//! The folder that makes runtimes trust us: they all load its files and accept whom the files say, and `sidetrace check --trust`
//! says what they do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::string::{BmpString, TeletexString};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use sidetrace::trust::{self, VARIABLES};
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::support::{Netns, Process, binary, python, root};

#[test]
fn every_runtime_accepts_our_root_an_extra_one_and_a_public_one() {
    let folder = Folder::new("runtimes");
    let [public, extra, ours] = ["public", "extra", "ours"].map(Authority::new);
    let trusted = folder.path("the trust of it");
    let mut all_public = trust::public_roots().certificates;
    all_public.push(public.der());
    trust::write(&trusted, &all_public, &[extra.der()], &[ours.der()]).unwrap();
    let netns = Netns::new();
    let stranger = Authority::new("a stranger");
    let servers = Servers::start(&folder, &netns, &[&ours, &extra, &public, &stranger]);
    fs::write(folder.path("Get.java"), JAVA).unwrap();

    let venv = python().display().to_string();
    let python = |script: &str| vec![venv.clone(), "-c".to_owned(), format!("import sys; url = sys.argv[1]\n{script}")];
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let java = folder.path("Get.java").display().to_string();
    // The last column: whether the variable replaces the roots that the runtime has, so that the file's public ones count.
    let clients = [
        ("python ssl", python("import urllib.request as r; r.urlopen(url)"), true),
        // What Python 3.13 asks for.
        ("python ssl, strict", python(PYTHON_STRICT), true),
        ("requests", python("import requests; requests.get(url)"), true),
        ("httpx", python("import httpx; httpx.get(url)"), true),
        ("httpx2", python("import httpx2; httpx2.get(url)"), true),
        ("openai", python(PYTHON_OPENAI), true),
        ("aiohttp", python(PYTHON_AIOHTTP), true),
        ("boto3", python(PYTHON_BOTO3), true),
        (
            "node",
            words(&["node", "-e", "fetch(process.argv[1]).catch((e) => { console.error(e); process.exit(1) })"]),
            false,
        ),
        ("java", words(&["java", &java]), true),
        ("java with a password", words(&["java", "-Djavax.net.ssl.trustStorePassword=changeit", &java]), true),
        ("java with a type", words(&["java", "-Djavax.net.ssl.trustStoreType=PKCS12", &java]), true),
        ("curl", words(&["curl", "-sS", "-f"]), true),
        ("git", words(&["git", "ls-remote"]), true),
        ("openssl, directory", words(&["sh", "-c", OPENSSL_DIRECTORY, "sh"]), true),
        ("openssl", words(&["sh", "-c", OPENSSL, "sh"]), true),
    ];
    for (name, client, replaces) in clients {
        for (server, wanted) in [("ours", true), ("extra", true), ("public", replaces), ("a stranger", false)] {
            let mut command = Command::new(&client[0]);
            command.args(&client[1..]).arg(servers.url(server)).env_clear().envs(bare_environment());
            command.envs(trust::variables(&trusted)).env("TRUST", &trusted).current_dir(folder.path(""));
            let output = netns.output(command);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.success(), wanted, "{name}, a server of {server}: {said}");
        }
    }
}

#[test]
fn java_lists_every_root_with_any_password_and_with_none() {
    let folder = Folder::new("keytool");
    let [extra, ours] = ["extra", "ours"].map(Authority::new);
    let public = trust::public_roots().certificates;
    trust::write(&folder.0, &public, &[extra.der()], &[ours.der()]).unwrap();
    let store = folder.path("truststore.p12").display().to_string();
    for password in [&["-storepass", "changeit"][..], &["-storepass", "another"], &[]] {
        let mut command = Command::new("keytool");
        command.args(["-list", "-keystore", &store]).args(password);
        let said = output(command);
        let count = |part: &str| said.lines().filter(|line| line.contains(part)).count();
        assert_eq!(count("trustedCertEntry"), public.len() + 2, "{password:?}: {said}");
        assert_eq!((count("public-"), count("extra-"), count("sidetrace-")), (public.len(), 1, 1), "{said}");
    }
}

#[test]
fn the_directory_is_what_openssl_makes_of_the_same_certificates() {
    let folder = Folder::new("rehash");
    let mut certificates = trust::public_roots().certificates;
    // Names as no public root has them, and two of the same name.
    certificates.extend(["ours", "ours"].map(|name| Authority::new(name).der()));
    let latin = DnValue::TeletexString(TeletexString::try_from("  Two   Words ").unwrap());
    let wide = DnValue::BmpString(BmpString::try_from("Ärger  IM Büro").unwrap());
    for value in [latin, wide, DnValue::Utf8String("\tÄRGER\u{a0}Im büro ".to_owned())] {
        let mut params = authority_params();
        params.distinguished_name.push(DnType::OrganizationName, value.clone());
        params.distinguished_name.push(DnType::CommonName, value);
        certificates.push(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone());
    }
    certificates.push(CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone());
    let mut nameless = authority_params();
    nameless.distinguished_name = DistinguishedName::new();
    certificates.push(nameless.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone());
    certificates.extend(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    trust::write(&folder.0, &certificates, &[], &[]).unwrap();

    let ours = listing(&folder.path("hashed"));
    let theirs = folder.path("theirs");
    fs::create_dir(&theirs).unwrap();
    for (number, certificate) in ours.values().enumerate() {
        fs::write(theirs.join(format!("{number}.pem")), certificate).unwrap();
    }
    let mut rehash = Command::new("openssl");
    rehash.arg("rehash").arg(&theirs);
    output(rehash);
    let theirs: BTreeMap<_, _> = listing(&theirs).into_iter().filter(|(name, _)| !name.ends_with(".pem")).collect();
    // Which of two with the same name is the first is anybody's choice.
    let by_hash = |listing: &BTreeMap<String, Vec<u8>>| {
        let mut pairs: Vec<_> = listing.iter().map(|(name, bytes)| (name[..8].to_owned(), bytes.clone())).collect();
        pairs.sort();
        pairs
    };
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    assert!(by_hash(&ours) == by_hash(&theirs), "the same names, but not the same certificates");
    assert!(ours.keys().any(|name| name.ends_with(".1")), "two certificates have the same name");
}

#[test]
fn the_same_input_gives_the_same_bytes_and_what_is_stale_goes() {
    let folder = Folder::new("again");
    let [old, new, extra] = ["the same name", "the same name", "extra"].map(Authority::new);
    let public = trust::public_roots().certificates;
    // Each step's extra roots and ours; the names of the last two are one.
    let steps: [(&[&Authority], &[&Authority]); 6] = [
        (&[&extra], &[&old]),
        (&[&extra], &[&new, &old]),
        (&[&extra], &[&old, &new]),
        (&[], &[&new]),
        (&[&new, &extra], &[&new]),
        (&[&extra, &extra], &[&old]),
    ];
    for (extra, ours) in steps {
        let ders = |authorities: &[&Authority]| authorities.iter().map(|one| one.der()).collect::<Vec<_>>();
        let twice = [&public[..], &ders(extra)[..], &public[..3]].concat();
        let write = |to: &Path| trust::write(to, &twice, &ders(extra), &ders(ours)).unwrap();
        write(&folder.path("trust"));
        let once = files(&folder.path("trust"));
        write(&folder.path("trust"));
        assert!(once == files(&folder.path("trust")), "the second write differs");
        write(&folder.path("fresh"));
        assert!(once == files(&folder.path("fresh")), "what was there before shows");
        fs::remove_dir_all(folder.path("fresh")).unwrap();

        let distinct = [ders(extra), ders(ours)].concat().into_iter().collect::<std::collections::HashSet<_>>().len();
        let count = |file: &str| String::from_utf8_lossy(&once[file]).matches("-----BEGIN CERTIFICATE-----\n").count();
        assert_eq!(count("bundle.pem"), public.len() + distinct);
        assert_eq!((count("added.pem"), count("ca.pem")), (distinct, ours.len()));
        assert_eq!(once.len() - 4, public.len() + distinct, "{:?}", once.keys());
    }
    for (path, mode) in
        [("trust", 0o755), ("trust/hashed", 0o755), ("trust/bundle.pem", 0o644), ("trust/ca.pem", 0o644)]
    {
        assert_eq!(fs::metadata(folder.path(path)).unwrap().permissions().mode() & 0o777, mode, "{path}");
    }
}

#[test]
fn what_a_crash_left_behind_is_no_hindrance_and_does_not_stay() {
    let folder = Folder::new("crash");
    let [extra, ours] = ["extra", "ours"].map(Authority::new);
    let write = || trust::write(&folder.path("trust"), &[], &[extra.der()], &[ours.der()]).unwrap();
    write();
    let wanted = files(&folder.path("trust"));
    for leftover in [".bundle.pem.new", "hashed/.00000000.0.new", "hashed/00000000.0"] {
        fs::write(folder.path("trust").join(leftover), "half a fi").unwrap();
    }
    write();
    assert_eq!(wanted, files(&folder.path("trust")));
}

#[test]
fn what_has_a_name_of_somebody_else_stays() {
    let folder = Folder::new("others");
    let ours = Authority::new("ours");
    let write = || trust::write(&folder.path("trust"), &[], &[], &[ours.der()]).unwrap();
    write();
    let wanted = files(&folder.path("trust"));
    let others =
        ["ca-certificates.crt", "0000000.0", "000000000.0", "00000000.00", "0000000A.0", "00000000.r0", ".new"];
    for name in others {
        fs::write(folder.path("trust/hashed").join(name), name).unwrap();
    }
    fs::create_dir(folder.path("trust/hashed/folder")).unwrap();
    write();
    for name in others {
        assert_eq!(fs::read_to_string(folder.path("trust/hashed").join(name)).unwrap(), name);
        fs::remove_file(folder.path("trust/hashed").join(name)).unwrap();
    }
    assert!(folder.path("trust/hashed/folder").is_dir());
    assert_eq!(wanted, files(&folder.path("trust")));
}

#[test]
fn a_link_is_never_followed_out_of_the_folder() {
    let folder = Folder::new("links");
    let ours = Authority::new("ours");
    let (trusted, system) = (folder.path("trust"), folder.path("system"));
    let write = || trust::write(&trusted, &[], &[], &[ours.der()]);
    for path in [&trusted, &system] {
        fs::create_dir(path).unwrap();
    }
    fs::write(system.join("00000000.0"), "theirs").unwrap();
    for name in ["bundle.pem", ".bundle.pem.new", "truststore.p12", ".ca.pem.new"] {
        symlink(system.join("00000000.0"), trusted.join(name)).unwrap();
    }
    let unharmed = || listing(&system) == BTreeMap::from([("00000000.0".to_owned(), b"theirs".to_vec())]);
    for target in ["../system", "../nowhere"] {
        symlink(target, trusted.join("hashed")).unwrap();
        let error = write().unwrap_err().to_string();
        assert!(error.contains("trust/hashed: is a symbolic link"), "{error}");
        assert!(unharmed() && !folder.path("nowhere").exists(), "{target}");
        fs::remove_file(trusted.join("hashed")).unwrap();
    }
    write().unwrap();
    assert!(unharmed());
    let written = fs::read_dir(&trusted).unwrap().map(|entry| entry.unwrap());
    assert!(written.into_iter().all(|entry| !entry.file_type().unwrap().is_symlink()), "all are files of ours");
}

#[test]
fn check_trust_says_who_trusts_and_what_to_set() {
    let folder = Folder::new("check");
    let trusted = folder.path("trust");
    let ours = Authority::new("ours");
    trust::write(&trusted, &trust::public_roots().certificates, &[], &[ours.der()]).unwrap();
    let dir = trusted.display().to_string();
    let netns = Netns::new();
    let check = |variables: Vec<(&'static str, String)>, arguments: &[&str]| {
        let mut command = Command::new(binary());
        command.args(["check", "--trust"]).args(arguments).env_clear().envs(bare_environment());
        let path = format!("{}:{PATH}", python().parent().unwrap().display());
        command.env("PATH", path).envs(variables);
        let output = netns.output(command);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let verdict = |said: &str, runtime: &str| {
        let line =
            said.lines().find_map(|line| line.strip_prefix(runtime)).unwrap_or_else(|| panic!("{runtime}:\n{said}"));
        line.trim().to_owned()
    };

    let (code, said) = check(trust::variables(&trusted), &["--dir", &dir]);
    println!("{said}");
    assert_eq!(code, Some(0), "{said}");
    for runtime in REQUIRED {
        assert_eq!(verdict(&said, runtime), "trusts", "`make tools` installs it: {said}");
    }
    for runtime in OPTIONAL {
        match verdict(&said, runtime).as_str() {
            "trusts" => {}
            "not found" => println!("not here: {runtime}"),
            other => panic!("{runtime}: {other}"),
        }
    }

    let (code, said) = check(Vec::new(), &["--dir", &dir]);
    assert_eq!(code, Some(1), "{said}");
    for runtime in REQUIRED {
        let line = verdict(&said, runtime);
        let told = VARIABLES.iter().any(|variable| {
            line == format!("does not trust: set {}={}", variable.name, variable.value(&trusted, None).unwrap())
        });
        assert!(told, "{runtime}: {line}");
    }
    let (code, said) = check(Vec::new(), &[]);
    assert_eq!(
        (code, verdict(&said, "openssl").as_str()),
        (Some(1), "does not trust: set SSL_CERT_FILE=DIR/bundle.pem")
    );

    // One variable of somebody's own: what it moves is told, what others move is not.
    let mut variables = trust::variables(&trusted);
    let elsewhere = folder.path("elsewhere.pem");
    fs::write(&elsewhere, "").unwrap();
    for (name, value) in &mut variables {
        match *name {
            "GIT_SSL_CAINFO" => *value = elsewhere.display().to_string(),
            "JAVA_TOOL_OPTIONS" => *value = "-Dsecret=hush".to_owned(),
            _ => {}
        }
    }
    let (code, said) = check(variables, &["--quiet", "--dir", &dir]);
    assert_eq!(code, Some(1), "{said}");
    let mut lines: Vec<_> = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    lines.sort();
    let git = format!("git does not trust: set GIT_SSL_CAINFO={dir}/bundle.pem (it is something else now)");
    let java =
        format!("java does not trust: add to JAVA_TOOL_OPTIONS: -Djavax.net.ssl.trustStore={dir}/truststore.p12");
    assert_eq!(lines, [git, java]);

    // A folder that is not ready trusts nobody, whatever points there.
    fs::remove_file(trusted.join("bundle.pem")).unwrap();
    let (code, said) = check(trust::variables(&trusted), &["--dir", &dir]);
    assert!(code == Some(1) && said.contains("bundle.pem"), "{said}");
}

/// `make tools` installs these; without one the test fails.
const REQUIRED: [&str; 12] = [
    "python3 ssl",
    "python3 requests",
    "python3 httpx ",
    "python3 httpx2",
    "python3 aiohttp",
    "python3 boto3",
    "python3 grpcio",
    "node",
    "java",
    "curl",
    "git",
    "openssl",
];
/// Tested where they happen to be.
const OPTIONAL: [&str; 5] = ["deno", "bun", "go", "ruby", "dotnet"];

/// What a runtime needs to start, and nothing that says whom it trusts.
fn bare_environment() -> Vec<(&'static str, String)> {
    vec![("PATH", PATH.to_owned()), ("HOME", "/nonexistent".to_owned())]
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sidetrace-trust-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A root with its key.
struct Authority {
    name: &'static str,
    root: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &'static str) -> Self {
        let mut params = authority_params();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self { name, root: params.self_signed(&key).unwrap(), issuer: Issuer::new(params, key) }
    }

    fn der(&self) -> CertificateDer<'static> {
        self.root.der().clone()
    }

    /// A certificate for loopback with its key, PEM.
    fn leaf(&self) -> String {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.issuer).unwrap().pem() + &key.serialize_pem()
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// A server for each authority.
struct Servers {
    ports: BTreeMap<&'static str, String>,
    _process: Process,
}

impl Servers {
    fn start(folder: &Folder, netns: &Netns, authorities: &[&Authority]) -> Self {
        let mut command = Command::new(python());
        command.arg(root().join("tests/it/trust_server.py"));
        for authority in authorities {
            let path = folder.path(&format!("{}.pem", authority.name));
            fs::write(&path, authority.leaf()).unwrap();
            command.arg(path);
        }
        let process = Process::start("servers", netns, command);
        let line = process.wait_for("listening", 1).remove(0);
        let ports = line.split(' ').skip(1).map(str::to_owned);
        Self { ports: authorities.iter().map(|authority| authority.name).zip(ports).collect(), _process: process }
    }

    fn url(&self, name: &str) -> String {
        format!("https://127.0.0.1:{}/", self.ports[name])
    }
}

fn output(mut command: Command) -> String {
    let output = command.stdin(std::process::Stdio::null()).env("LC_ALL", "C").output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// A folder's files and their content.
fn listing(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

/// All that was written.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let certificates =
        listing(&folder.join("hashed")).into_iter().map(|(name, bytes)| (format!("hashed/{name}"), bytes));
    listing(folder).into_iter().chain(certificates).collect()
}

const PYTHON_STRICT: &str = "
import ssl, urllib.request
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT
urllib.request.urlopen(url, context=context)
";
const PYTHON_OPENAI: &str = "
import openai
try:
    openai.OpenAI(api_key='-', base_url=url, max_retries=0).models.list()
except openai.APIConnectionError as error:
    sys.exit(repr(error.__cause__))
except Exception:
    pass
";
const PYTHON_AIOHTTP: &str = "
import aiohttp, asyncio
async def call():
    async with aiohttp.ClientSession() as session, session.get(url):
        pass
asyncio.run(call())
";
const PYTHON_BOTO3: &str = "
import boto3, botocore.exceptions
try:
    boto3.client('sts', 'us-east-1', endpoint_url=url, aws_access_key_id='-', aws_secret_access_key='-').get_caller_identity()
except botocore.exceptions.SSLError as error:
    sys.exit(repr(error))
except Exception:
    pass
";
const JAVA: &str = "
import java.net.URI;
import java.net.http.*;

public class Get {
    public static void main(String[] arguments) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(arguments[0])).build();
        HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.discarding());
    }
}
";
const OPENSSL: &str = "
to=${1#https://}
exec openssl s_client -verify_return_error -connect ${to%/} </dev/null
";
const OPENSSL_DIRECTORY: &str = "
to=${1#https://}
exec openssl s_client -verify_return_error -no-CAfile -CApath \"$TRUST/hashed\" -connect ${to%/} </dev/null
";
