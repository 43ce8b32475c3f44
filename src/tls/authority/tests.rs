mod mounted;

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
