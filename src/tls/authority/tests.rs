use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::UnixTime;

use super::certificate::Authority as Read;
use super::*;
use crate::budget::{Loan, Use};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// An authority whose time the test moves.
struct Fixture {
    authority: Arc<Authority>,
    now: Arc<Mutex<SystemTime>>,
    metrics: Arc<Metrics>,
}

impl Fixture {
    fn memory() -> Self {
        Self::open(&AuthoritySource::Memory, Budget::unlimited()).unwrap()
    }

    fn open(source: &AuthoritySource, budget: Arc<Budget>) -> Result<Self> {
        // 2026-11-22.
        let now = Arc::new(Mutex::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_374_000)));
        let (metrics, clock) = (Arc::new(Metrics::default()), now.clone());
        let authority = Authority::open(source, budget, metrics.clone(), move || *clock.lock().unwrap())?;
        Ok(Self { authority: Arc::new(authority), now, metrics })
    }

    fn now(&self) -> SystemTime {
        *self.now.lock().unwrap()
    }

    fn pass(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }

    fn leaf(&self, name: &str) -> Arc<CertifiedKey> {
        self.authority.leaf(&server_name(name)).unwrap()
    }

    fn outcomes(&self) -> BTreeMap<&'static str, u64> {
        self.metrics.leaves.values().filter(|(_, count)| *count > 0).collect()
    }

    fn reloads(&self) -> BTreeMap<&'static str, u64> {
        self.metrics.authority_reloads.values().filter(|(_, count)| *count > 0).collect()
    }

    /// Whether a client that trusts these roots accepts this for that name now.
    fn accepted(&self, roots: &[CertificateDer<'static>], shown: &CertifiedKey, name: &str) -> bool {
        let mut store = RootCertStore::empty();
        roots.iter().for_each(|root| store.add(root.clone()).unwrap());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build().unwrap();
        let since = self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let (leaf, above) = shown.cert.split_first().unwrap();
        shown.keys_match().unwrap();
        verifier.verify_server_cert(leaf, above, &server_name(name), &[], UnixTime::since_unix_epoch(since)).is_ok()
    }
}

fn server_name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).unwrap()
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_client_that_trusts_the_root_accepts_a_leaf_for_its_name_and_for_no_other() {
    let fixture = Fixture::memory();
    let long = format!("{0}.{0}.{0}.example", "a".repeat(60));
    let names = [
        "api.openai.com",
        "a",
        "_dmarc.my_host.example",
        "xn--bcher-kva.example",
        &long,
        "10.0.0.1",
        "::1",
        "fd00::a:1",
    ];
    let roots = fixture.authority.roots();
    assert_eq!(roots.len(), 1);
    for name in names {
        let leaf = fixture.leaf(name);
        assert_eq!(leaf.cert.len(), 2, "leaf and intermediate");
        for other in names {
            assert_eq!(fixture.accepted(&roots, &leaf, other), name == other, "{name} as {other}");
        }
    }
    let api = fixture.leaf("api.openai.com");
    for other in ["openai.com", "a.api.openai.com", "xapi.openai.com"] {
        assert!(!fixture.accepted(&roots, &api, other), "{other}");
    }
    assert!(!fixture.accepted(&Fixture::memory().authority.roots(), &api, "api.openai.com"));
}

#[test]
fn a_name_is_the_same_in_capitals_and_with_a_last_dot() {
    let fixture = Fixture::memory();
    assert!(Arc::ptr_eq(&fixture.leaf("API.example"), &fixture.leaf("api.example")));
    let absolute = fixture.leaf("dot.example.");
    assert!(fixture.accepted(&fixture.authority.roots(), &absolute, "dot.example"));
}

