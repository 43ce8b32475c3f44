//! Which variable tells which runtime where our files are. The injector, `sidetrace run`, `sidetrace check --trust` and
//! `docs/trust.md` share this table.

use std::fmt;
use std::path::Path;

/// What the agent's process needs, and nothing more. `SSL_CERT_DIR` is left out on purpose: while it is not set, OpenSSL and Go
/// keep reading the directory of the agent's own image, with the roots that its makers put there.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: "SSL_CERT_FILE",
        file: File::Bundle,
        merge: Merge::Path,
        effect: Effect::Replaces,
        read_by: "OpenSSL and what asks it: Python `ssl` (urllib, urllib3, aiohttp, websockets), Ruby, .NET, curl, uv; also \
                  httpx and httpx2 (openai, anthropic, google-genai, mistralai, mcp), Go, Bun",
    },
    Variable {
        name: "REQUESTS_CA_BUNDLE",
        file: File::Bundle,
        merge: Merge::Path,
        effect: Effect::Replaces,
        read_by: "Python requests, boto3, pip",
    },
    Variable {
        name: "CURL_CA_BUNDLE",
        file: File::Bundle,
        merge: Merge::Path,
        effect: Effect::Replaces,
        read_by: "curl; Python requests",
    },
    Variable {
        name: "AWS_CA_BUNDLE",
        file: File::Bundle,
        merge: Merge::Path,
        effect: Effect::Replaces,
        read_by: "boto3, the AWS CLI",
    },
    Variable {
        name: "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        file: File::Bundle,
        merge: Merge::Path,
        effect: Effect::Replaces,
        read_by: "gRPC for C++, Python (grpcio), Ruby, PHP; @grpc/grpc-js",
    },
    Variable {
        name: "GIT_SSL_CAINFO",
        file: File::Bundle,
        merge: Merge::Path,
        effect: Effect::Replaces,
        read_by: "git",
    },
    Variable {
        name: "NODE_EXTRA_CA_CERTS",
        file: File::Added,
        merge: Merge::Path,
        effect: Effect::Adds,
        read_by: "Node (fetch, https, undici), npm, Bun, Deno",
    },
    Variable { name: "DENO_CERT", file: File::Added, merge: Merge::Path, effect: Effect::Adds, read_by: "Deno" },
    Variable {
        name: "JAVA_TOOL_OPTIONS",
        file: File::Java,
        merge: Merge::JavaOption,
        effect: Effect::Replaces,
        read_by: "Java 8 and later; it says so on stderr",
    },
];

/// One variable of the agent's environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// How it is called.
    pub name: &'static str,
    /// What it points to.
    pub file: File,
    /// How its value is made, and what becomes of one that is there already.
    pub merge: Merge,
    /// What becomes of the roots that the runtime has without it.
    pub effect: Effect,
    /// The runtimes and libraries that read it.
    pub read_by: &'static str,
}

/// What [`super::write`] puts into the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// Public roots, extra ones and ours.
    Bundle,
    /// Extra roots and ours, for who adds them to public roots of its own.
    Added,
    /// Ours alone.
    Ours,
    /// The bundle, as Java reads it.
    Java,
    /// The bundle, as a directory that OpenSSL looks names up in.
    Hashed,
}

/// How a value is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The path alone. A value that somebody set stays: it may be a file with roots that we do not know.
    Path,
    /// `-Djavax.net.ssl.trustStore=` and the path, behind the options that are there. A trust store named there stays.
    ///
    /// Neither type nor password: every JDK finds the type out, the store has no password, and both would also be taken for a
    /// store that the program names itself on its command line.
    JavaOption,
}

/// What becomes of the roots that the runtime has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// They count no more; the file has to bring public roots.
    Replaces,
    /// They stay.
    Adds,
}

/// All variables for this folder, for a process that has none of them yet.
pub fn variables(folder: &Path) -> Vec<(&'static str, String)> {
    VARIABLES.iter().filter_map(|variable| Some((variable.name, variable.value(folder, None)?))).collect()
}

