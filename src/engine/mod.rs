//! The engine: reads, stamps, steps and hands on, until the inputs have ended.
//!
//! Shape: a job in (a spec, files, workers); views published, or every change in a log, out.
//!
//! Invariants: what a worker has read and not sealed is bounded (P9); views are published only
//! after every worker of every process came to the end without a fault.
//!
//! Not here: what is computed (`dataflow`), what a line means (`source`, `reference`).
//!
//! In reading order: `worker` (what a worker reads), `once` and `follow` (its loop), `flow` (the
//! dataflow as the loop sees it), `capture` (from collections to plain rows); over Kafka `topics`
//! (which there are), `lead` (what a start does first), `loss` (what is gone, and the guard), then
//! `letters` and `status` (commands beside it); `cluster` (several processes), `metrics`.

mod archived;
mod capture;
pub mod cluster;
mod flow;
mod follow;
mod hold;
mod keeping;
mod lead;
mod letters;
mod loss;
pub mod metrics;
mod once;
mod status;
mod topics;
mod views;
mod worker;

use std::{
    num::NonZeroU64,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use crate::{
    archive,
    kafka::Kafka,
    progress::{Store, StoreError},
    reference::{ReferenceError, file::Counts},
    sink::{
        FileShare, Folder, Sink, SinkError, UpdateLog,
        file::{DEAD_LETTERS, Published, publish},
        kafka::KafkaSinkError,
    },
    source::SourceError,
    spec::Spec,
};

pub use crate::{dataflow::Spread, progress::shown_dataflow};
pub use cluster::{Cluster, Connecting};
pub use lead::{Accept, Names, Start, StartError};
pub use letters::{Filter, Letter, Letters, LettersError, Repaired, Replayed, replayed_topic};
pub use metrics::{FeedNumbers, Metrics, Replay};
pub use status::{InputStatus, Rates, Status, Writer as WriterStatus, status};
pub use topics::{TopicPlan, UnfitTopics, make_topics};
pub use views::view_topics;

use cluster::{Connections, HandshakeError, Lost, Shape};
use hold::Hold;
use keeping::Keeping;

/// Most workers of a process; beyond the cores of any machine, and each costs threads and buffers.
pub const WORKERS_MAX: usize = 64;

/// Most processes of a cluster: each talks with each.
pub const PROCESSES_MAX: usize = 64;

/// How long workers may take to stop after one failed or another process was lost: they may wait
/// for a reader of the output that takes nothing.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Between looks at whether they are to stop.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// A run over files.
#[derive(Clone)]
pub struct Job {
    /// What to compute.
    pub spec: Arc<Spec>,
    /// The events, a file a partition.
    pub events: Vec<PathBuf>,
    /// The documents as they stand at the start; none for a dataflow without lookups.
    pub documents: Option<PathBuf>,
    /// What happens to them later.
    pub changes: Option<PathBuf>,
    /// Number of worker threads of this process, 1 to `WORKERS_MAX`.
    pub workers: usize,
    /// Most event lines that a file gives to one epoch, at least 1. More is faster and holds more
    /// in flight; results do not depend on it.
    pub epoch_lines: u64,
    /// The other processes, where there are any.
    pub cluster: Option<Cluster>,
    /// What to do.
    pub work: Work,
}

/// What to do with the files.
#[derive(Clone)]
pub enum Work {
    /// Read them from their begin to their end; what then stands goes to files.
    Once {
        /// Where the views go.
        out: PathBuf,
        /// Runs the stock dataflow, for comparison.
        stock: bool,
    },
    /// Follow them as they grow; every change goes to a log.
    Follow(Following),
}

/// Where what is followed comes from, and where changes go.
#[derive(Clone)]
pub enum Place {
    /// The files of the job; an update log.
    Files(Arc<UpdateLog>),
    /// The files of the job; sinks of the program's own.
    Own(MakeSink),
    /// Topics.
    Kafka(Arc<KafkaRun>),
}

/// Makes the sink of a worker, by its number within the process, on that worker's thread: whoever
/// unparks that thread has it look at once for what came to its inputs.
pub type MakeSink = Arc<dyn Fn(usize) -> Box<dyn Sink> + Send + Sync>;

/// A run over Kafka.
#[derive(Clone, Debug)]
pub struct KafkaRun {
    /// The brokers.
    pub kafka: Kafka,
    /// What the inputs are called there.
    pub names: Names,
    /// What the start may pass over.
    pub accept: Accept,
    /// The shortest time from one commit of a worker to its next. Less makes a record visible
    /// sooner, more makes fewer transactions.
    pub commit_interval: Duration,
    /// Where the inputs are kept beyond what their topics hold.
    pub archive: Option<ArchiveRun>,
    /// Which part of the events is read.
    pub span: Span,
    /// Most events a second, of all workers together; what an earlier run held is read again at any
    /// rate.
    pub rate: Option<NonZeroU64>,
}

/// A part of the events of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first start of a dataflow begins there.
    pub since: Option<Edge>,
    /// Nothing from there on is read, and the run ends once all before is done. Of one process
    /// alone.
    pub until: Option<Edge>,
}

