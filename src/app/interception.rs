//! Interception of TLS: the authority, the files that make the agent trust it, and what changes while we run.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::pki_types::CertificateDer;
use tracing::{error, info, warn};

use crate::budget::Budget;
use crate::config::{AuthoritySource, Config};
use crate::policy::{Policies, Policy};
use crate::telemetry::Metrics;
use crate::tls::authority::Authority;
use crate::tls::{Interceptor, Verification};
use crate::{files, trust};

/// All of it.
pub(super) struct Interception {
    pub(super) interceptor: Arc<Interceptor>,
    authority: Arc<Authority>,
    written: Option<Mutex<Written>>,
}

/// The files of trust, and what is in them beside our own roots.
struct Written {
    folder: PathBuf,
    public: Vec<CertificateDer<'static>>,
    everywhere: Option<PathBuf>,
    extra: Extra,
    /// Something has changed that the files do not say yet.
    due: bool,
}

/// What the files of extra roots held when they could be read last. A file is here once.
#[derive(Default)]
struct Extra(Vec<Read>);

struct Read {
    path: PathBuf,
    certificates: Vec<CertificateDer<'static>>,
    /// That it cannot be read now.
    told: bool,
}

impl Interception {
    /// Makes the authority and writes the files, complete before anything is served. `None` where nothing is to be intercepted.
    pub(super) fn start(config: &Config, budget: Arc<Budget>, metrics: Arc<Metrics>) -> io::Result<Option<Self>> {
        let (tls, rules) = (&config.tls, &config.rules);
        let mounted = matches!(tls.authority, AuthoritySource::Mounted { .. });
        let by_rule = rules.ask_for_interception();
        if !(tls.intercept || by_rule || mounted || tls.trust_dir.is_some()) {
            return Ok(None);
        }
        let public = trust::public_roots();
        let named = |name: &str, error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
        let mut extra = Extra::default();
        if let Some(path) = &tls.extra_roots {
            extra.open(path).map_err(|error| named("SIDETRACE_EXTRA_ROOTS", error))?;
        }
        for rule in &rules.roots {
            extra.open(&rule.file).map_err(|error| named("tls.roots", error))?;
        }
        let authority = Arc::new(Authority::open(&tls.authority, budget, metrics, SystemTime::now)?);
        let (verified_by, file) = (public.certificates.clone(), tls.extra_roots.clone());
        let interceptor = Arc::new(Interceptor::new(tls.intercept, authority.clone(), verified_by, file));
        interceptor.prepare(Verification::default())?;
        for rule in &rules.roots {
            let verification = Verification { roots: vec![rule.file.clone()], client: None };
            interceptor.prepare(verification).map_err(|error| named("tls.roots", error))?;
        }
        for rule in &rules.client_certificates {
            let client = Some((rule.certificate.clone(), rule.key.clone()));
            let verification = Verification { roots: Vec::new(), client };
            interceptor.prepare(verification).map_err(|error| named("tls.client_certificates", error))?;
        }
        info!(
            public = public.certificates.len(),
            from = public.source,
            extra = extra.certificates().len(),
            "roots that upstream is verified by"
        );
        let written = match tls.trust_dir.clone() {
            Some(folder) => {
                let everywhere = tls.extra_roots.clone();
                let mut written = Written { folder, public: public.certificates, everywhere, extra, due: true };
                written.write(&authority).map_err(|error| named("SIDETRACE_TRUST_DIR", error))?;
                Some(Mutex::new(written))
            }
            None => None,
        };
        Ok(Some(Self { interceptor, authority, written }))
    }

    /// Looks after files that others replace. Never ends.
    pub(super) async fn watch(self, policies: Policies) {
        let this = Arc::new(self);
        loop {
            tokio::time::sleep(LOOK).await;
            let (this, policy) = (this.clone(), policies.load());
            let looked = tokio::task::spawn_blocking(move || this.look(&policy));
            if looked.await.is_err() {
                error!("looking after the certificates has failed");
            }
        }
    }

    fn look(&self, policy: &Policy) {
        self.interceptor.refresh();
        let ours = self.authority.reload();
        let Some(written) = &self.written else { return };
        let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
        written.due |= ours;
        written.look(policy);
        // What cannot be written is tried again the next time.
        if written.due
            && let Err(error) = written.write(&self.authority)
        {
            error!(%error, "SIDETRACE_TRUST_DIR: what the agent has to trust by now is not written");
        }
    }
}

impl Written {
    /// Reads the files of extra roots that count by this policy.
    fn look(&mut self, policy: &Policy) {
        let paths = self.everywhere.iter().chain(policy.roots().iter().map(|rule| &rule.file));
        self.due |= self.extra.read(paths);
    }

    fn write(&mut self, authority: &Authority) -> io::Result<()> {
        trust::write(&self.folder, &self.public, &self.extra.certificates(), &authority.roots())?;
        self.due = false;
        info!(folder = %self.folder.display(), "what makes the agent trust us is written");
        Ok(())
    }
}

