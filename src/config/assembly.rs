//! Environment and one file of rules -> [`Config`]: the only reader of the environment. All problems at once, and where each
//! value came from.
//!
//! `OTEL_*` follows the OpenTelemetry specification (an empty value is unset, a bad one warns and the default holds);
//! `SIDETRACE_*` is ours (an unknown name or a bad value stops the start).

mod export;
mod file;
mod genai;
mod inherited;
mod metrics;
mod resource;
mod tls;
mod tracing;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;
use std::mem::take;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use std::{fmt, fs, io};

pub use self::inherited::inherited;
use super::rules::Rules;
use super::{Batch, Config, Log};

/// What was read, what was wrong, and what came from where.
#[derive(Debug)]
pub struct Assembled {
    /// The configuration in force.
    pub config: Config,
    /// Values that were ignored; to be logged.
    pub warnings: Vec<String>,
    /// Every setting as `sidetrace config` prints it.
    pub settings: Vec<Setting>,
}

/// As `sidetrace config` prints it: a line for each setting and each attribute of the resource.
impl fmt::Display for Assembled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.settings.iter().map(|setting| setting.name.len()).max().unwrap_or_default();
        for setting in &self.settings {
            writeln!(f, "{:width$}  {:<11}  {}", setting.name, setting.source, setting.value)?;
        }
        self.config.resource.iter().try_for_each(|attribute| {
            writeln!(f, "{:width$}  {:<11}  {}={}", "(resource)", "in force", attribute.key, attribute.value)
        })
    }
}

/// One setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The variable or the file's key that sets it.
    pub name: Cow<'static, str>,
    /// Its value; credentials hidden.
    pub value: String,
    /// `environment`, `file` or `default`.
    pub source: &'static str,
}

/// Everything that stops the start.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} problem(s)", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

/// Reads this process's environment and what the downward API has put into files.
pub fn from_process() -> Result<Assembled, Problems> {
    assemble(environment(), |path| read_text(Path::new(path)))
}

/// Reads where a sidecar with this environment answers for its health, and nothing else.
pub fn health_port() -> Result<u16, Problems> {
    let mut reader = Reader::of(environment());
    let port = reader.health_port();
    if reader.problems.is_empty() { Ok(port) } else { Err(Problems(reader.problems)) }
}

#[allow(clippy::disallowed_methods, reason = "this is the place")]
fn environment() -> BTreeMap<String, String> {
    let variables = std::env::vars_os();
    variables.map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())).collect()
}

/// Reads the rules file again, and nothing else. The caller keeps what it has if there is a problem.
pub fn reload(path: &Path) -> Result<Rules, Problems> {
    rules(path, read_text(path)).map_err(Problems)
}

/// A rules file's text -> its rules, or all problems, each with the file's name.
fn rules(path: &Path, text: io::Result<String>) -> Result<Rules, Vec<String>> {
    let shown = path.display();
    let text = text.map_err(|error| vec![format!("{shown}: cannot be read: {error}")])?;
    file::parse(&text).map_err(|problems| problems.iter().map(|problem| format!("{shown}: {problem}")).collect())
}

/// A regular file's text, up to a bound: a pipe would hold us up, a large file fill the memory.
fn read_text(path: &Path) -> io::Result<String> {
    let file = fs::File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    if file.take(MAX_FILE + 1).read_to_string(&mut text)? as u64 > MAX_FILE {
        return Err(io::Error::other(format!("larger than {} KiB", MAX_FILE / 1024)));
    }
    Ok(text)
}

