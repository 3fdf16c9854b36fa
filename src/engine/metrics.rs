//! Metrics: how a run that follows its inputs does, in numbers.
//!
//! Shape: what workers say of themselves in; the text format of OpenMetrics out, and whether the
//! run is ready.
//!
//! Invariants: no label and no value comes from the data (P11); saying something costs a store.
//! Each metric stands in docs/metrics.md.

mod beside;

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use self::beside::{Archive, Feeds, Loads};
use crate::{
    archive::keeper::Watched,
    dataflow::Met,
    process::{now_ms, resident_bytes},
    source::{Input, PartitionId},
    time::Epoch,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// How far a start is with what an earlier run held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replay {
    /// Which share of it is read.
    pub share: f64,
    /// Offsets a second since the process began.
    pub a_second: f64,
    /// Offsets that are left.
    pub left: u64,
}

impl Replay {
    /// How long the rest takes at that rate.
    pub fn time_left(&self) -> Duration {
        Duration::try_from_secs_f64(self.left as f64 / self.a_second).unwrap_or_default()
    }
}

/// The numbers of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    lines: Counter,
    bytes: Counter,
    updates: Counter,
    dead_letters: Family<ByReason, Counter>,
    copies: Family<ByKind, Counter>,
    records: Family<ByWorker, Gauge>,
    waiting: Family<ByWorker, Gauge>,
    unsealed: Family<ByWorker, Gauge>,
    sealed: Gauge<u64, AtomicU64>,
    owes: Family<ByWorker, Gauge>,
    ready: Family<ByWorker, Gauge>,
    committed: Family<ByWorker, Gauge<u64, AtomicU64>>,
    uncommitted: Family<ByWorker, Gauge<u64, AtomicU64>>,
    commits: Histogram,
    doubts: Counter,
    held: Family<ByInput, Gauge<u64, AtomicU64>>,
    lag: Family<ByInput, Gauge<u64, AtomicU64>>,
    generation: Gauge<u64, AtomicU64>,
    resident: Gauge<u64, AtomicU64>,
    feeds: Feeds,
    loads: Loads,
    archive: Archive,
    replayed: Counter,
    to_replay: Gauge<u64, AtomicU64>,
    backlog: Gauge<u64, AtomicU64>,
    /// When this process began to count, and how long after that each worker was seen last, in ms.
    begun: Instant,
    seen: Vec<AtomicU64>,
    /// How many workers there are, once the run has begun.
    workers: OnceLock<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByInput {
    input: String,
}

