//! The program: parses the command line, nothing else.

use std::process::ExitCode;

use clap::Parser;
use tributary::cli::Cli;

/// Many small rows are made and dropped on several threads, which the system's allocator is slow at
/// (an eighth of the work, see docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _reads_the_environment = fail::FailScenario::setup();
    Cli::parse().run()
}