#[test]
fn each_certificate_says_what_it_may_and_how_far() {
    let fixture = Fixture::memory();
    let leaf = fixture.leaf("api.example");
    let root = fixture.authority.roots().remove(0);
    let [leaf, intermediate] = &leaf.cert[..] else { panic!("{leaf:?}") };
    let [root, intermediate, leaf] = [&root, intermediate, leaf].map(|der| Read::read(der).unwrap());
    assert_eq!((root.signs, root.below), (true, Some(1)));
    assert_eq!((intermediate.signs, intermediate.below), (true, Some(0)));
    assert_eq!((leaf.signs, leaf.below), (false, None));
    assert_eq!((root.issuer, intermediate.issuer, leaf.issuer), (root.subject, root.subject, intermediate.subject));
    let life = |read: &Read<'_>| read.validity.until.duration_since(read.validity.from).unwrap();
    assert_eq!((life(&leaf), life(&intermediate)), (25 * HOUR, 7 * DAY + HOUR));
    assert!(life(&root) > 3650 * DAY);
    let other = Fixture::memory().authority.roots().remove(0);
    assert_ne!(Read::read(&other).unwrap().subject, root.subject, "two pods differ in name");
}

#[test]
fn sixty_four_that_ask_at_once_get_one_leaf() {
    let fixture = Fixture::memory();
    let barrier = Barrier::new(64);
    let leaves: Vec<_> = std::thread::scope(|scope| {
        let ask = || {
            barrier.wait();
            fixture.leaf("api.example")
        };
        let threads: Vec<_> = (0..64).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(leaves.iter().all(|leaf| Arc::ptr_eq(leaf, &leaves[0])));
    assert_eq!(fixture.outcomes(), BTreeMap::from([("made", 1), ("cached", 63)]));
}

#[test]
fn no_more_leaves_are_made_than_the_rate_allows_but_those_that_are_there_are_shown() {
    let fixture = Fixture::memory();
    for index in 0..500 {
        fixture.leaf(&format!("host-{index}.example"));
    }
    assert_eq!(fixture.authority.leaf(&server_name("one.too.many")).err(), Some(NoLeaf::RateLimited));
    fixture.leaf("host-0.example");
    fixture.pass(Duration::from_secs(1));
    for index in 500..550 {
        fixture.leaf(&format!("host-{index}.example"));
    }
    assert_eq!(fixture.authority.leaf(&server_name("one.too.many")).err(), Some(NoLeaf::RateLimited));
    assert_eq!(fixture.outcomes(), BTreeMap::from([("made", 550), ("cached", 1), ("rate_limited", 2)]));
}

#[test]
fn a_leaf_in_the_second_half_of_its_life_is_still_shown_where_no_other_can_be_made() {
    let fixture = Fixture::memory();
    let old = fixture.leaf("api.example");
    fixture.pass(13 * HOUR);
    for index in 0..500 {
        fixture.leaf(&format!("host-{index}.example"));
    }
    assert!(Arc::ptr_eq(&old, &fixture.leaf("api.example")));
    fixture.pass(Duration::from_secs(1));
    assert!(!Arc::ptr_eq(&old, &fixture.leaf("api.example")));
}

#[test]
fn the_least_recently_used_leaf_goes_first() {
    let fixture = Fixture::memory();
    for index in 0..leaves::MOST {
        fixture.leaf(&format!("host-{index}.example"));
        fixture.leaf("host-0.example");
        fixture.pass(Duration::from_millis(20));
    }
    fixture.leaf("new.example");
    let made = |name: &str| {
        let before = fixture.outcomes()["made"];
        fixture.leaf(name);
        fixture.outcomes()["made"] > before
    };
    assert!(!made("host-0.example") && !made("host-2.example") && !made("new.example"));
    assert!(made("host-1.example"));
    assert_eq!(fixture.authority.state().leaves.len(), leaves::MOST);
}

#[test]
fn leaves_are_kept_within_the_budget_and_made_without_it() {
    let budget = Budget::of(1 << 20);
    let fixture = Fixture::open(&AuthoritySource::Memory, budget.clone()).unwrap();
    for index in 0..300 {
        fixture.leaf(&format!("host-{index}.example"));
    }
    let kept = fixture.authority.state().leaves.len();
    assert!((20..100).contains(&kept), "{kept} in 64 KiB");
    // Others hold all that there is.
    let rest: Vec<Loan> = std::iter::from_fn(|| budget.lend(100, Use::Sink)).collect();
    assert!(!rest.is_empty());
    let leaf = fixture.leaf("unkept.example");
    assert!(fixture.accepted(&fixture.authority.roots(), &leaf, "unkept.example"));
}

#[test]
fn leaves_are_renewed_after_half_of_their_life_and_the_intermediate_each_day() {
    let fixture = Fixture::memory();
    let roots = fixture.authority.roots();
    let first = fixture.leaf("api.example");
    fixture.pass(12 * HOUR);
    assert!(Arc::ptr_eq(&first, &fixture.leaf("api.example")));
    fixture.pass(HOUR);
    let second = fixture.leaf("api.example");
    assert_ne!(first.cert[0], second.cert[0]);
    assert_eq!(first.cert[1], second.cert[1]);
    fixture.pass(11 * HOUR + Duration::from_secs(1));
    let other = fixture.leaf("other.example");
    assert_ne!(second.cert[1], other.cert[1], "a new intermediate");
    assert!(Arc::ptr_eq(&second, &fixture.leaf("api.example")), "the old leaf stays");
    assert!(fixture.accepted(&roots, &second, "api.example") && fixture.accepted(&roots, &other, "other.example"));
    for _ in 0..30 {
        fixture.pass(7 * HOUR);
        assert!(fixture.accepted(&roots, &fixture.leaf("api.example"), "api.example"));
    }
    assert_eq!(fixture.authority.roots(), roots);
    assert!(!fixture.authority.reload());
}

#[test]
fn a_clock_that_is_set_back_or_far_ahead_leaves_nothing_that_is_not_valid() {
    let fixture = Fixture::memory();
    fixture.leaf("api.example");
    *fixture.now.lock().unwrap() -= 5 * HOUR;
    assert!(fixture.accepted(&fixture.authority.roots(), &fixture.leaf("api.example"), "api.example"));
    fixture.pass(3640 * DAY);
    assert!(fixture.accepted(&fixture.authority.roots(), &fixture.leaf("api.example"), "api.example"));
    fixture.pass(30 * DAY);
    assert_eq!(fixture.authority.leaf(&server_name("api.example")).err(), Some(NoLeaf::Failed));
}

#[test]
fn nothing_that_is_printed_holds_a_key() {
    let (ca, pkcs8) = Ca::new(SystemTime::now()).unwrap();
    let fixture = Fixture::memory();
    let leaf = fixture.leaf("api.example");
    let numbers = |part: &[u8]| part.iter().map(|byte| format!("{byte}, ")).collect::<String>();
    let mut secrets = pkcs8.windows(32).step_by(8).take(5).map(numbers);
    let printed = format!("{ca:?} {:?} {:?} {leaf:?}", fixture.authority, fixture.authority.state());
    // The public half is at the end of PKCS #8, and in the certificate.
    assert!(secrets.all(|part| !printed.contains(&part)), "{printed}");
    assert!(printed.contains("Key { algorithm: ECDSA, .. }"), "{printed}");
}

/// Authorities that somebody else makes, and the files that they are mounted in.
struct Mount {
    folder: PathBuf,
}

/// A certificate and its key, PEM.
struct Made {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

impl Mount {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sidetrace-mount-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        Self { folder }
    }

    /// Replaces both, as the kubelet does: by other files under the same names.
    fn write(&self, chain: &str, key: &str) {
        for (name, text) in [("tls.crt", chain), ("tls.key", key)] {
            std::fs::write(self.folder.join("new"), text).unwrap();
            // An inode that is free may be given to the next file, within one tick of the clock.
            let ino = |path: &Path| std::fs::metadata(path).map(|file| file.ino()).ok();
            assert_ne!(ino(&self.folder.join("new")), ino(&self.folder.join(name)));
            std::fs::rename(self.folder.join("new"), self.folder.join(name)).unwrap();
        }
    }

    fn source(&self) -> AuthoritySource {
        AuthoritySource::Mounted {
            certificate: self.folder.join("tls.crt"),
            key: self.folder.join("tls.key"),
            overlap: HOUR,
        }
    }

    fn open(&self) -> Fixture {
        Fixture::open(&self.source(), Budget::unlimited()).unwrap()
    }

    fn refusal(&self, chain: &str, key: &str) -> String {
        self.write(chain, key);
        Fixture::open(&self.source(), Budget::unlimited()).err().unwrap().to_string()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Made {
    fn new(name: &str, constraints: BasicConstraints, above: Option<&Made>) -> Self {
        Self::with(name, above, |params| params.is_ca = IsCa::Ca(constraints))
    }

    fn root(name: &str) -> Self {
        Self::new(name, BasicConstraints::Unconstrained, None)
    }

    fn with(name: &str, above: Option<&Made>, set: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example Corp");
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (params.not_before, params.not_after) = (date_time_ymd(2026, 11, 1), date_time_ymd(2027, 11, 1));
        set(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = match above {
            Some(above) => params.signed_by(&key, &rcgen::Issuer::from_params(&above.params, &above.key)).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        let pem = certificate.pem();
        Self { params, key, pem }
    }

    fn key(&self) -> String {
        self.key.serialize_pem()
    }
}

#[test]
fn a_mounted_authority_signs_through_an_intermediate_where_every_path_length_allows_it() {
    use BasicConstraints::{Constrained, Unconstrained};
    let mount = Mount::new("paths");
    // The root's, the mounted one's, and how many certificates are sent.
    let cases = [
        (Unconstrained, Unconstrained, 3),
        (Unconstrained, Constrained(1), 3),
        (Unconstrained, Constrained(0), 2),
        (Constrained(2), Unconstrained, 3),
        (Constrained(1), Unconstrained, 2),
    ];
    for (index, (above, own, sent)) in cases.into_iter().enumerate() {
        let root = Made::new("Root", above, None);
        let own = Made::new("Issuing", own, Some(&root));
        mount.write(&format!("{}{}", own.pem, root.pem), &own.key());
        let fixture = mount.open();
        let leaf = fixture.leaf("api.example");
        assert_eq!(leaf.cert.len(), sent, "case {index}");
        assert!(fixture.accepted(&fixture.authority.roots(), &leaf, "api.example"), "case {index}");
    }
    let alone = Made::new("Alone", Constrained(0), None);
    mount.write(&alone.pem, &alone.key());
    let fixture = mount.open();
    let leaf = fixture.leaf("10.0.0.1");
    assert_eq!(leaf.cert.len(), 1);
    assert!(fixture.accepted(&fixture.authority.roots(), &leaf, "10.0.0.1"));
}

#[test]
fn a_new_root_is_published_at_once_and_signs_after_the_overlap() {
    let mount = Mount::new("overlap");
    let (old, new) = (Made::root("Old"), Made::root("New"));
    mount.write(&old.pem, &old.key());
    let fixture = mount.open();
    let roots = fixture.authority.roots();
    let first = fixture.leaf("api.example");
    assert!(!fixture.authority.reload());
    mount.write(&new.pem, &new.key());
    assert!(fixture.authority.reload(), "the roots have changed");
    let both = fixture.authority.roots();
    assert_eq!((both.len(), &both[0]), (2, &roots[0]));
    fixture.pass(HOUR - Duration::from_secs(1));
    assert!(!fixture.authority.reload());
    assert!(fixture.accepted(&roots, &fixture.leaf("b.example"), "b.example"), "the old one signs");
    fixture.pass(Duration::from_secs(1));
    let leaf = fixture.leaf("api.example");
    assert!(!Arc::ptr_eq(&first, &leaf) && !fixture.accepted(&roots, &leaf, "api.example"));
    assert!(fixture.accepted(&both, &leaf, "api.example"), "who trusts what was published trusts it");
    assert!(fixture.authority.reload(), "the old root is gone");
    assert_eq!(fixture.authority.roots(), [both[1].clone()]);
    assert_eq!(fixture.reloads(), BTreeMap::from([("published", 1), ("signing", 1)]));
}

#[test]
fn a_new_issuer_below_the_published_root_signs_at_once() {
    let mount = Mount::new("same-root");
    let root = Made::root("Root");
    let issuing = |name| Made::new(name, BasicConstraints::Constrained(0), Some(&root));
    let (first, second) = (issuing("First"), issuing("Second"));
    mount.write(&format!("{}{}", first.pem, root.pem), &first.key());
    let fixture = mount.open();
    let old = fixture.leaf("api.example");
    mount.write(&format!("{}{}", second.pem, root.pem), &second.key());
    assert!(!fixture.authority.reload(), "the roots are the same");
    let roots = fixture.authority.roots();
    let new = fixture.leaf("b.example");
    assert_ne!(old.cert[1], new.cert[1]);
    assert!(fixture.accepted(&roots, &new, "b.example") && fixture.accepted(&roots, &old, "api.example"));
    assert!(Arc::ptr_eq(&old, &fixture.leaf("api.example")));
}

#[test]
fn a_new_root_signs_at_the_latest_when_the_old_one_ends_and_is_forgotten_if_taken_back() {
    let mount = Mount::new("ends");
    let old = Made::with("Old", None, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // 19:00 is the time of the tests.
        params.not_after = date_time_ymd(2026, 11, 22) + Duration::from_secs(19 * 3600 + 1200);
    });
    let new = Made::root("New");
    mount.write(&old.pem, &old.key());
    let fixture = mount.open();
    let leaf = fixture.leaf("api.example");
    assert_eq!(Read::read(&leaf.cert[0]).unwrap().validity.until, fixture.now() + Duration::from_secs(1200));
    mount.write(&new.pem, &new.key());
    assert!(fixture.authority.reload());
    mount.write(&old.pem, &old.key());
    assert!(fixture.authority.reload());
    assert_eq!(fixture.authority.roots().len(), 1);
    mount.write(&new.pem, &new.key());
    assert!(fixture.authority.reload());
    fixture.pass(Duration::from_secs(1201));
    let leaf = fixture.leaf("api.example");
    assert!(fixture.accepted(&fixture.authority.roots()[..1], &leaf, "api.example"));
    assert!(fixture.authority.reload());
    assert_eq!(fixture.authority.roots().len(), 1);
}

#[test]
fn files_that_cannot_be_used_leave_the_last_authority_in_force_and_are_told_once() {
    let mount = Mount::new("bad");
    let (old, new) = (Made::root("Old"), Made::root("New"));
    mount.write(&old.pem, &old.key());
    let fixture = mount.open();
    let roots = fixture.authority.roots();
    for (chain, key) in [(new.pem.as_str(), old.key()), ("", new.key()), (&new.pem, String::new())] {
        mount.write(chain, &key);
        assert!(!fixture.authority.reload() && !fixture.authority.reload());
        assert_eq!(fixture.authority.roots(), roots);
        assert!(fixture.accepted(&roots, &fixture.leaf("api.example"), "api.example"));
    }
    assert_eq!(fixture.reloads(), BTreeMap::from([("refused", 3)]));
    let early = Made::with("Early", None, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2026, 11, 23);
    });
    mount.write(&early.pem, &early.key());
    assert!(!fixture.authority.reload());
    fixture.pass(6 * HOUR);
    assert!(fixture.authority.reload(), "valid by now");
    assert_eq!(fixture.authority.roots().len(), 2);
}

#[test]
fn connections_get_their_leaves_while_the_files_are_read_for_however_long() {
    let mount = Mount::new("hung");
    let (old, new) = (Made::root("Old"), Made::root("New"));
    mount.write(&old.pem, &old.key());
    let fixture = mount.open();
    mount.write(&new.pem, &new.key());
    // A look at the files that does not end.
    let look = fixture.authority.mounted.as_ref().unwrap().lock().unwrap();
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| fixture.authority.reload());
        fixture.leaf("api.example");
        assert_eq!(fixture.authority.roots().len(), 1);
        drop(look);
        assert!(reload.join().unwrap());
    });
    assert_eq!(fixture.authority.roots().len(), 2);
}