impl Extra {
    fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.0.iter().flat_map(|file| &file.certificates).cloned().collect()
    }

    /// One more file, which has to be sound.
    fn open(&mut self, path: &Path) -> io::Result<&[CertificateDer<'static>]> {
        let index = match self.0.iter().position(|file| file.path == path) {
            Some(index) => index,
            None => {
                self.0.push(Read { path: path.to_owned(), certificates: files::certificates(path)?, told: false });
                self.0.len() - 1
            }
        };
        Ok(&self.0[index].certificates)
    }

    /// These files and no others, as they are now; returns whether the certificates are others than before.
    fn read<'a>(&mut self, paths: impl Iterator<Item = &'a PathBuf>) -> bool {
        let before = self.certificates();
        let mut last = std::mem::take(&mut self.0);
        for path in paths {
            if self.0.iter().any(|file| file.path == *path) {
                continue;
            }
            let mut file = match last.iter().position(|file| file.path == *path) {
                Some(index) => last.swap_remove(index),
                None => Read { path: path.clone(), certificates: Vec::new(), told: false },
            };
            file.look();
            self.0.push(file);
        }
        self.certificates() != before
    }
}

impl Read {
    fn look(&mut self) {
        match files::certificates(&self.path) {
            Ok(certificates) => (self.certificates, self.told) = (certificates, false),
            Err(error) if !self.told => {
                warn!(%error, last = self.certificates.len(), "extra roots cannot be read; those of the last time stay");
                self.told = true;
            }
            Err(_) => {}
        }
    }
}

const LOOK: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;

    use super::*;
    use crate::config::assembly::assemble;
    use crate::config::rules::{Matcher, RootsRule, Rules};

    /// A folder for the agent, and files of extra roots.
    struct Fixture {
        folder: PathBuf,
        interception: Interception,
    }

    impl Fixture {
        /// With this root in the file that counts everywhere.
        fn new(name: &str, everywhere: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("sidetrace-extra-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("everywhere.pem"), everywhere).unwrap();
            let variables = [("SIDETRACE_TRUST_DIR", "trust"), ("SIDETRACE_EXTRA_ROOTS", "everywhere.pem")];
            let variables = variables.map(|(name, file)| (name.to_owned(), folder.join(file).display().to_string()));
            let config = assemble(variables.into(), |_| Err(io::ErrorKind::NotFound.into())).unwrap().config;
            let interception = Interception::start(&config, Budget::unlimited(), Arc::default()).unwrap().unwrap();
            Self { folder, interception }
        }

        fn write(&self, file: &str, text: &str) {
            fs::write(self.folder.join(file), text).unwrap();
        }

        /// A look, with rules that name these files.
        fn look(&self, files: &[&str]) {
            let rule = |file: &&str| RootsRule { matcher: Matcher::default(), file: self.folder.join(file) };
            let roots = files.iter().map(rule).collect();
            self.interception.look(&Policy::new(Rules { roots, ..Rules::default() }));
        }

        /// What the agent is told to trust beside public roots and ours.
        fn extra(&self) -> HashSet<CertificateDer<'static>> {
            let ours = self.interception.authority.roots();
            let added = files::certificates(&self.folder.join("trust/added.pem")).unwrap();
            added.into_iter().filter(|certificate| !ours.contains(certificate)).collect()
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    fn root(name: &str) -> (String, CertificateDer<'static>) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (made.cert.pem(), made.cert.der().clone())
    }

    #[test]
    fn the_agent_trusts_the_extra_roots_of_the_files_as_they_are_and_of_the_rules_in_force() {
        let [(pem_a, a), (pem_b, b), (pem_c, c)] = ["a", "b", "c"].map(root);
        let set = |certificates: &[&CertificateDer<'static>]| certificates.iter().map(|one| (*one).clone()).collect();
        let fixture = Fixture::new("rules", &pem_a);
        let holds = |certificates: &[&CertificateDer<'static>]| fixture.extra() == set(certificates);
        assert!(holds(&[&a]));
        fixture.write("rule.pem", &pem_b);
        fixture.look(&["rule.pem", "everywhere.pem", "rule.pem"]);
        assert!(holds(&[&a, &b]), "a new rule counts");
        fixture.write("rule.pem", &pem_c);
        fixture.look(&["rule.pem"]);
        assert!(holds(&[&a, &c]), "so does a new file");
        fixture.write("everywhere.pem", "half a fi");
        fs::remove_file(fixture.folder.join("rule.pem")).unwrap();
        fixture.look(&["rule.pem", "missing.pem"]);
        assert!(holds(&[&a, &c]), "what cannot be read stays as it was");
        fixture.write("everywhere.pem", &(pem_b + &pem_c));
        fixture.look(&[]);
        assert!(holds(&[&b, &c]), "the file is sound again, and the rule is gone");
    }

    #[test]
    fn the_folder_is_written_when_something_has_changed_until_that_went_well() {
        let [(pem_a, a), (pem_b, b)] = ["a", "b"].map(root);
        let fixture = Fixture::new("due", &pem_a);
        let trust = fixture.folder.join("trust");
        fs::remove_dir_all(&trust).unwrap();
        fixture.look(&[]);
        assert!(!trust.exists(), "nothing has changed");
        fixture.write("trust", "in the way");
        fixture.write("rule.pem", &pem_b);
        fixture.look(&["rule.pem"]);
        fs::remove_file(&trust).unwrap();
        fixture.look(&["rule.pem"]);
        assert_eq!(fixture.extra(), HashSet::from([a, b]));
    }
}
