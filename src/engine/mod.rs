//! The engine: reads, stamps, steps and hands on, until the inputs have ended.
//!
//! Shape: a job in (a spec, files, workers); what was published out.
//!
//! Invariants: epochs are cut by lines and bytes, never by a clock; a worker is at most
//! `EPOCHS_IN_FLIGHT` ahead of the slowest, so memory in flight is bounded (P9); outputs appear
//! only after every worker came to the end without a fault.
//!
//! Not here: what is computed (`dataflow`), what a line means (`source`, `reference`).
//!
//! In reading order: `worker` (one worker's loop), `flow` (the dataflow as the loop sees it),
//! `capture` (from collections to plain rows).

mod capture;
mod flow;
mod worker;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    reference::{ReferenceError, file::Counts},
    sink::{
        FileShare, Folder, SinkError,
        file::{DEAD_LETTERS, Published, publish},
    },
    source::SourceError,
    spec::Spec,
};

/// Most workers of a process; beyond the cores of any machine, and each costs threads and buffers.
pub const WORKERS_MAX: usize = 64;

/// A run over files, from their begin to their end.
#[derive(Clone, Debug)]
pub struct Job {
    /// What to compute.
    pub spec: Arc<Spec>,
    /// The events, a file a partition.
    pub events: Vec<PathBuf>,
    /// The documents as they stand at the start; none for a dataflow without lookups.
    pub documents: Option<PathBuf>,
    /// What happens to them later.
    pub changes: Option<PathBuf>,
    /// Where the views go.
    pub out: PathBuf,
    /// Number of worker threads, 1 to `WORKERS_MAX`.
    pub workers: usize,
    /// Most event lines that a file gives to one epoch, at least 1. More is faster and holds more
    /// in flight; results do not depend on it.
    pub epoch_lines: u64,
    /// Runs the stock dataflow, for comparison.
    pub stock: bool,
}

/// What a run is doing, told as it goes on; called from several threads.
pub trait Progress: Send + Sync {
    /// So many more bytes of events were read.
    fn read(&self, bytes: u64);
    /// Everything was read and computed; writing so many rows begins.
    fn writing(&self, rows: u64);
    /// One more row was written.
    fn wrote_row(&self);
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Event lines read.
    pub lines: u64,
    /// Bytes of events read.
    pub bytes: u64,
    /// Epochs of the worker that had most.
    pub epochs: u64,
    /// Documents and changes read.
    pub reference: Counts,
    /// What stands in the output folder.
    pub published: Published,
}

/// Why a run ended without outputs.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// An events file failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A documents file failed.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The outputs failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Another worker failed first.
    #[error("stopped because another worker failed")]
    Stopped,
    /// The threads could not be started, or one panicked.
    #[error("the workers ended early: {0}; this is a fault of the engine, please report it")]
    Workers(String),
}

/// The names of the files that a run of `spec` writes.
pub fn output_names(spec: &Spec) -> impl Iterator<Item = String> {
    let views = spec.views.iter().map(|view| format!("{}.ndjson", view.name));
    views.chain([DEAD_LETTERS.to_owned()])
}

/// What all workers of a run share.
struct Shared {
    job: Job,
    progress: Arc<dyn Progress>,
    stop: AtomicBool,
}

/// Runs a job to its end and publishes its views.
///
/// # Errors
/// When an input or the output folder fails; no results of this run stand there then.
pub fn run(job: Job, progress: Arc<dyn Progress>) -> Result<Outcome, EngineError> {
    let folder = Folder::claim(&job.out, output_names(&job.spec))?;
    let spec = Arc::clone(&job.spec);
    let workers = job.workers;
    let shared =
        Arc::new(Shared { job, progress: Arc::clone(&progress), stop: AtomicBool::new(false) });
    let config = timely::Config::process(workers);
    let guards = timely::execute(config, move |worker| worker::run(worker, &shared))
        .map_err(EngineError::Workers)?;
    let ends: Vec<_> = guards.join().into_iter().collect();
    let (mut outcome, mut shares) = (Outcome::default(), Vec::new());
    let mut failed = None;
    for end in ends {
        match end.map_err(EngineError::Workers).and_then(|end| end) {
            Ok(end) => collect(end, &mut outcome, &mut shares),
            Err(EngineError::Stopped) if failed.is_some() => {}
            Err(error) => failed = Some(first_cause(failed, error)),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    progress.writing(shares.iter().map(|share| share.contents.rows()).sum());
    outcome.published = publish(&spec, shares, &folder, &|| progress.wrote_row())?;
    Ok(outcome)
}

fn collect(end: worker::End, outcome: &mut Outcome, shares: &mut Vec<FileShare>) {
    outcome.lines += end.lines;
    outcome.bytes += end.bytes;
    outcome.epochs = outcome.epochs.max(end.epochs);
    outcome.reference.documents += end.reference.documents;
    outcome.reference.changes += end.reference.changes;
    outcome.reference.refused += end.reference.refused;
    shares.push(end.share);
}

/// Of two errors the one that says more: workers that stopped for another's sake know no cause.
fn first_cause(earlier: Option<EngineError>, error: EngineError) -> EngineError {
    match earlier {
        None | Some(EngineError::Stopped) => error,
        Some(earlier) => earlier,
    }
}

/// Tells all workers to stop, unless the worker that holds it came to its end.
struct StopOthers<'a> {
    stop: &'a AtomicBool,
    finished: bool,
}

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}