#[test]
fn a_mounted_authority_that_cannot_sign_stops_the_start_and_says_why() {
    let mount = Mount::new("refusals");
    let (root, other) = (Made::root("Root"), Made::root("Other"));
    let issuing = Made::new("Issuing", BasicConstraints::Constrained(0), Some(&root));
    let server = Made::with("server", Some(&root), |_| {});
    let no_signer = Made::with("No signer", None, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    let expired = Made::with("Expired", None, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(2026, 11, 2);
    });
    let (key, certificate) = ("SIDETRACE_CA_KEY: ", "SIDETRACE_CA_CERTIFICATE: ");
    let cases = [
        (root.pem.clone(), String::new(), key, "holds no private key in PEM"),
        (root.pem.clone(), root.pem.clone(), key, "holds no private key in PEM"),
        (String::new(), root.key(), certificate, "holds no certificate"),
        (root.key(), root.key(), certificate, "holds no certificate"),
        (root.pem.clone(), other.key(), certificate, "does not belong to the key"),
        (format!("{}{}", root.pem, issuing.pem), issuing.key(), certificate, "does not belong to the key"),
        (format!("{}{}", issuing.pem, other.pem), issuing.key(), certificate, "wrong order"),
        (format!("{}{}", server.pem, root.pem), server.key(), certificate, "is no certificate authority"),
        (no_signer.pem.clone(), no_signer.key(), certificate, "is no certificate authority"),
        (expired.pem.clone(), expired.key(), certificate, "has expired"),
    ];
    for (chain, secret, variable, reason) in cases {
        let error = mount.refusal(&chain, &secret);
        assert!(error.starts_with(variable) && error.contains(reason) && error.contains("Accepted: "), "{error}");
        assert!(!error.contains("BEGIN"), "{error}");
    }
    std::fs::remove_file(mount.folder.join("tls.key")).unwrap();
    let error = Fixture::open(&mount.source(), Budget::unlimited()).err().unwrap();
    assert!(error.to_string().contains("tls.key: No such file"), "{error}");
}

#[test]
fn a_certificate_cut_anywhere_or_changed_anywhere_is_read_without_panic() {
    let root = Fixture::memory().authority.roots().remove(0);
    for end in 0..root.len() {
        assert!(Read::read(&root[..end]).is_none(), "{end}");
    }
    for at in 0..root.len() {
        for value in [0, 1, 0x30, 0x7f, 0x80, 0x82, 0xff] {
            let mut changed = root.to_vec();
            changed[at] = value;
            let _ = Read::read(&changed);
        }
    }
    assert!(!contains(&root, b"api.example"));
}

#[test]
fn addresses_are_in_the_certificate_as_addresses() {
    let fixture = Fixture::memory();
    for text in ["192.0.2.7", "2001:db8::7"] {
        let octets = match text.parse::<IpAddr>().unwrap() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let alternative = [&[0x87, u8::try_from(octets.len()).unwrap()][..], &octets].concat();
        assert!(contains(&fixture.leaf(text).cert[0], &alternative), "{text}");
    }
}
