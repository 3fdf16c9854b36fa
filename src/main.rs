//! The program: parses the command line, nothing else.

use std::io::Write;

use clap::Parser;
use tributary::cli::Cli;

/// Many small rows are made and dropped on several threads, which the system's allocator is slow at
/// (an eighth of the work, see docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    #[cfg(feature = "failpoints")]
    let _reads_the_environment = fail::FailScenario::setup();
    let code = Cli::parse().run();
    // Whether anybody takes it or not, there is nothing left to do.
    let _ = std::io::stdout().flush();
    // After a failure threads may stay behind that talk to brokers. An ordinary exit would tidy up
    // under them what they use, such as OpenSSL's, and could end by a signal.
    signal_hook::low_level::exit(code.into());
}