/// The pure part: variables and a way to read files.
pub fn assemble(
    variables: BTreeMap<String, String>,
    read_file: impl Fn(&str) -> io::Result<String>,
) -> Result<Assembled, Problems> {
    let mut reader = Reader::of(variables);
    reader.refuse_unknown();
    let outbound_port = reader.own("SIDETRACE_OUTBOUND_PORT", 15101, "a port number", parse_port);
    let inbound_port = reader.own("SIDETRACE_INBOUND_PORT", 15106, "a port number", parse_port);
    let health_port = reader.health_port();
    let uid = reader.own("SIDETRACE_UID", 15100, "a user id", parse);
    let mark = reader.own("SIDETRACE_MARK", Shown(None), "a number from 1 to 4294967295", |text| {
        parse_mark(text).map(|mark| Shown(Some(mark)))
    });
    let workers = reader.own("SIDETRACE_WORKERS", default_workers(), "a number from 1 to 64", |text| {
        parse(text).filter(|workers| (1..=64).contains(workers))
    });
    let seconds = |text: &str| parse_seconds(text, 3600).map(Seconds);
    let accepted = "seconds from 0 to 3600, for example 10 or 0.5";
    let delay = reader.own("SIDETRACE_TERMINATION_DELAY", Seconds(Duration::ZERO), accepted, seconds);
    let drain = reader.own("SIDETRACE_DRAIN_TIMEOUT", Seconds(Duration::from_secs(15)), accepted, seconds);
    let flush = reader.own("SIDETRACE_FLUSH_TIMEOUT", Seconds(Duration::from_secs(10)), accepted, seconds);
    let filter =
        reader.own("SIDETRACE_LOG", "info".to_owned(), "a level, or directives such as sidetrace=debug", |text| {
            tracing_subscriber::EnvFilter::builder().parse(text).is_ok().then(|| text.to_owned())
        });
    let format = reader.own("SIDETRACE_LOG_FORMAT", "text".to_owned(), "text or json", |text| {
        matches!(text, "text" | "json").then(|| text.to_owned())
    });
    let admin_socket = reader.own("SIDETRACE_ADMIN_SOCKET", Shown(None), "an absolute path", |text| {
        text.starts_with('/').then(|| Shown(Some(text.to_owned())))
    });
    let quit_endpoint = reader.own("SIDETRACE_QUIT_ENDPOINT", false, "true or false", parse_bool);
    let accepted = "a number of bytes of at least 1Mi, for example 64Mi";
    let memory_limit = reader
        .own("SIDETRACE_MEMORY_LIMIT", Shown(None), accepted, |text| parse_bytes(text).map(|bytes| Shown(Some(bytes))));
    let ports = [
        ("SIDETRACE_OUTBOUND_PORT", outbound_port),
        ("SIDETRACE_INBOUND_PORT", inbound_port),
        ("SIDETRACE_HEALTH_PORT", health_port),
    ];
    for (index, (name, port)) in ports.into_iter().enumerate() {
        if let Some((taken, _)) = ports.iter().take(index).find(|(_, other)| *other == port) {
            reader.problems.push(format!("{name}: {port} is {taken} too"));
        }
    }
    let own_ports = vec![outbound_port, inbound_port, health_port, 15100, 15107];
    let enabled = !reader.otel(&["OTEL_SDK_DISABLED"], false, "true or false", parse_bool);
    let export = reader.traces_export(&own_ports).filter(|_| enabled);
    let metrics_export = reader.metrics_export(&own_ports).filter(|_| enabled);
    let batch = reader.batch();
    let genai = reader.genai();
    let logs_export = if enabled { reader.logs_export(genai.capture, &own_ports) } else { None };
    let propagators = reader.propagators();
    let sampler = reader.sampler();
    let resource = reader.resource(|path| read_file(path).ok());
    let (rules_file, rules) = reader.rules(&read_file);
    let tls = reader.tls(&rules);
    reader.leave_out_repeats();
    if !reader.problems.is_empty() {
        return Err(Problems(reader.problems));
    }
    let config = Config {
        outbound_port,
        inbound_port,
        health_port,
        admin_socket: admin_socket.0.map(PathBuf::from),
        quit_endpoint,
        memory_limit: memory_limit.0,
        own_ports,
        uid,
        mark: mark.0,
        workers,
        termination_delay: delay.0,
        drain_timeout: drain.0,
        flush_timeout: flush.0,
        log: Log { filter, json: format == "json" },
        tls,
        enabled,
        export,
        metrics_export,
        logs_export,
        batch,
        genai,
        propagators,
        sampler,
        resource,
        rules_file,
        rules,
    };
    Ok(Assembled { config, warnings: reader.warnings, settings: reader.settings })
}

#[derive(Default)]
struct Reader {
    variables: BTreeMap<String, String>,
    problems: Vec<String>,
    warnings: Vec<String>,
    settings: Vec<Setting>,
}