/// Where a part of the events begins or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edge {
    /// By when they were written to their topic, in ms since 1970. What an event says of its own
    /// time does not count.
    Moment(i64),
    /// By partition.
    Offsets(Vec<u64>),
}

impl Edge {
    /// The moment, where it is one.
    pub fn moment(&self) -> Option<i64> {
        match self {
            Edge::Moment(ms) => Some(*ms),
            Edge::Offsets(_) => None,
        }
    }
}

/// The archive of a run.
#[derive(Clone, Debug)]
pub struct ArchiveRun {
    /// Where it lies.
    pub store: Arc<archive::Store>,
    /// How often what came is kept.
    pub every: Option<Duration>,
    /// Whether files that are damaged or gone are passed over at the start, and what they held is
    /// read from the topics.
    pub passes_faults: bool,
}

/// How inputs are followed.
#[derive(Clone)]
pub struct Following {
    /// Where inputs come from and every change goes.
    pub place: Place,
    /// How often an epoch is cut.
    pub tick: Duration,
    /// How large corrections are spread.
    pub spread: Spread,
    /// Set from outside to end the run.
    pub end: Arc<AtomicBool>,
    /// How the run does.
    pub metrics: Arc<Metrics>,
}

/// What a run is doing, told as it goes on; called from several threads.
pub trait Progress: Send + Sync {
    /// So many more bytes of events were read.
    fn read(&self, bytes: u64);
    /// Everything was read and computed; writing so many rows begins.
    fn writing(&self, rows: u64);
    /// One more row was written.
    fn wrote_row(&self);
    /// The processes of a cluster come together.
    fn connecting(&self, how_far: Connecting<'_>);
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
    /// What stands in the output folder; of a run that followed its files nothing.
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
    /// The processes did not come together.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// Another process is gone.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// It could not start over Kafka.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Another worker failed first.
    #[error("stopped because another worker failed")]
    Stopped,
    /// The threads could not be started, or one panicked.
    #[error("the workers ended early: {0}; this is a fault of the engine, please report it")]
    Workers(String),
}

impl EngineError {
    /// Whether it or another process was asked to end before all had begun, and did so.
    pub fn is_end_before_begin(&self) -> bool {
        use HandshakeError::{Ended, Left};
        matches!(self, EngineError::Handshake(Ended | Left { .. }))
    }

    /// Whether another start has taken over, so that this one must not be started again.
    pub fn is_superseded(&self) -> bool {
        matches!(
            self,
            EngineError::Start(StartError::Superseded(_))
                | EngineError::Sink(SinkError::Kafka(KafkaSinkError::Superseded(_)))
        )
    }

