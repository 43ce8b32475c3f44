//! `SIDETRACE_INTERCEPT`, `SIDETRACE_TRUST_DIR`, `SIDETRACE_CA_*`, `SIDETRACE_EXTRA_ROOTS` -> [`Tls`]. What is in the files is
//! looked at where they are read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ABSOLUTE, Reader, Seconds, Shown, absolute_path, parse_bool, parse_seconds};
use crate::config::rules::Rules;
use crate::config::{AuthoritySource, Tls};

impl Reader {
    /// The rules are asked too: one of them may intercept where the variable does not.
    pub(super) fn tls(&mut self, rules: &Rules) -> Tls {
        let trust_dir = self.path(TRUST_DIR);
        let state = self.path(STATE);
        let certificate = self.path(CERTIFICATE);
        let key = self.path(KEY);
        let extra_roots = self.path(EXTRA_ROOTS);
        for (name, path) in [(STATE, &state), (CERTIFICATE, &certificate), (KEY, &key), (EXTRA_ROOTS, &extra_roots)] {
            self.refuse_inside(trust_dir.as_deref(), name, path.as_deref());
        }
        if state.is_some() && state == extra_roots {
            self.problems.push(format!("{STATE}: is {EXTRA_ROOTS} too, and would be overwritten"));
        }
        // Without either no client can trust us: each would fail once for nothing.
        let trusted = self.value(TRUST_DIR).is_some() || self.value(CERTIFICATE).is_some();
        let intercept = self.own(INTERCEPT, trusted, "true or false", parse_bool);
        if !trusted && (intercept || rules.ask_for_interception()) {
            self.warnings.push(format!(
                "TLS is intercepted, but neither {TRUST_DIR} nor {CERTIFICATE} is set: clients have no way to trust us"
            ));
        }
        let authority = self.authority(state, certificate, key);
        Tls { intercept, trust_dir, authority, extra_roots }
    }

    fn authority(
        &mut self,
        state: Option<PathBuf>,
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> AuthoritySource {
        let most = 30 * 24 * 3600;
        let overlap = self.own(
            OVERLAP,
            Seconds(Duration::from_secs(3600)),
            "seconds from 0 to 2592000, which are 30 days",
            |text| parse_seconds(text, most).map(Seconds),
        );
        // By the variables: a path that was refused is a problem already.
        let [kept, mounted, with_key] = [STATE, CERTIFICATE, KEY].map(|name| self.value(name).is_some());
        if mounted != with_key {
            let (missing, given) = if mounted { (KEY, CERTIFICATE) } else { (CERTIFICATE, KEY) };
            self.problems.push(format!("{missing}: is needed with {given}"));
        }
        if kept && mounted {
            self.problems.push(format!("{STATE}: {CERTIFICATE} is an authority already; keep one of them"));
        }
        if !mounted && self.value(OVERLAP).is_some() {
            self.warnings.push(format!("{OVERLAP}: does nothing without {CERTIFICATE}"));
        }
        match (state, certificate.zip(key)) {
            (_, Some((certificate, key))) => AuthoritySource::Mounted { certificate, key, overlap: overlap.0 },
            (Some(state), None) => AuthoritySource::State(state),
            (None, None) => AuthoritySource::Memory,
        }
    }

    fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        let path = self.own(name, Shown(None), ABSOLUTE, |text| {
            absolute_path(text).map(|path| Shown(Some(path.display().to_string())))
        });
        path.0.map(PathBuf::from)
    }

    /// The agent reads that folder, and what is there is replaced: it is no place for a key, nor for whom we trust.
    fn refuse_inside(&mut self, trust_dir: Option<&Path>, name: &str, path: Option<&Path>) {
        let (Some(folder), Some(path)) = (trust_dir, path) else { return };
        if path.starts_with(folder) {
            let path = path.display();
            self.problems.push(format!("{name}: {path} is inside {TRUST_DIR}, which the agent reads and we write"));
        }
    }
}

