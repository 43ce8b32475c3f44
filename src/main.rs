//! `sidetrace`: see [`sidetrace::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    sidetrace::cli::main()
}