    /// Whether it waits for the operator's word or hand: a new start would end the same.
    pub fn is_for_operator(&self) -> bool {
        let of_archive = match self {
            EngineError::Source(error) => error.of_earlier(),
            EngineError::Start(StartError::Archive(error)) => Some(error),
            _ => None,
        };
        if let Some(error) = of_archive {
            return error.is_for_operator();
        }
        matches!(
            self,
            EngineError::Reference(ReferenceError::Lacking { .. })
                | EngineError::Start(
                    StartError::Reference(ReferenceError::Lacking { .. })
                        | StartError::Unfit(_)
                        | StartError::Different(_)
                        | StartError::Partitions { .. }
                        | StartError::FewerPartitions { .. }
                        | StartError::History { .. }
                        | StartError::NoSnapshot { .. }
                        | StartError::NoTopics { .. }
                        | StartError::Loss { .. }
                        | StartError::Losses(_)
                        | StartError::OtherTopic { .. }
                        | StartError::NoProgress { .. }
                        | StartError::NoLead { .. }
                        | StartError::Store(StoreError::Record(_) | StoreError::Recovery(_))
                )
        )
    }
}

/// The names of the files that a run of `spec` writes.
pub fn output_names(spec: &Spec) -> impl Iterator<Item = String> {
    let views = spec.views.iter().map(|view| format!("{}.ndjson", view.name));
    views.chain([DEAD_LETTERS.to_owned()])
}

/// What all workers of a process share.
struct Shared {
    job: Job,
    progress: Arc<dyn Progress>,
    /// Of a run over Kafka, how it was started.
    start: Option<Start>,
    /// Set where a worker failed or another process is gone: nobody goes on.
    stop: Arc<AtomicBool>,
    /// Which workers have done all up to where the run ends by itself: a bit each.
    done: AtomicU64,
    /// Whether it is to stand still, to be compared with another dataflow.
    hold: Arc<Hold>,
}

/// Runs a job to its end: that of its files, whose views are then published, or that for which it
/// is asked.
///
/// After a failure threads may stay behind that wait for other processes or for whoever takes the
/// output; the process is expected to end.
///
/// # Errors
/// When an input, an output or another process fails; no results of this run stand in the output
/// folder then, and a log ends where it ends.
pub fn run(job: Job, progress: Arc<dyn Progress>) -> Result<Outcome, EngineError> {
    let folder = match &job.work {
        Work::Once { out, .. } => Some(Folder::claim(out, output_names(&job.spec))?),
        Work::Follow(_) => None,
    };
    let (spec, workers) = (Arc::clone(&job.spec), job.workers);
    let stop = Arc::new(AtomicBool::new(false));
    let cluster = job.cluster.clone();
    let is_to_end = || match &job.work {
        Work::Follow(follow) => follow.end.load(Ordering::Relaxed),
        Work::Once { .. } => false,
    };
    let mut gathered = match &cluster {
        Some(cluster) => Some(gather(cluster, &job, &progress, &is_to_end)?),
        None => None,
    };
    let start = match &job.work {
        Work::Follow(Following { place: Place::Kafka(run), .. }) => {
            Some(start(run, &job, gathered.as_mut())?)
        }
        _ => None,
    };
    let connected = match gathered {
        Some(gathered) => Some(cluster::connect(gathered, workers, &stop)?),
        None => None,
    };
    let hold = Arc::new(Hold::default());
    let guard = match (&job.work, &start) {
        (Work::Follow(follow @ Following { place: Place::Kafka(run), .. }), Some(start)) => {
            let stop = Arc::clone(&stop);
            let stop = move || stop.store(true, Ordering::Relaxed);
            let store = Store::new(run.kafka.clone(), &spec.name);
            follow.metrics.led(start.id.generation);
            let metrics = Arc::clone(&follow.metrics);
            let guard = loss::Guard::begin(store, start, (metrics, Arc::clone(&hold)), stop);
            Some(guard.map_err(StartError::from)?)
        }
        _ => None,
    };
    if let Work::Follow(follow) = &job.work {
        follow.metrics.begin(workers);
    }
    let keeping = match (&job.work, &start) {
        (Work::Follow(follow @ Following { place: Place::Kafka(run), .. }), Some(start))
            if job.cluster.as_ref().is_none_or(|cluster| cluster.process == 0) =>
        {
            Keeping::begin(run, start, &spec, &follow.metrics)
        }
        _ => None,
    };
    let shared = Arc::new(Shared {
        job,
        progress: Arc::clone(&progress),
        start,
        stop,
        done: AtomicU64::new(0),
        hold,
    });
    let (builders, connections) = match connected {
        Some((builders, connections)) => (builders, Some(connections)),
        None => {
            let local = timely::CommunicationConfig::Process(workers);
            (local.try_build().map_err(EngineError::Workers)?, None)
        }
    };
    let ends = work(builders, &shared, connections.is_some())?;
    let (mut outcome, mut shares) = (Outcome::default(), Vec::new());
    let mut cause = None;
    for end in ends {
        match end {
            Ok(end) => collect(end, &mut outcome, &mut shares),
            Err(error) => cause = Some(first_cause(cause, error)),
        }
    }
    if let Some(error) = guard.as_ref().and_then(loss::Guard::found) {
        return Err(error.into());
    }
    if let Some(lost) = connections.as_ref().and_then(Connections::lost) {
        // The other process may have ended since another start has taken over, and this one must
        // not be started again either.
        return Err(match (cause, guard.as_ref().and_then(loss::Guard::superseded)) {
            (Some(cause), _) if cause.is_superseded() => cause,
            (_, Some(superseded)) => superseded.into(),
            _ => lost.into(),
        });
    }
    if let Some(error) = cause {
        return Err(error);
    }
    if let Some(connections) = connections {
        connections.finish()?;
    }
    if let Some(keeping) = keeping {
        keeping.finish();
    }
    match (folder, &shared.job.work) {
        (Some(folder), _) => {
            progress.writing(shares.iter().map(|share| share.contents.rows()).sum());
            outcome.published = publish(&spec, shares, &folder, &|| progress.wrote_row())?;
        }
        (None, Work::Follow(Following { place: Place::Files(log), .. })) => log.sync()?,
        (None, Work::Follow(_)) => {}
        (None, Work::Once { .. }) => unreachable!("its folder was claimed"),
    }
    Ok(outcome)
}

/// A hash of a list, for people to compare.
fn hash<'t>(parts: impl Iterator<Item = &'t [u8]>) -> String {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for part in parts {
        hasher.update(part);
        hasher.update(b"\n");
    }
    format!("{:016x}", hasher.digest())
}

