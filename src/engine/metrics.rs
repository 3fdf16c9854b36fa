//! Metrics: how a run over growing files does, in numbers.
//!
//! Shape: what workers say of themselves in; the text format of OpenMetrics out.
//!
//! Invariants: no label and no value comes from the data (P11); saying something costs a store.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The numbers of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    lines: Counter,
    bytes: Counter,
    updates: Counter,
    dead_letters: Family<ByReason, Counter>,
    records: Family<ByWorker, Gauge>,
    waiting: Family<ByWorker, Gauge>,
    unsealed: Family<ByWorker, Gauge>,
    sealed: Gauge<u64, AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWorker {
    worker: usize,
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
    dead_letters: Family<ByReason, Counter>,
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
        registry.register("records", "Records held", records.clone());
        registry.register(
            "waiting_corrections",
            "Records that a changed document touches and that are not corrected yet",
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
        Metrics {
            registry,
            lines,
            bytes,
            updates,
            dead_letters,
            records,
            waiting,
            unsealed,
            sealed,
        }
    }
}

impl Metrics {
    /// All numbers, as a scraper reads them.
    pub fn text(&self) -> String {
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
            dead_letters: self.dead_letters.clone(),
        }
    }
}

impl WorkerMetrics {
    /// A line was no event.
    pub(super) fn dead_letter(&self, reason: &'static str) {
        self.dead_letters.get_or_create(&ByReason { reason }).inc();
    }
}