impl From<Input> for ByInput {
    fn from(input: Input) -> ByInput {
        let input = match input {
            Input::Events(partition) => format!("events-{}", partition.0),
            Input::Documents => "documents".to_owned(),
            Input::Changes => "changes".to_owned(),
            Input::Reference => "reference".to_owned(),
        };
        ByInput { input }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWorker {
    worker: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFeed {
    feed: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByView {
    view: String,
}

impl Watched for Metrics {
    fn kept(&self, segments: u64, bytes: u64) {
        self.archive.segments.set(segments);
        self.archive.bytes.set(bytes);
        self.archive.kept.set(now_ms() as f64 / 1e3);
    }

    fn holds(&self, partition: u32, offset: u64) {
        let input = ByInput::from(Input::Events(PartitionId(partition)));
        self.archive.held.get_or_create(&input).set(offset);
    }

    fn failed(&self) {
        self.archive.failures.inc();
    }
}

/// How a feed is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedNumbers {
    /// When its system last answered as it should, in seconds since 1970.
    pub answered: u64,
    /// When all was last compared.
    pub compared: u64,
    /// Documents that the log holds of it.
    pub documents: u64,
    /// Documents that are to be written or deleted, and are not yet.
    pub pending: u64,
    /// Documents that were refused.
    pub refused: u64,
    /// Whether its system does not answer as it should.
    pub fails: bool,
    /// Whether it waits for the operator's word.
    pub waits: bool,
}

/// The numbers of one worker.
#[derive(Clone, Debug)]
pub(super) struct WorkerMetrics {
    pub lines: Counter,
    pub bytes: Counter,
    pub updates: Counter,
    pub records: Gauge,
    pub waiting: Gauge,
    pub unsealed: Gauge,
    pub sealed: Gauge<u64, AtomicU64>,
    pub owes: Gauge,
    pub ready: Gauge,
    pub committed: Gauge<u64, AtomicU64>,
    pub uncommitted: Gauge<u64, AtomicU64>,
    pub commits: Histogram,
    pub doubts: Counter,
    pub replayed: Counter,
    pub to_replay: Gauge<u64, AtomicU64>,
    pub backlog: Gauge<u64, AtomicU64>,
    dead_letters: Family<ByReason, Counter>,
    copies: Family<ByKind, Counter>,
    held: Family<ByInput, Gauge<u64, AtomicU64>>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("tributary");
        let (lines, bytes, updates) = (Counter::default(), Counter::default(), Counter::default());
        let dead_letters = Family::<ByReason, Counter>::default();
        let records = Family::<ByWorker, Gauge>::default();
        let (waiting, unsealed) = (Family::default(), Family::default());
        let sealed = Gauge::default();
        registry.register("event_lines", "Event lines read", lines.clone());
        registry.register("event_bytes", "Bytes of event lines read", bytes.clone());
        registry.register("updates", "Updates written, dead letters among them", updates.clone());
        registry.register("dead_letters", "Lines that are no event", dead_letters.clone());
        let copies = Family::default();
        registry.register(
            "copies",
            "Events whose key came by another partition before, and that are not held",
            copies.clone(),
        );
        registry.register("records", "Records held", records.clone());
        registry.register(
            "waiting_corrections",
            "Records that a changed document touches and that are not corrected yet, or that an \
             earlier run may owe and that are not sent again yet",
            waiting.clone(),
        );
        registry.register(
            "unsealed_epochs",
            "Epochs that were cut and not sealed",
            unsealed.clone(),
        );
        registry.register(
            "sealed_epoch",
            "The epoch before which all is written, by its nature milliseconds since 1970; it \
             stands while nothing comes",
            sealed.clone(),
        );
        let (owes, ready) = (Family::default(), Family::default());
        registry.register(
            "owes",
            "Whether records that an earlier run may owe are still to be sent again, 0 or 1",
            owes.clone(),
        );
        registry.register(
            "ready",
            "Whether the worker has read again what an earlier run held, 0 or 1",
            ready.clone(),
        );
        let (committed, uncommitted) = (Family::default(), Family::default());
        registry.register(
            "committed_epoch",
            "The epoch up to which the worker has committed all, by its nature milliseconds since \
             1970",
            committed.clone(),
        );
        registry.register(
            "uncommitted_records",
            "Records that are sealed and not known to be committed",
            uncommitted.clone(),
        );
        let commits = Histogram::new(exponential_buckets(0.002, 2.0, 12));
        let doubts = Counter::default();
        registry.register(
            "commit_seconds",
            "How long transactions took, from their begin to the broker's word",
            commits.clone(),
        );
        registry.register(
            "doubtful_transactions",
            "Transactions whose end was not known and had to be asked for",
            doubts.clone(),
        );
        let (held, lag) = (Family::default(), Family::default());
        registry.register(
            "held_offset",
            "Up to where an input is held by what is committed",
            held.clone(),
        );
        registry.register(
            "lag",
            "Offsets between what is held of an input and its end, looked at every 5 s; a \
             transaction's end is an offset too, so 1 may stay",
            lag.clone(),
        );
        let (generation, resident) = (Gauge::default(), Gauge::default());
        registry.register("generation", "Which start of the dataflow this is", generation.clone());
        registry.register("resident_bytes", "Memory that this process holds", resident.clone());
        let feeds = Feeds::register(&mut registry);
        let loads = Loads::register(&mut registry);
        let archive = Archive::register(&mut registry);
        let (replayed, to_replay) = (Counter::default(), Gauge::default());
        registry.register(
            "read_offsets",
            "Offsets of the events that were read since the process began, those of ends of \
             transactions among them",
            replayed.clone(),
        );
        registry.register(
            "replay_offsets",
            "How many of them an earlier run held: a start reads these first",
            to_replay.clone(),
        );
        let backlog = Gauge::default();
        registry.register(
            "backlog_offsets",
            "How many offsets the events had when the process began: those of an earlier run, and \
             what had come since then",
            backlog.clone(),
        );
        Metrics {
            registry,
            lines,
            bytes,
            updates,
            dead_letters,
            copies,
            records,
            waiting,
            unsealed,
            sealed,
            owes,
            ready,
            committed,
            uncommitted,
            commits,
            doubts,
            held,
            lag,
            generation,
            resident,
            feeds,
            loads,
            archive,
            replayed,
            to_replay,
            backlog,
            begun: Instant::now(),
            seen: (0..super::WORKERS_MAX).map(|_| AtomicU64::new(0)).collect(),
            workers: OnceLock::new(),
        }
    }
}

impl Metrics {
    /// All numbers, as a scraper reads them.
    pub fn text(&self) -> String {
        self.resident.set(resident_bytes());
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("writing to memory");
        out
    }

    /// Event lines read so far.
    pub fn lines(&self) -> u64 {
        self.lines.get()
    }

    /// Updates written so far.
    pub fn updates(&self) -> u64 {
        self.updates.get()
    }

    /// Records that wait for corrections, of the first workers of this process, so many.
    pub fn waiting(&self, workers: usize) -> u64 {
        let of = |worker| self.waiting.get_or_create(&ByWorker { worker }).get() as u64;
        (0..workers).map(of).sum()
    }

    /// So many workers begin.
    pub(super) fn begin(&self, workers: usize) {
        (0..workers).for_each(|worker| self.see(worker));
        self.workers.get_or_init(|| workers);
    }

    /// A run over Kafka was led.
    pub(super) fn led(&self, generation: u64) {
        self.generation.set(generation);
    }

    /// Which start is in force here; 0 before one is.
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// How a feed is that runs inside.
    pub fn feed(&self, source: &str, numbers: FeedNumbers) {
        let (feeds, by) = (&self.feeds, ByFeed { feed: source.to_owned() });
        feeds.answered.get_or_create(&by).set(numbers.answered);
        feeds.compared.get_or_create(&by).set(numbers.compared);
        feeds.documents.get_or_create(&by).set(numbers.documents);
        feeds.pending.get_or_create(&by).set(numbers.pending);
        feeds.refused.get_or_create(&by).set(numbers.refused);
        feeds.fails.get_or_create(&by).set(numbers.fails.into());
        feeds.waits.get_or_create(&by).set(numbers.waits.into());
    }

    /// How far a loader is with a view that runs inside; whether it fails.
    pub fn load(&self, view: &str, rows: u64, frontier: Epoch, refused: u64, fails: bool) {
        let (loads, by) = (&self.loads, ByView { view: view.to_owned() });
        loads.rows.get_or_create(&by).set(rows);
        loads.frontier.get_or_create(&by).set(frontier as f64 / 1_000.0);
        loads.refused.get_or_create(&by).set(refused);
        loads.fails.get_or_create(&by).set(fails.into());
    }

    /// Where an input ends.
    pub(super) fn ends(&self, input: Input, end: u64) {
        let by = ByInput::from(input);
        // Of inputs that another process reads it says nothing.
        if let Some(held) = self.held.get(&by).map(|held| held.get()) {
            self.lag.get_or_create(&by).set(end.saturating_sub(held));
        }
    }

    /// Whether everything that an earlier run held was read again, so that what comes is new.
    pub fn is_ready(&self) -> bool {
        let is_ready = |worker| self.ready.get_or_create(&ByWorker { worker }).get() == 1;
        self.workers.get().is_some_and(|workers| (0..*workers).all(is_ready))
    }

    /// How far a start is with what an earlier run held, while it reads that.
    pub fn replay(&self) -> Option<Replay> {
        let (total, read) = (self.to_replay.get(), self.replayed.get());
        (total > 0 && !self.is_ready()).then(|| Replay {
            share: (read as f64 / total as f64).min(1.0),
            a_second: read as f64 / self.begun.elapsed().as_secs_f64().max(1e-3),
            left: total.saturating_sub(read),
        })
    }

    /// How far it is with all that the events held when it began, while it reads that; `None` too
    /// before that is known.
    pub fn backlog(&self) -> Option<Replay> {
        let (total, read) = (self.backlog.get(), self.replayed.get());
        let is_read = read >= total;
        (self.workers.get().is_some() && !is_read).then(|| Replay {
            share: (read as f64 / total as f64).min(1.0),
            a_second: read as f64 / self.begun.elapsed().as_secs_f64().max(1e-3),
            left: total.saturating_sub(read),
        })
    }

    /// A worker that has not been seen for so long, and for how long.
    pub fn stuck(&self, patience: Duration) -> Option<(usize, Duration)> {
        let now = self.begun.elapsed();
        let since = |worker: usize| {
            let seen = Duration::from_millis(self.seen[worker].load(Ordering::Relaxed));
            (worker, now.saturating_sub(seen))
        };
        let workers = *self.workers.get()?;
        (0..workers).map(since).find(|(_, since)| *since > patience)
    }

    /// A worker goes on.
    pub(super) fn see(&self, worker: usize) {
        let now = self.begun.elapsed().as_millis() as u64;
        self.seen[worker].store(now, Ordering::Relaxed);
    }

    /// The numbers of one worker, counted within its process.
    pub(super) fn worker(&self, worker: usize) -> WorkerMetrics {
        let by = ByWorker { worker };
        WorkerMetrics {
            lines: self.lines.clone(),
            bytes: self.bytes.clone(),
            updates: self.updates.clone(),
            records: self.records.get_or_create(&by).clone(),
            waiting: self.waiting.get_or_create(&by).clone(),
            unsealed: self.unsealed.get_or_create(&by).clone(),
            sealed: self.sealed.clone(),
            owes: self.owes.get_or_create(&by).clone(),
            ready: self.ready.get_or_create(&by).clone(),
            committed: self.committed.get_or_create(&by).clone(),
            uncommitted: self.uncommitted.get_or_create(&by).clone(),
            commits: self.commits.clone(),
            doubts: self.doubts.clone(),
            dead_letters: self.dead_letters.clone(),
            copies: self.copies.clone(),
            held: self.held.clone(),
            replayed: self.replayed.clone(),
            to_replay: self.to_replay.clone(),
            backlog: self.backlog.clone(),
        }
    }
}

impl WorkerMetrics {
    /// Up to where an input is held.
    pub(super) fn holds(&self, input: Input, offset: u64) {
        self.held.get_or_create(&input.into()).set(offset);
    }

    /// Events met others with their key that came by another partition.
    pub(super) fn met(&self, met: Met) {
        for (kind, count) in [("equal", met.equal), ("other", met.other)] {
            if count > 0 {
                self.copies.get_or_create(&ByKind { kind }).inc_by(count);
            }
        }
    }

    /// A line was no event.
    pub(super) fn dead_letter(&self, reason: &'static str) {
        self.dead_letters.get_or_create(&ByReason { reason }).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_metric_stands_in_the_docs_and_every_documented_one_is_there() {
        let metrics = Metrics::default();
        // What nobody has said anything of is not shown.
        let worker = metrics.worker(0);
        worker.dead_letter("missing");
        worker.met(Met { equal: 1, other: 1 });
        worker.holds(Input::Reference, 1);
        metrics.ends(Input::Reference, 2);
        metrics.feed("people", FeedNumbers::default());
        metrics.load("latest", 1, 2, 3, false);
        metrics.kept(1, 2);
        Watched::holds(&metrics, 0, 3);
        metrics.failed();
        let text = metrics.text();
        let name = |line: &str| {
            let rest = line.strip_prefix("# HELP tributary_")?;
            rest.split(' ').next().map(str::to_owned)
        };
        let are: BTreeSet<String> = text.lines().filter_map(name).collect();
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        let docs = fs::read_to_string(docs).expect("the page is there");
        let rows = docs.split("| name |").nth(1).expect("it has a table").lines();
        let row = |line: &str| line.strip_prefix("| `")?.split('`').next().map(str::to_owned);
        let told: BTreeSet<String> = rows.filter_map(row).collect();
        assert_eq!(are, told, "left: what there is, right: what docs/metrics.md tells");
    }
}
