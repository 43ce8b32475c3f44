//! argv -> one subcommand -> exit code.

mod check;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tracing::{error, warn};

use crate::config::assembly::{self, Assembled, Problems};
use crate::{app, telemetry};

/// The program. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
pub fn main() -> ExitCode {
    let matches = command().get_matches();
    match matches.subcommand() {
        Some(("check", matches)) if matches.get_flag("health") => health(matches),
        Some(("check", matches)) => with_config(|assembled| {
            let quiet = matches.get_flag("quiet");
            if matches.get_flag("trust") {
                let folder = matches.get_one::<PathBuf>("dir").or(assembled.config.tls.trust_dir.as_ref());
                return check::trust::run(folder.map(PathBuf::as_path), &assembly::inherited(), quiet);
            }
            let ipv6 = matches.get_one::<String>("ipv6").map_or("auto", String::as_str);
            check::run(&assembled.config, ipv6, quiet)
        }),
        Some(("config", _)) => with_config(|assembled| print_config(&assembled)),
        _ => with_config(|assembled| proxy(&assembled)),
    }
}

fn command() -> Command {
    let ipv6 = Arg::new("ipv6")
        .long("ipv6")
        .value_name("WHEN")
        .value_parser(["auto", "on", "off"])
        .default_value("auto")
        .help("Check IPv6 too: auto = where the namespace has an IPv6 default route");
    let quiet = Arg::new("quiet").long("quiet").short('q').action(ArgAction::SetTrue).help("Print only what is wrong");
    let trust = Arg::new("trust")
        .long("trust")
        .action(ArgAction::SetTrue)
        .conflicts_with("ipv6")
        .help("Instead: test which runtimes of this machine trust the sidecar's authority, and say what to set");
    let dir = Arg::new("dir")
        .long("dir")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .requires("trust")
        .help("The folder with the authority's files [default: SIDETRACE_TRUST_DIR]");
    let health = Arg::new("health")
        .long("health")
        .action(ArgAction::SetTrue)
        .conflicts_with_all(["trust", "ipv6"])
        .help("Instead: ask the sidecar of this pod whether it is ready, as an exec probe does");
    let wait = Arg::new("wait")
        .long("wait")
        .value_name("SECONDS")
        .value_parser(value_parser!(u64).range(0..=3600))
        .requires("health")
        .help("Ask until it is, for so long at most [default: once]");
    Command::new("sidetrace")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Distributed tracing for AI agents, without a line of agent code changed")
        .after_help("Settings come from the environment; `sidetrace config` lists them with their values.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("proxy").about("Run the sidecar: proxy, telemetry pipeline, health and metrics"))
        .subcommand(
            Command::new("check")
                .about("Prove that this namespace's traffic is redirected to the sidecar, or say what to do")
                .after_help(
                    "Run it as the agent's user: the sidecar's own user is exempt. Exit code 0 means redirected.\nWith \
                     --trust run it in the agent's environment. Exit code 0 means that all runtimes found trust it.\n\
                     --health works for every user. Exit code 0 means ready, 1 not.",
                )
                .arg(ipv6)
                .arg(quiet)
                .arg(trust)
                .arg(dir)
                .arg(health)
                .arg(wait),
        )
        .subcommand(Command::new("config").about("Print the configuration in force, and where each value came from"))
}

/// Needs one setting: a rules file that was changed badly must not make a sidecar look ill that goes on with the old one.
fn health(matches: &ArgMatches) -> ExitCode {
    let wait = matches.get_one::<u64>("wait").copied().unwrap_or_default();
    match assembly::health_port() {
        Ok(port) => check::health::run(port, Duration::from_secs(wait), matches.get_flag("quiet")),
        Err(problems) => refuse(&problems),
    }
}

fn with_config(run: impl FnOnce(Assembled) -> ExitCode) -> ExitCode {
    match assembly::from_process() {
        Ok(assembled) => run(assembled),
        Err(problems) => refuse(&problems),
    }
}

fn refuse(problems: &Problems) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "sidetrace: {problems}");
    ExitCode::from(2)
}

fn proxy(assembled: &Assembled) -> ExitCode {
    let log = telemetry::start_log(&assembled.config.log.filter, assembled.config.log.json);
    for warning in &assembled.warnings {
        warn!("{warning}");
    }
    match app::run(assembled, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(%error, "stopped");
            ExitCode::FAILURE
        }
    }
}

fn print_config(assembled: &Assembled) -> ExitCode {
    let written = write!(std::io::stdout().lock(), "{assembled}");
    for warning in &assembled.warnings {
        let _ = writeln!(std::io::stderr(), "sidetrace: {warning}");
    }
    // A closed pipe is the reader's choice.
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
