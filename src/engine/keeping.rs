//! The keeper of the archive, beside the dataflow.
//!
//! Shape: a start in; a thread that archives what comes, until the run ends, out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use tracing::warn;

use super::{
    ArchiveRun, BETWEEN_LOOKS, KafkaRun, Metrics, STOP_PATIENCE, archived::Taking, lead::Start,
};
use crate::{archive::keeper, spec::Spec};

/// Keeps the archive, beside the dataflow.
pub(super) struct Keeping {
    end: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// However a run ends, nobody keeps its archive after that.
impl Drop for Keeping {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
    }
}

impl Keeping {
    pub(super) fn begin(
        run: &KafkaRun,
        start: &Start,
        spec: &Arc<Spec>,
        metrics: &Arc<Metrics>,
    ) -> Option<Keeping> {
        let ArchiveRun { store, every, passes_faults } = run.archive.clone()?;
        let sound = start.archive.as_ref().and_then(Taking::sound);
        let events = &start.topics.events;
        let job = keeper::Job {
            kafka: run.kafka.clone(),
            spec: Arc::clone(spec),
            start: start.id.clone(),
            events: keeper::Kept {
                topic: events.name.clone(),
                id: events.id.clone(),
                from: start.begins.events[..events.partitions as usize].to_vec(),
            },
            every,
            sound: passes_faults.then(|| sound.unwrap_or_default()),
        };
        let end = Arc::new(AtomicBool::new(false));
        let (ends, metrics) = (Arc::clone(&end), Arc::clone(metrics));
        let keep = move || {
            let watched: Arc<dyn keeper::Watched> = metrics;
            keeper::keep(&store, &job, &watched, &ends);
        };
        let thread = thread::Builder::new().name("archive".to_owned()).spawn(keep);
        Some(Keeping { end, thread: thread.expect("there is room for a thread") })
    }

    /// Lets it keep what came, and end; one that takes long is not waited for, since the next start
    /// copies that again.
    pub(super) fn finish(self) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let mut looks = STOP_PATIENCE.as_millis() / BETWEEN_LOOKS.as_millis();
        while !self.thread.is_finished() && looks > 0 {
            thread::sleep(BETWEEN_LOOKS);
            looks -= 1;
        }
        if !self.thread.is_finished() {
            warn!("what came last is not archived yet; the next start does so");
        }
    }
}