impl Variable {
    /// The value to set in a process whose environment has `current`, empty being the same as none. `None`: what is there has
    /// to stay as it is.
    pub fn value(&self, folder: &Path, current: Option<&str>) -> Option<String> {
        let path = folder.join(self.file.name()).display().to_string();
        let current = current.map(str::trim).filter(|current| !current.is_empty());
        match (self.merge, current) {
            (Merge::Path, None) => Some(path),
            (Merge::Path, Some(_)) => None,
            (Merge::JavaOption, None) => Some(java_option(&path)),
            (Merge::JavaOption, Some(options)) if options.contains(JAVA_TRUST_STORE) => None,
            (Merge::JavaOption, Some(options)) => Some(format!("{options} {}", java_option(&path))),
        }
    }

    /// Whether a value makes its runtimes read this folder's file.
    pub fn points_to(&self, folder: &Path, value: &str) -> bool {
        let path = folder.join(self.file.name());
        match self.merge {
            Merge::Path => Path::new(value.trim()) == path,
            Merge::JavaOption => value.contains(&java_option(&path.display().to_string())),
        }
    }
}

impl File {
    /// Its name in the folder.
    pub const fn name(self) -> &'static str {
        match self {
            File::Bundle => "bundle.pem",
            File::Added => "added.pem",
            File::Ours => "ca.pem",
            File::Java => "truststore.p12",
            // No name that a directory of the system has: what is stale in it is removed.
            File::Hashed => "hashed",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Effect::Replaces => "replaces",
            Effect::Adds => "adds",
        })
    }
}

/// The launcher splits the variable at white space, but not between quotes.
fn java_option(path: &str) -> String {
    let quote = if path.contains(char::is_whitespace) { "\"" } else { "" };
    format!("{quote}{JAVA_TRUST_STORE}{path}{quote}")
}

const JAVA_TRUST_STORE: &str = "-Djavax.net.ssl.trustStore=";

#[cfg(test)]
mod tests {
    use super::*;

    fn java() -> &'static Variable {
        VARIABLES.iter().find(|variable| variable.merge == Merge::JavaOption).unwrap()
    }

    #[test]
    fn the_document_shows_the_table() {
        let document = include_str!("../../docs/trust.md");
        let mut table =
            String::from("| variable | value | the runtime's own roots | read by |\n| --- | --- | --- | --- |\n");
        for variable in VARIABLES {
            let value = variable.value(Path::new("DIR"), None).unwrap();
            table += &format!("| `{}` | `{value}` | {} | {} |\n", variable.name, variable.effect, variable.read_by);
        }
        assert!(document.contains(&table), "docs/trust.md must have this table:\n\n{table}");
    }

    #[test]
    fn what_somebody_set_stays() {
        let folder = Path::new("/t");
        for variable in VARIABLES.iter().filter(|variable| variable.merge == Merge::Path) {
            assert_eq!(variable.value(folder, Some("/own.pem")), None);
            assert!(variable.value(folder, Some(" ")).is_some());
        }
        let set = |current| java().value(folder, current);
        let ours = "-Djavax.net.ssl.trustStore=/t/truststore.p12";
        assert_eq!(set(None).unwrap(), ours);
        assert_eq!(set(Some("-Xmx1g")).unwrap(), format!("-Xmx1g {ours}"));
        assert_eq!(set(Some("-Djavax.net.ssl.trustStore=/own.jks")), None);
        assert_eq!(set(Some(ours)), None);
    }

    #[test]
    fn a_value_tells_which_folder_it_points_to() {
        let (ours, other) = (Path::new("/my trust"), Path::new("/other"));
        for variable in VARIABLES {
            let value = variable.value(ours, None).unwrap();
            assert!(variable.points_to(ours, &value) && !variable.points_to(other, &value), "{value}");
        }
        assert!(java().points_to(ours, &java().value(ours, Some("-Xmx1g")).unwrap()));
    }
}
