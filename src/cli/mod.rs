//! The command line: a file a subcommand.
//!
//! Shape: arguments in; what people read on standard output, progress and errors on standard error,
//! an exit code that scripts can use.
//!
//! Invariants: exit codes are stable: 0 done, 1 failed while running, 2 wrong arguments, 3 the spec
//! is refused, 4 another start has taken over, 5 the operator's word is awaited; an error is told
//! with all its causes and a remedy.

mod accept;
mod archive;
mod backfill;
mod bar;
mod check;
mod dead_letters;
mod demo;
mod diff;
mod explain;
mod feed;
mod generate;
mod init;
mod load;
mod place;
mod promote;
mod retire;
mod run;
mod schema;
mod serve;
mod show;
mod sources;
mod status;
mod supervise;
mod watch;
mod why;

use std::error::Error;

use clap::{Parser, Subcommand};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::{
    config::ConfigError, engine::EngineError, feed::FeedError, history::HistoryError,
    spec::SpecError,
};

/// Streaming enrichment that corrects history.
///
/// Tributary joins events with documents that change, and keeps views of the result true: when a
/// document changes, every record that it touches is corrected.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed while running, and the error says what stands; 2 wrong arguments; 3 the
spec is refused; 4 another start of the dataflow has taken over: do not start this one again; 5 what
is there does not fit what was written: the error says what the operator is to do or to accept.

A first run, on the sample in data/:
  tributary run dataflows/attendance.toml --once --show \\
    --events data/attendance/events.ndjson --documents data/attendance/people.ndjson \\
    --changes data/attendance/changes.ndjson --out out";

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Run>),
    Init(init::Init),
    Feed(feed::Feed),
    Accept(accept::Accept),
    Load(load::Load),
    Status(status::Status),
    Why(why::WhyOf),
    DeadLetters(dead_letters::DeadLetters),
    Archive(archive::Archive),
    Backfill(backfill::Backfill),
    Diff(diff::Diff),
    Promote(promote::Promote),
    Retire(retire::Retire),
    Check(check::Check),
    Explain(explain::Explain),
    Schema(schema::Schema),
    Generate(generate::Generate),
    Demo(demo::Demo),
    Serve(serve::Serve),
}

impl Cli {
    /// Does what the command line asks for; returns the exit code.
    pub fn run(self) -> u8 {
        log_to_standard_error();
        let done = match self.command {
            Command::Run(run) => run.run(),
            Command::Init(init) => init.run(),
            Command::Feed(feed) => feed.run(),
            Command::Accept(accept) => accept.run(),
            Command::Load(load) => load.run(),
            Command::Status(status) => status.run(),
            Command::Why(why) => why.run(),
            Command::DeadLetters(letters) => letters.run(),
            Command::Archive(archive) => archive.run(),
            Command::Backfill(backfill) => backfill.run(),
            Command::Diff(diff) => diff.run(),
            Command::Promote(promote) => promote.run(),
            Command::Retire(retire) => retire.run(),
            Command::Check(check) => check.run(),
            Command::Explain(explain) => explain.run(),
            Command::Schema(schema) => schema.run(),
            Command::Generate(generate) => generate.run(),
            Command::Demo(demo) => demo.run(),
            Command::Serve(serve) => serve.run(),
        };
        match done {
            Ok(()) => 0,
            Err(failure) => failure.tell(),
        }
    }
}

/// The life of a process, for operators; RUST_LOG=debug says more, =error less.
fn log_to_standard_error() {
    let usual = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    tracing_subscriber::fmt()
        .with_env_filter(usual.from_env_lossy())
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .init();
}

/// Why a command did not do what it was asked for.
#[derive(Debug)]
enum Failure {
    /// It failed while running.
    Failed(Box<dyn Error>),
    /// Another start of the dataflow has taken over.
    Superseded(Box<dyn Error>),
    /// The operator's word or hand is awaited.
    ForOperator(Box<dyn Error>),
    /// It ends with this code, and why was told already.
    Told(u8),
    /// Its arguments contradict each other or the files.
    Arguments(String),
    /// The spec cannot be read, or is wrong.
    Spec(SpecError),
}

impl Failure {
    fn failed(error: impl Error + 'static) -> Failure {
        Failure::Failed(Box::new(error))
    }

    fn engine(error: EngineError) -> Failure {
        match error {
            error if error.is_superseded() => Failure::Superseded(Box::new(error)),
            error if error.is_for_operator() => Failure::ForOperator(Box::new(error)),
            error => Failure::failed(error),
        }
    }

    fn feed(error: feed::Unfed) -> Failure {
        match &error.cause {
            FeedError::Fenced { .. } => Failure::Superseded(Box::new(error)),
            FeedError::Held { .. } | FeedError::OtherSpec { .. } => {
                Failure::ForOperator(Box::new(error))
            }
            _ => Failure::failed(error),
        }
    }

    fn history(error: HistoryError) -> Failure {
        match error {
            error @ (HistoryError::Partitions { .. }
            | HistoryError::NeverSwitched { .. }
            | HistoryError::Shown { .. }
            | HistoryError::NoObject { .. }) => Failure::ForOperator(Box::new(error)),
            error @ HistoryError::NoId { .. } => Failure::Arguments(error.to_string()),
            error => Failure::failed(error),
        }
    }

    fn config(error: ConfigError) -> Failure {
        let cause = error.source().map(|cause| format!("\n  because: {cause}"));
        Failure::Arguments(format!("{error}{}", cause.unwrap_or_default()))
    }

    fn tell(self) -> u8 {
        match self {
            Failure::Failed(error) => tell_with_causes(&*error, 1),
            Failure::Superseded(error) => tell_with_causes(&*error, 4),
            Failure::ForOperator(error) => tell_with_causes(&*error, 5),
            Failure::Told(code) => code,
            Failure::Arguments(what) => {
                tell(&format!("error: {what}"));
                2
            }
            Failure::Spec(SpecError::Wrong(violations)) => {
                tell(&violations.to_string());
                3
            }
            Failure::Spec(error) => tell_with_causes(&error, 3),
        }
    }
}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Failure {
        Failure::Spec(error)
    }
}

fn tell_with_causes(error: &dyn Error, code: u8) -> u8 {
    let mut told = format!("error: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        told.push_str(&format!("\n  because: {inner}"));
        cause = inner.source();
    }
    tell(&told);
    code
}

/// Tells what went wrong; where nobody can be told, the exit code still says it.
fn tell(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What was to be printed could not be.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write to standard output; results that were to be written as files stand all the same"
)]
struct Unprinted(#[source] std::io::Error);

/// Prints to standard output; a reader that went away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::{ErrorKind, Write};
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::failed(Unprinted(error)))
        }
        _ => Ok(()),
    }
}
