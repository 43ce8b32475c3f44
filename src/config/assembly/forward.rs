//! `SIDETRACE_FORWARD_*` -> [`Forward`]. The credential is shown nowhere, not even where it is refused.

use std::fmt;
use std::ops::RangeInclusive;

use super::{Reader, parse_port};
use crate::config::Forward;

impl Reader {
    /// The forward proxy's port, which is ours in any case, and the proxy itself where there is a credential.
    pub(super) fn forward(&mut self) -> (u16, Option<Forward>) {
        let credential = self.value(CREDENTIAL).map(str::to_owned);
        self.setting(CREDENTIAL, credential.as_ref().map_or("", |_| "(hidden)"), credential.is_some());
        let port = self.own(PORT, 15107, "a port number", parse_port);
        let accepted = "a list of ports and ranges, for example 80,443,8000-8999";
        let ports = self.own(DESTINATION_PORTS, Ports(vec![80..=80, 443..=443]), accepted, Ports::parse);
        let Some(credential) = credential else {
            for name in [PORT, DESTINATION_PORTS] {
                if self.value(name).is_some() {
                    self.warnings.push(format!("{name}: does nothing without {CREDENTIAL}"));
                }
            }
            return (port, None);
        };
        if credential.len() < SHORTEST || !credential.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            self.problems.push(format!("{CREDENTIAL}: is not {SHORTEST} or more printable ASCII characters"));
        }
        (port, Some(Forward { port, credential, destination_ports: ports.0 }))
    }
}

struct Ports(Vec<RangeInclusive<u16>>);

impl Ports {
    fn parse(text: &str) -> Option<Self> {
        let range = |member: &str| {
            let (first, last) = member.split_once('-').unwrap_or((member, member));
            let (first, last) = (parse_port(first.trim())?, parse_port(last.trim())?);
            (first <= last).then_some(first..=last)
        };
        text.split(',').map(range).collect::<Option<_>>().map(Self)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

const CREDENTIAL: &str = "SIDETRACE_FORWARD_CREDENTIAL";
const PORT: &str = "SIDETRACE_FORWARD_PORT";
const DESTINATION_PORTS: &str = "SIDETRACE_FORWARD_DESTINATION_PORTS";
/// As long as a random one of 64 bits in hexadecimal digits.
const SHORTEST: usize = 16;

#[cfg(test)]
mod tests {
    use crate::config::assembly::{Assembled, Problems, assemble};

    fn with(pairs: &[(&str, &str)]) -> Result<Assembled, Problems> {
        let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assemble(variables, |_| Err(std::io::ErrorKind::NotFound.into()))
    }

    #[test]
    fn it_is_on_where_there_is_a_credential_and_that_is_shown_nowhere() {
        let off = with(&[("SIDETRACE_FORWARD_PORT", "8080")]).unwrap();
        assert_eq!((off.config.forward.is_none(), off.warnings.len()), (true, 1));
        assert!(off.config.own_ports.contains(&8080) && with(&[]).unwrap().config.own_ports.contains(&15107));
        let on = with(&[("SIDETRACE_FORWARD_CREDENTIAL", "correct horse battery")]).unwrap();
        assert!(!format!("{on}{on:?}").contains("horse"));
        let forward = on.config.forward.unwrap();
        assert_eq!((forward.port, forward.destination_ports), (15107, vec![80..=80, 443..=443]));
        assert_eq!(forward.credential, "correct horse battery");
    }

    #[test]
    fn a_credential_that_could_be_guessed_or_written_into_no_header_is_refused_without_a_word_of_it() {
        for bad in ["horse", "horse0123456789", "horse\n0123456789abcdef", "horse\u{e9}0123456789abcdef"] {
            let problems = with(&[("SIDETRACE_FORWARD_CREDENTIAL", bad)]).unwrap_err().to_string();
            assert!(problems.contains("SIDETRACE_FORWARD_CREDENTIAL") && !problems.contains("horse"), "{problems}");
        }
    }

    #[test]
    fn ports_are_a_list_with_ranges() {
        let credential = ("SIDETRACE_FORWARD_CREDENTIAL", "0123456789abcdef");
        let ports = |text| {
            let assembled = with(&[credential, ("SIDETRACE_FORWARD_DESTINATION_PORTS", text)])?;
            let shown = assembled.settings.iter().find(|setting| setting.name.ends_with("DESTINATION_PORTS")).cloned();
            Ok::<_, Problems>((assembled.config.forward.unwrap().destination_ports, shown.unwrap().value))
        };
        assert_eq!(ports("80, 8000-8999").unwrap(), (vec![80..=80, 8000..=8999], "80,8000-8999".to_owned()));
        for bad in ["80,", "0", "80-79", "-80", "80-", "all", "65536", "1-2-3"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
        let taken = with(&[credential, ("SIDETRACE_FORWARD_PORT", "15120")]).unwrap_err().to_string();
        assert!(taken.contains("SIDETRACE_FORWARD_PORT: 15120 is SIDETRACE_HEALTH_PORT too"), "{taken}");
    }
}