/// Starts over Kafka: the first process leads, and the others follow.
fn start(
    run: &KafkaRun,
    job: &Job,
    gathered: Option<&mut cluster::Gathered<'_>>,
) -> Result<Start, EngineError> {
    let processes = job.cluster.as_ref().map_or(1, |cluster| cluster.hosts.len());
    let lead = || lead::lead(run, &job.spec, (processes * job.workers) as u32);
    let Some(gathered) = gathered else { return Ok(lead()?) };
    if gathered.is_first() {
        let start = lead()?;
        gathered.tell(&start.word())?;
        return Ok(start);
    }
    let word = gathered.hear()?;
    Ok(lead::follow(run, &job.spec, &word)?)
}

/// Brings this process together with the others of its cluster.
fn gather<'c>(
    cluster: &'c Cluster,
    job: &Job,
    progress: &Arc<dyn Progress>,
    is_to_end: &'c dyn Fn() -> bool,
) -> Result<cluster::Gathered<'c>, HandshakeError> {
    let shape = Shape {
        dataflow: job.spec.name.clone(),
        spec: format!("{:016x}", job.spec.hash),
        events: match &job.work {
            Work::Follow(Following { place: Place::Kafka(run), .. }) => hash(
                [&run.names.events, &run.names.reference].map(|name| name.as_bytes()).into_iter(),
            ),
            _ => hash(job.events.iter().map(|path| path.as_os_str().as_encoded_bytes())),
        },
        reference: [job.documents.is_some(), job.changes.is_some()],
        hosts: hash(cluster.hosts.iter().map(String::as_bytes)),
        stock: matches!(job.work, Work::Once { stock: true, .. }),
        processes: cluster.hosts.len(),
        workers: job.workers,
        once: matches!(job.work, Work::Once { .. }),
    };
    let told = |how_far: Connecting<'_>| progress.connecting(how_far);
    cluster::gather(cluster, &shape, &told, is_to_end)
}

/// Runs the workers of this process; returns how each ended.
fn work(
    (builders, others): cluster::Builders,
    shared: &Arc<Shared>,
    in_cluster: bool,
) -> Result<Vec<Result<worker::End, EngineError>>, EngineError> {
    let workers = builders.len();
    let (sender, ends) = mpsc::channel();
    let (shared, stop) = (Arc::clone(shared), Arc::clone(&shared.stop));
    let config = timely::WorkerConfig::default();
    let guards = timely::execute::execute_from(builders, others, config, move |worker| {
        let run = AssertUnwindSafe(|| worker::run(worker, &shared));
        let panicked = |_| Err(EngineError::Workers("one panicked".to_owned()));
        let end = catch_unwind(run).unwrap_or_else(panicked);
        let is_failed = end.is_err();
        // Nobody listens where another failed and this one took too long.
        let _ = sender.send(end);
        if is_failed && in_cluster {
            // Its connections must not end as if all were well: they end with the process.
            loop {
                std::thread::park();
            }
        }
    });
    let guards = guards.map_err(EngineError::Workers)?;
    let mut ended = Vec::with_capacity(workers);
    let mut looks_left = STOP_PATIENCE.as_millis() / BETWEEN_LOOKS.as_millis();
    while ended.len() < workers && looks_left > 0 {
        match ends.recv_timeout(BETWEEN_LOOKS) {
            Ok(end) => ended.push(end),
            Err(_) if stop.load(Ordering::Relaxed) => looks_left -= 1,
            Err(_) => {}
        }
    }
    let is_failed = ended.iter().any(Result::is_err);
    match is_failed && in_cluster || ended.len() < workers {
        true => std::mem::forget(guards),
        false => drop(guards),
    }
    ended.resize_with(workers, || Err(EngineError::Stopped));
    Ok(ended)
}

fn collect(end: worker::End, outcome: &mut Outcome, shares: &mut Vec<FileShare>) {
    outcome.lines += end.lines;
    outcome.bytes += end.bytes;
    outcome.epochs = outcome.epochs.max(end.epochs);
    outcome.reference.documents += end.reference.documents;
    outcome.reference.changes += end.reference.changes;
    outcome.reference.refused += end.reference.refused;
    shares.extend(end.share);
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
