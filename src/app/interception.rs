//! Interception of TLS: the authority, the files that make the agent trust it, and what changes while we run.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::pki_types::CertificateDer;
use tracing::{error, info};

use crate::budget::Budget;
use crate::config::{AuthoritySource, Config};
use crate::telemetry::Metrics;
use crate::tls::authority::Authority;
use crate::tls::{Interceptor, Verification};
use crate::{files, trust};

/// All of it.
pub(super) struct Interception {
    pub(super) interceptor: Arc<Interceptor>,
    authority: Arc<Authority>,
    written: Option<Written>,
}

/// The files of trust, and what is in them beside our own roots.
#[derive(Clone)]
struct Written {
    folder: PathBuf,
    public: Arc<[CertificateDer<'static>]>,
    extra: Arc<[CertificateDer<'static>]>,
}

impl Interception {
    /// Makes the authority and writes the files, complete before anything is served. `None` where nothing is to be intercepted.
    pub(super) fn start(config: &Config, budget: Arc<Budget>, metrics: Arc<Metrics>) -> io::Result<Option<Self>> {
        let (tls, rules) = (&config.tls, &config.rules);
        let mounted = matches!(tls.authority, AuthoritySource::Mounted { .. });
        let by_rule = rules.intercept.iter().any(|rule| rule.intercept);
        if !(tls.intercept || by_rule || mounted || tls.trust_dir.is_some()) {
            return Ok(None);
        }
        let public = trust::public_roots();
        let named = |name: &str, error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
        let everywhere = match &tls.extra_roots {
            Some(path) => files::certificates(path).map_err(|error| named("SIDETRACE_EXTRA_ROOTS", error))?,
            None => Vec::new(),
        };
        let mut extra = everywhere;
        for rule in &rules.roots {
            extra.extend(files::certificates(&rule.file).map_err(|error| named("tls.roots", error))?);
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
            extra = extra.len(),
            "roots that upstream is verified by"
        );
        let (public, extra) = (public.certificates.into(), extra.into());
        let written = tls.trust_dir.clone().map(|folder| Written { folder, public, extra });
        let interception = Self { interceptor, authority, written };
        interception.write().map_err(|error| named("SIDETRACE_TRUST_DIR", error))?;
        Ok(Some(interception))
    }

    /// Looks after files that others replace. Never ends.
    pub(super) async fn watch(self) {
        let this = Arc::new(self);
        loop {
            tokio::time::sleep(LOOK).await;
            let this = this.clone();
            let looked = tokio::task::spawn_blocking(move || {
                this.interceptor.refresh();
                if this.authority.reload()
                    && let Err(error) = this.write()
                {
                    error!(%error, "SIDETRACE_TRUST_DIR: the new root is not published");
                }
            });
            if looked.await.is_err() {
                error!("looking after the certificates has failed");
            }
        }
    }

    fn write(&self) -> io::Result<()> {
        let Some(Written { folder, public, extra }) = &self.written else { return Ok(()) };
        trust::write(folder, public, extra, &self.authority.roots())?;
        info!(folder = %folder.display(), "what makes the agent trust us is written");
        Ok(())
    }
}

const LOOK: Duration = Duration::from_secs(10);