impl Reader {
    fn of(variables: BTreeMap<String, String>) -> Self {
        let ours = |name: &str, value: &str| !(name.starts_with("SIDETRACE_") && is_service_link(name, value));
        let variables = variables.into_iter().filter(|(name, value)| ours(name, value)).collect();
        Self { variables, ..Self::default() }
    }

    fn health_port(&mut self) -> u16 {
        self.own("SIDETRACE_HEALTH_PORT", 15120, "a port number", parse_port)
    }

    /// A variable's value; an empty one is unset.
    fn value(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn setting(&mut self, name: &'static str, value: impl fmt::Display, from_environment: bool) {
        let source = if from_environment { "environment" } else { "default" };
        self.settings.push(Setting { name: name.into(), value: value.to_string(), source });
    }

    fn refuse_unknown(&mut self) {
        let unknown = self.variables.keys().filter(|name| {
            name.starts_with("SIDETRACE_") && !name.starts_with(REDIRECT) && !OWN.contains(&name.as_str())
        });
        self.problems.extend(unknown.map(|name| {
            let nearest =
                OWN.into_iter().max_by_key(|own| name.chars().zip(own.chars()).take_while(|(a, b)| a == b).count());
            format!("{name}: unknown; did you mean {}? `sidetrace config` lists them all", nearest.unwrap_or_default())
        }));
    }

    /// What holds for all signals is read for each of them, and said once.
    fn leave_out_repeats(&mut self) {
        fn once<T: PartialEq>(all: Vec<T>) -> Vec<T> {
            all.into_iter().fold(Vec::new(), |mut kept, next| {
                if !kept.contains(&next) {
                    kept.push(next);
                }
                kept
            })
        }
        self.problems = once(take(&mut self.problems));
        self.warnings = once(take(&mut self.warnings));
        self.settings = once(take(&mut self.settings));
    }

    /// A setting of our own: a bad value is a problem.
    fn own<T: fmt::Display>(
        &mut self,
        name: &'static str,
        default: T,
        accepted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        let Some(text) = self.value(name).map(str::to_owned) else {
            self.setting(name, &default, false);
            return default;
        };
        match parse(&text) {
            Some(value) => {
                self.setting(name, &value, true);
                value
            }
            None => {
                self.problems.push(format!("{name}: {text:?} is not {accepted}"));
                default
            }
        }
    }

    /// A setting of OpenTelemetry's: a bad value is a warning.
    fn otel<T: fmt::Display>(
        &mut self,
        names: &[&'static str],
        default: T,
        accepted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        for &name in names {
            let Some(text) = self.value(name).map(str::to_owned) else { continue };
            if let Some(value) = parse(&text) {
                self.setting(name, &value, true);
                return value;
            }
            self.warnings.push(format!("{name}: {text:?} is not {accepted}; the default holds: {default}"));
        }
        if let Some(name) = names.last() {
            self.setting(name, &default, false);
        }
        default
    }

    fn rules(&mut self, read_file: &impl Fn(&str) -> io::Result<String>) -> (Option<PathBuf>, Rules) {
        let path = self.own("SIDETRACE_CONFIG", Shown(None), "a file", |text| Some(Shown(Some(text.to_owned()))));
        let read = path.0.as_ref().map(|path| rules(Path::new(path), read_file(path)));
        let rules = read.unwrap_or_else(|| Ok(Rules::default())).unwrap_or_else(|problems| {
            self.problems.extend(problems.iter().map(|problem| format!("SIDETRACE_CONFIG: {problem}")));
            Rules::default()
        });
        for (name, value, set) in file::show(&rules) {
            self.settings.push(Setting { name: name.into(), value, source: if set { "file" } else { "default" } });
        }
        (path.0.map(PathBuf::from), rules)
    }

    fn batch(&mut self) -> Batch {
        let millis = |text: &str| parse::<u64>(text).map(Millis);
        let count = |text: &str| parse::<usize>(text).filter(|count| (1..=1_000_000).contains(count));
        let delay = self.otel(&["OTEL_BSP_SCHEDULE_DELAY"], Millis(5000), "a number of milliseconds", millis);
        let queue = self.otel(&["OTEL_BSP_MAX_QUEUE_SIZE"], 2048, "a number of spans from 1 to 1000000", count);
        let size = self.otel(&["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"], 512, "a number of spans from 1 to 1000000", count);
        Batch { schedule_delay: delay.into(), max_queue_size: queue, max_export_batch_size: size.min(queue) }
    }
}

/// Kubernetes adds `<SERVICE>_PORT=tcp://…` and its like for every Service of the namespace; one may be called sidetrace.
fn is_service_link(name: &str, value: &str) -> bool {
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"))
}

fn parse<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn parse_port(text: &str) -> Option<u16> {
    parse(text).filter(|port| *port != 0)
}

/// Decimal, or hexadecimal behind 0x, as iptables takes it; a mask behind a slash is iptables' alone.
fn parse_mark(text: &str) -> Option<u32> {
    let text = text.split('/').next()?;
    let mark = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => parse(text),
    };
    mark.filter(|mark| *mark != 0)
}

fn parse_seconds(text: &str, most: u32) -> Option<Duration> {
    let seconds: f64 = parse(text)?;
    (0.0..=f64::from(most)).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// Of a file or a folder, without double slashes and the like. `..` is refused: whether one path is inside another has to be
/// seen by their names.
fn absolute_path(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let named =
        path.is_absolute() && path.file_name().is_some() && !path.components().any(|part| part == Component::ParentDir);
    (named && text.len() <= MAX_PATH && !text.contains(char::is_control)).then(|| path.components().collect())
}

/// As Kubernetes writes quantities of memory, whole numbers only.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match text.strip_prefix(digits)? {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    parse::<u64>(digits)?.checked_mul(unit).filter(|bytes| *bytes >= 1 << 20)
}

/// The processors that we may use: those of our affinity mask, or fewer by `cpu.max` of our control group and of those
/// above it, rounded down, which the standard library looks up in both versions.
fn default_workers() -> usize {
    workers_for(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

/// One is left to the agent; the pipeline has a thread of its own.
fn workers_for(processors: usize) -> usize {
    processors.saturating_sub(1).clamp(1, 4)
}

struct Shown<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |value| value.fmt(f))
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_secs_f64().fmt(f)
    }
}

