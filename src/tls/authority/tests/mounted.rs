//! An authority that is mounted: what it signs through, how one follows another, what is refused.

use super::*;

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