const INTERCEPT: &str = "SIDETRACE_INTERCEPT";
const TRUST_DIR: &str = "SIDETRACE_TRUST_DIR";
const STATE: &str = "SIDETRACE_CA_STATE";
const CERTIFICATE: &str = "SIDETRACE_CA_CERTIFICATE";
const KEY: &str = "SIDETRACE_CA_KEY";
const OVERLAP: &str = "SIDETRACE_CA_OVERLAP";
const EXTRA_ROOTS: &str = "SIDETRACE_EXTRA_ROOTS";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::assembly::{Assembled, Problems, assemble};

    fn with(pairs: &[(&str, &str)]) -> Result<Assembled, Problems> {
        with_rules(pairs, "")
    }

    fn with_rules(pairs: &[(&str, &str)], rules: &str) -> Result<Assembled, Problems> {
        let mut variables: std::collections::BTreeMap<_, _> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        variables.insert("SIDETRACE_CONFIG".into(), "/rules.yaml".into());
        assemble(variables, |path| match path {
            "/rules.yaml" => Ok(rules.to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        })
    }

    fn tls(pairs: &[(&str, &str)]) -> Tls {
        let assembled = with(pairs).unwrap();
        assert!(assembled.warnings.is_empty(), "{:?}", assembled.warnings);
        assembled.config.tls
    }

    #[test]
    fn without_variables_nothing_is_intercepted_and_nothing_written() {
        assert_eq!(tls(&[]), Tls::default());
        let Tls { intercept, trust_dir, authority, extra_roots } = Tls::default();
        assert_eq!((intercept, trust_dir, authority, extra_roots), (false, None, AuthoritySource::Memory, None));
    }

    #[test]
    fn interception_is_on_by_default_where_clients_can_trust_us() {
        let mounted = [(CERTIFICATE, "/ca/tls.crt"), (KEY, "/ca/tls.key")];
        for (variables, expected) in [
            (&[(TRUST_DIR, "/trust")][..], true),
            (&mounted, true),
            (&[(TRUST_DIR, "/trust"), (INTERCEPT, "false")], false),
            (&[(TRUST_DIR, "/trust"), (INTERCEPT, "TRUE")], true),
            (&[(TRUST_DIR, " "), (INTERCEPT, "")], false),
            (&[(STATE, "/run/ca")], false),
            (&[(EXTRA_ROOTS, "/etc/roots.pem")], false),
        ] {
            assert_eq!(tls(variables).intercept, expected, "{variables:?}");
        }
    }

    #[test]
    fn interception_that_no_client_can_trust_warns() {
        let rule = |value| format!("tls: {{intercept: [{{host: a, intercept: {value}}}]}}");
        for (variables, rules, expected) in [
            (&[(INTERCEPT, "true")][..], String::new(), 1),
            (&[], rule("true"), 1),
            (&[], rule("false"), 0),
            (&[(INTERCEPT, "false")], rule("true"), 1),
            (&[(TRUST_DIR, "/trust")], rule("true"), 0),
        ] {
            let warnings = with_rules(variables, &rules).unwrap().warnings;
            assert_eq!(warnings.len(), expected, "{variables:?} {rules}: {warnings:?}");
            assert!(warnings.iter().all(|warning| warning.contains(TRUST_DIR) && warning.contains(CERTIFICATE)));
        }
    }

    #[test]
    fn the_authority_is_ours_or_kept_or_mounted() {
        assert_eq!(
            tls(&[(STATE, "/run//sidetrace/./ca")]).authority,
            AuthoritySource::State("/run/sidetrace/ca".into())
        );
        let mounted = |seconds| AuthoritySource::Mounted {
            certificate: "/ca/tls.crt".into(),
            key: "/ca/tls.key".into(),
            overlap: Duration::from_secs(seconds),
        };
        let mut variables = vec![(CERTIFICATE, "/ca/tls.crt"), (KEY, "/ca/tls.key")];
        assert_eq!(tls(&variables).authority, mounted(3600));
        variables.push((OVERLAP, "2592000"));
        assert_eq!(tls(&variables).authority, mounted(30 * 24 * 3600));
        // One file may hold both.
        assert!(with(&[(CERTIFICATE, "/ca.pem"), (KEY, "/ca.pem")]).is_ok());
        let warnings = with(&[(OVERLAP, "0")]).unwrap().warnings;
        assert_eq!(warnings, ["SIDETRACE_CA_OVERLAP: does nothing without SIDETRACE_CA_CERTIFICATE"]);
    }

    #[test]
    fn every_setting_is_shown_with_its_source() {
        let settings = with(&[(TRUST_DIR, "/trust/"), (STATE, "/run/ca"), (EXTRA_ROOTS, "/r.pem")]).unwrap().settings;
        for (name, value, source) in [
            (INTERCEPT, "true", "default"),
            (TRUST_DIR, "/trust", "environment"),
            (STATE, "/run/ca", "environment"),
            (CERTIFICATE, "", "default"),
            (KEY, "", "default"),
            (OVERLAP, "3600", "default"),
            (EXTRA_ROOTS, "/r.pem", "environment"),
        ] {
            let setting = settings.iter().find(|setting| setting.name == name).unwrap();
            assert_eq!((setting.value.as_str(), setting.source), (value, source), "{name}");
        }
    }

    #[test]
    fn a_bad_value_or_two_that_cannot_go_together_stop_the_start() {
        let path = "is not an absolute path without \"..\"";
        let inside = "is inside SIDETRACE_TRUST_DIR, which the agent reads and we write";
        let long = format!("/{}", "a".repeat(4096));
        let table: [(&[(&str, &str)], String); 20] = [
            (&[(TRUST_DIR, "trust")], format!("{TRUST_DIR}: \"trust\" {path}")),
            (&[(TRUST_DIR, "/")], format!("{TRUST_DIR}: \"/\" {path}")),
            (&[(STATE, "/run/../etc/ca")], format!("{STATE}: \"/run/../etc/ca\" {path}")),
            (&[(STATE, "/run/a\nb")], format!("{STATE}: \"/run/a\\nb\" {path}")),
            (&[(EXTRA_ROOTS, "./roots.pem")], format!("{EXTRA_ROOTS}: \"./roots.pem\" {path}")),
            (&[(EXTRA_ROOTS, &long)], path.into()),
            (&[(CERTIFICATE, "c"), (KEY, "/k")], format!("{CERTIFICATE}: \"c\" {path}")),
            (&[(CERTIFICATE, "/c"), (KEY, "k")], format!("{KEY}: \"k\" {path}")),
            (&[(INTERCEPT, "yes")], format!("{INTERCEPT}: \"yes\" is not true or false")),
            (&[(OVERLAP, "2592001")], format!("{OVERLAP}: \"2592001\" is not seconds from 0 to 2592000")),
            (&[(OVERLAP, "-1")], format!("{OVERLAP}: \"-1\" is not seconds")),
            (&[(OVERLAP, "NaN")], format!("{OVERLAP}: \"NaN\" is not seconds")),
            (&[(CERTIFICATE, "/c")], format!("{KEY}: is needed with {CERTIFICATE}")),
            (&[(KEY, "/k")], format!("{CERTIFICATE}: is needed with {KEY}")),
            (
                &[(STATE, "/s"), (CERTIFICATE, "/c"), (KEY, "/k")],
                format!("{STATE}: {CERTIFICATE} is an authority already; keep one of them"),
            ),
            (&[(TRUST_DIR, "/t"), (STATE, "/t/ca")], format!("{STATE}: /t/ca {inside}")),
            (&[(TRUST_DIR, "/t/"), (STATE, "/t//x/./ca")], format!("{STATE}: /t/x/ca {inside}")),
            (&[(TRUST_DIR, "/t"), (CERTIFICATE, "/c"), (KEY, "/t/k")], format!("{KEY}: /t/k {inside}")),
            (&[(TRUST_DIR, "/t"), (EXTRA_ROOTS, "/t/r")], format!("{EXTRA_ROOTS}: /t/r {inside}")),
            (&[(STATE, "/s"), (EXTRA_ROOTS, "/s")], format!("{STATE}: is {EXTRA_ROOTS} too")),
        ];
        for (variables, expected) in table {
            let problems = with(variables).unwrap_err().0;
            assert!(problems.len() == 1 && problems[0].contains(&expected), "{expected}\n{problems:#?}");
        }
        let problems = with(&[(STATE, "/s"), (CERTIFICATE, "/c")]).unwrap_err().0;
        assert_eq!(problems.len(), 2, "{problems:#?}");
        assert!(with(&[(TRUST_DIR, "/t"), (STATE, "/tmp/ca")]).is_ok(), "a name is not a prefix of letters");
    }
}