struct Millis(u64);

impl From<Millis> for Duration {
    fn from(millis: Millis) -> Self {
        Duration::from_millis(millis.0)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The most that a file of ours may hold.
const MAX_FILE: u64 = 1 << 20;
/// The longest path that Linux takes.
const MAX_PATH: usize = 4095;
/// What [`absolute_path`] accepts.
const ABSOLUTE: &str = "an absolute path without \"..\"";
/// Read by `iptables/init.sh`, which may share the environment of `sidetrace check`.
const REDIRECT: &str = "SIDETRACE_REDIRECT_";
const OWN: [&str; 32] = [
    "SIDETRACE_CONFIG",
    "SIDETRACE_GENAI_METRICS",
    "SIDETRACE_OUTBOUND_PORT",
    "SIDETRACE_INBOUND_PORT",
    "SIDETRACE_HEALTH_PORT",
    "SIDETRACE_ADMIN_SOCKET",
    "SIDETRACE_QUIT_ENDPOINT",
    "SIDETRACE_MEMORY_LIMIT",
    "SIDETRACE_INTERCEPT",
    "SIDETRACE_TRUST_DIR",
    "SIDETRACE_CA_STATE",
    "SIDETRACE_CA_CERTIFICATE",
    "SIDETRACE_CA_KEY",
    "SIDETRACE_CA_OVERLAP",
    "SIDETRACE_EXTRA_ROOTS",
    "SIDETRACE_UID",
    "SIDETRACE_GID",
    "SIDETRACE_MARK",
    "SIDETRACE_WORKERS",
    "SIDETRACE_TERMINATION_DELAY",
    "SIDETRACE_DRAIN_TIMEOUT",
    "SIDETRACE_FLUSH_TIMEOUT",
    "SIDETRACE_EXPORT_TOKEN_FILE",
    "SIDETRACE_CONTENT_MAX_BYTES",
    "SIDETRACE_LOG",
    "SIDETRACE_LOG_FORMAT",
    "SIDETRACE_POD_NAME",
    "SIDETRACE_POD_UID",
    "SIDETRACE_POD_NAMESPACE",
    "SIDETRACE_NODE_NAME",
    "SIDETRACE_CONTAINER_NAME",
    "SIDETRACE_PODINFO",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<Assembled, Problems> {
        let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assemble(variables, |path| {
            (path == "/etc/podinfo/annotations")
                .then(|| {
                    concat!(
                        "kubernetes.io/config.seen=\"2026\"\n",
                        "resource.opentelemetry.io/service.version=\"1.\\\"2\\\"\"\n",
                        "resource.opentelemetry.io/path=\"C:\\\\new\"\n",
                    )
                    .to_owned()
                })
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn attribute(assembled: &Assembled, name: &str) -> Option<String> {
        let found = assembled.config.resource.iter().find(|attribute| attribute.key.as_str() == name)?;
        Some(found.value.to_string())
    }

    #[test]
    fn nothing_configured_works_and_exports_nothing() {
        let assembled = with(&[]).unwrap();
        assert_eq!(assembled.config.export, None);
        assert_eq!((assembled.config.outbound_port, assembled.config.health_port), (15101, 15120));
        assert_eq!(attribute(&assembled, "service.name").unwrap(), "unknown_service");
        assert!(assembled.warnings.is_empty());
        assert!(assembled.settings.iter().all(|setting| setting.source == "default"));
    }

    #[test]
    fn every_problem_of_our_own_settings_is_named_at_once() {
        let problems = with(&[
            ("SIDETRACE_OUTBUOND_PORT", "1"),
            ("SIDETRACE_OUTBOUND_PORT", "70000"),
            ("SIDETRACE_MARK", "0"),
            ("SIDETRACE_LOG_FORMAT", "xml"),
            ("SIDETRACE_DRAIN_TIMEOUT", "-1"),
            ("SIDETRACE_WORKERS", ""),
            ("SIDETRACE_REDIRECT_OUTBOUND_PORTS", "read by the init script"),
            ("SIDETRACE_PORT", "tcp://10.0.0.1:4317"),
            ("SIDETRACE_HEALTH_PORT", "tcp://10.0.0.1:80"),
            ("SIDETRACE_PORT_4317_TCP_ADDR", "10.0.0.1"),
            ("SIDETRACE_SERVICE_HOST", "10.0.0.1"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector:4318"),
        ])
        .unwrap_err();
        let text = problems.to_string();
        for part in
            ["6 problem(s)", "SIDETRACE_OUTBUOND_PORT", "\"70000\"", "SIDETRACE_MARK", "\"xml\"", "\"-1\"", "ftp"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn rules_come_from_the_file_and_its_problems_with_the_others() {
        let with = |text: io::Result<&str>, port: &str| {
            let variables = [("SIDETRACE_CONFIG", "/etc/rules.yaml"), ("SIDETRACE_OUTBOUND_PORT", port)];
            let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            assemble(variables, |path| match (path, &text) {
                ("/etc/rules.yaml", Ok(text)) => Ok((*text).to_owned()),
                ("/etc/rules.yaml", Err(error)) => Err(error.kind().into()),
                _ => Err(io::ErrorKind::NotFound.into()),
            })
        };
        let assembled = with(Ok("query: [page]"), "15101").unwrap();
        assert_eq!((assembled.config.rules.query.len(), assembled.config.rules_file.is_some()), (1, true));
        let setting = assembled.settings.iter().find(|setting| setting.name == "query").unwrap();
        assert_eq!((setting.value.as_str(), setting.source), ("page", "file"));
        let problems = with(Ok("query: [a b]\ncontext: x"), "none").unwrap_err().to_string();
        for part in
            ["3 problem(s)", "\"none\"", "SIDETRACE_CONFIG: /etc/rules.yaml: query[0] (line 1): \"a b\"", "context"]
        {
            assert!(problems.contains(part), "{part} in {problems}");
        }
        let problems = with(Err(io::ErrorKind::NotFound.into()), "15101").unwrap_err().to_string();
        assert!(problems.contains("SIDETRACE_CONFIG: /etc/rules.yaml: cannot be read: "), "{problems}");
    }

    #[test]
    fn only_a_regular_file_of_bounded_size_is_read() {
        let folder = std::env::temp_dir().join(format!("sidetrace-files-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("rules.yaml");
        let most = usize::try_from(MAX_FILE).unwrap();
        fs::write(&file, "#".repeat(most)).unwrap();
        assert_eq!(reload(&file), Ok(Rules::default()));
        let problem = |path: &Path| reload(path).unwrap_err().to_string();
        fs::write(&file, "#".repeat(most + 1)).unwrap();
        assert!(problem(&file).contains("larger than 1024 KiB"), "{}", problem(&file));
        fs::write(&file, b"query: [\xff]").unwrap();
        assert!(problem(&file).contains("UTF-8"), "{}", problem(&file));
        assert!(problem(&folder).contains("not a regular file"), "{}", problem(&folder));
        let pipe = folder.join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(problem(&pipe).contains("not a regular file"), "{}", problem(&pipe));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_bad_value_of_opentelemetrys_warns_and_the_default_holds() {
        let assembled = with(&[
            ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=1,b"),
        ])
        .unwrap();
        assert_eq!(assembled.warnings.len(), 3, "{:?}", assembled.warnings);
        let batch = assembled.config.batch;
        assert_eq!(batch.schedule_delay, Duration::from_secs(5));
        assert_eq!((batch.max_queue_size, batch.max_export_batch_size), (100, 100));
        assert_eq!(attribute(&assembled, "a"), None);
    }

    #[test]
    fn memory_is_written_as_kubernetes_writes_it() {
        for (text, bytes) in [
            ("1048576", Some(1 << 20)),
            ("64Mi", Some(64 << 20)),
            ("2Gi", Some(2 << 30)),
            ("2048Ki", Some(2 << 20)),
            ("100M", Some(100_000_000)),
            ("1000k", None),
            ("1Ki", None),
            ("64mi", None),
            ("64 Mi", None),
            ("Mi", None),
            ("-64Mi", None),
            ("1.5Gi", None),
            ("99999999999999Gi", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
        let limit = |text| with(&[("SIDETRACE_MEMORY_LIMIT", text)]).map(|assembled| assembled.config.memory_limit);
        assert_eq!(limit("64Mi").unwrap(), Some(64 << 20));
        assert!(limit("none").unwrap_err().0[0].contains("SIDETRACE_MEMORY_LIMIT"));
    }

    #[test]
    fn nothing_can_be_changed_from_outside_unless_asked_for() {
        let config = with(&[]).unwrap().config;
        assert_eq!((config.admin_socket, config.quit_endpoint, config.memory_limit), (None, false, None));
        let problems = with(&[("SIDETRACE_ADMIN_SOCKET", "admin.sock"), ("SIDETRACE_QUIT_ENDPOINT", "yes")]);
        assert_eq!(problems.unwrap_err().0.len(), 2);
    }

    #[test]
    fn one_processor_is_left_to_the_agent() {
        for (processors, workers) in [(1, 1), (2, 1), (3, 2), (5, 4), (64, 4)] {
            assert_eq!(workers_for(processors), workers);
        }
    }

    #[test]
    fn the_resource_is_what_the_user_says_before_what_kubernetes_says() {
        let kubernetes = [
            ("SIDETRACE_POD_NAME", "agent-7d4b"),
            ("SIDETRACE_POD_NAMESPACE", "prod"),
            ("SIDETRACE_CONTAINER_NAME", "agent"),
        ];
        let assembled = with(&kubernetes).unwrap();
        assert_eq!(attribute(&assembled, "service.name").unwrap(), "agent-7d4b");
        assert_eq!(attribute(&assembled, "service.namespace").unwrap(), "prod");
        assert_eq!(attribute(&assembled, "service.instance.id").unwrap(), "prod.agent-7d4b.agent");
        assert_eq!(attribute(&assembled, "service.version").unwrap(), "1.\"2\"");
        assert_eq!(attribute(&assembled, "path").unwrap(), "C:\\new");
        let mut all = kubernetes.to_vec();
        all.push((
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=ours,k8s.pod.name=named%2Cso, deployment.environment.name = test",
        ));
        let assembled = with(&all).unwrap();
        assert_eq!(attribute(&assembled, "service.name").unwrap(), "ours");
        assert_eq!(attribute(&assembled, "k8s.pod.name").unwrap(), "named,so");
        assert_eq!(attribute(&assembled, "deployment.environment.name").unwrap(), "test");
        all.push(("OTEL_SERVICE_NAME", "wins"));
        assert_eq!(attribute(&with(&all).unwrap(), "service.name").unwrap(), "wins");
    }
}
