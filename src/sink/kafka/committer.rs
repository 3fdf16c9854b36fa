//! The committer: a thread that writes one batch after the other, each in its transaction.
//!
//! Shape: finished batches in, one at a time; each comes back empty once it is known to be
//! committed.
//!
//! Two writers take turns. Brokers answer the end of a transaction before they have marked its
//! records, and until that is done they take no other one of the same id, which the client tries
//! anew only after 20 ms. A transaction begins once the one before it is known to be committed, so
//! at any moment at most one is open, and records follow each other as they would with one writer.
//!
//! Invariants: before the first transaction of a writer, made the first time or again, the lead
//! record and the progress of its shards are read, after it has fenced its elder: a greater
//! generation means that this process is superseded; progress that neither was found by the start
//! nor is this worker's own means that somebody else writes here. So a batch is written again
//! only if it is known that its elder was not committed, nor can be.

use std::{
    error::Error,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{Hand, KafkaSinkError, Topics, batch::Batch};
use tracing::{debug, info, warn};

use crate::{
    kafka::{TRANSACTION_PATIENCE, WriteError, Writer, patiently},
    progress::{Accepted, Store},
    spec::{ShardId, Spec},
    time::Epoch,
};

/// How often an idle writer is heard.
const BETWEEN_HEARINGS: Duration = Duration::from_secs(1);

/// Longest that a transaction may take. One that took too long is tried again with twice the time:
/// an epoch is never cut in two, however much it corrects.
const PATIENCE_MAX: Duration = Duration::from_secs(120);

/// The worker's side of the thread.
pub(super) struct Committer {
    batches: mpsc::SyncSender<Batch>,
    ended: mpsc::Receiver<Result<(Batch, Committed), KafkaSinkError>>,
    /// What it is busy with: records and bytes.
    busy: Option<(u64, u64)>,
    spare: Option<Batch>,
}

/// A commit that came to its end.
pub struct Committed {
    /// Everything of the worker's shards up to this epoch is written.
    pub(super) epoch: Epoch,
    /// How long it took, whatever stood in its way.
    pub took: Duration,
    /// How often its outcome was not known.
    pub doubts: u64,
}

type Look = Box<dyn Fn() -> bool + Send>;

impl Committer {
    /// Makes the writers, and begins to wait for batches. `wake` is called when one is committed.
    pub(super) fn start(
        store: Store,
        spec: &Arc<Spec>,
        topics: Arc<Topics>,
        hand: Hand,
        is_to_stop: Look,
        wake: Box<dyn Fn() + Send>,
    ) -> Result<Committer, KafkaSinkError> {
        let own = |shard: &u16| hand.ownership.has(ShardId(*shard));
        let shards = (0..spec.shards).filter(own);
        let mut thread = Thread {
            ids: Store::writer_ids(&spec.name, hand.ownership.worker),
            turn: 0,
            written: shards.map(|s| (s, hand.recovery.epochs[usize::from(s)])).collect(),
            store,
            spec: Arc::clone(spec),
            topics,
            hand,
            is_to_stop,
        };
        let writers = thread.take_over(None, TRANSACTION_PATIENCE)?.0;
        let (batches, to_write) = mpsc::sync_channel::<Batch>(1);
        let (sender, ended) = mpsc::channel();
        let run = move || {
            let mut writers = writers;
            loop {
                let mut batch = match to_write.recv_timeout(BETWEEN_HEARINGS) {
                    Ok(batch) => batch,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        writers.iter().for_each(Writer::hear);
                        continue;
                    }
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                };
                // Nobody listens where the worker has ended.
                match thread.commit(writers, &batch) {
                    Ok((kept, committed)) => {
                        writers = kept;
                        batch.clear();
                        let _ = sender.send(Ok((batch, committed)));
                        wake();
                    }
                    Err(error) => {
                        let _ = sender.send(Err(error));
                        return wake();
                    }
                }
            }
        };
        let named = thread::Builder::new().name("committer".to_owned());
        named.spawn(run).expect("a thread can be started where many were");
        Ok(Committer { batches, ended, busy: None, spare: None })
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    pub(super) fn busy_with(&self) -> (u64, u64) {
        self.busy.unwrap_or_default()
    }

    /// An empty batch, with memory that was used before where there is one.
    pub(super) fn spare(&mut self) -> Batch {
        self.spare.take().unwrap_or_default()
    }

    /// Begins to commit a finished batch; none is under way.
    pub(super) fn begin(&mut self, batch: Batch) {
        self.busy = Some((batch.records(), batch.bytes()));
        // A thread that is gone said why, and that is what is heard next.
        let _ = self.batches.send(batch);
    }

    /// Whether a commit came to its end since this was asked last.
    pub(super) fn ended(&mut self) -> Result<Option<Committed>, KafkaSinkError> {
        match self.ended.try_recv() {
            Ok(Ok((batch, committed))) => {
                self.busy = None;
                self.spare = Some(batch);
                Ok(Some(committed))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(None),
        }
    }
}

/// A worker's writers; they are made, and made anew, together.
type Writers = [Writer; 2];

/// The thread's own side.
struct Thread {
    /// Of its two writers, and whose turn it is.
    ids: [String; 2],
    turn: usize,
    /// Of each shard of this worker, up to which epoch it is written.
    written: Vec<(u16, Epoch)>,
    store: Store,
    spec: Arc<Spec>,
    topics: Arc<Topics>,
    hand: Hand,
    is_to_stop: Look,
}

impl Thread {
    /// Commits a batch, with as many writers as it takes; returns the last ones.
    fn commit(
        &mut self,
        mut writers: Writers,
        batch: &Batch,
    ) -> Result<(Writers, Committed), KafkaSinkError> {
        let (epoch, mut doubts) = (batch.epoch_end(), 0);
        let begun = Instant::now();
        loop {
            let writer = &mut writers[self.turn];
            let tried = Instant::now();
            match writer.write(|send| batch.each(&self.spec, &self.topics, send)) {
                Ok(()) => break,
                Err(WriteError::Hopeless(error)) => return Err(error.into()),
                // One that was fenced may be so by its own heir, or by another start: it is the
                // lead record that says.
                Err(error @ (WriteError::Unknown { .. } | WriteError::Fenced { .. })) => {
                    let cause = error.source().map(ToString::to_string);
                    warn!(writer = writer.id(), epoch, cause, "{error}");
                }
            }
            let patience = match tried.elapsed() < writer.patience() {
                true => writer.patience(),
                false => (2 * writer.patience()).min(PATIENCE_MAX),
            };
            // Both: while brokers are gone for long nobody would hear the other one.
            drop(writers);
            doubts += 1;
            let (heirs, is_there) = self.take_over(Some(epoch), patience)?;
            info!(writer = self.ids[self.turn], epoch, is_there, "resolved a transaction in doubt");
            writers = heirs;
            if is_there {
                break;
            }
        }
        let (records, took) = (batch.records(), begun.elapsed());
        let ms = took.as_millis() as u64;
        debug!(writer = self.ids[self.turn], epoch, records, ms, "committed");
        self.written.iter_mut().for_each(|(_, written)| *written = epoch.max(*written));
        self.turn = 1 - self.turn;
        if writers[0].patience() > TRANSACTION_PATIENCE {
            // What took long is done: one that hangs is to hide what others write no longer.
            drop(writers);
            writers = self.take_over(None, TRANSACTION_PATIENCE)?.0;
        }
        Ok((writers, Committed { epoch, took, doubts }))
    }

    /// Makes the writers, which fences their elders, then reads who leads and what is written;
    /// tells whether `doubtful`, the epoch of a batch whose outcome is not known, is there.
    fn take_over(
        &self,
        doubtful: Option<Epoch>,
        patience: Duration,
    ) -> Result<(Writers, bool), KafkaSinkError> {
        let make = |id| self.patiently(|store| Ok(store.kafka().patient_writer(id, patience)?));
        let writers = [make(&self.ids[0])?, make(&self.ids[1])?];
        let accepted = self.still_leads()?;
        let found = self.patiently(|store| Ok(store.recovery(self.spec.shards, &accepted)?));
        match found.and_then(|found| self.judge(&found.epochs, doubtful)) {
            Ok(is_there) => Ok((writers, is_there)),
            // Another start may have taken over, accepted a loss, and written, in between.
            Err(foreign) => self.still_leads().and(Err(foreign)),
        }
    }

    /// Whether this start is in force; what it accepted.
    fn still_leads(&self) -> Result<Accepted, KafkaSinkError> {
        let lead = self.patiently(|store| Ok(store.lead()?))?;
        let ours = &self.hand.start;
        match lead {
            Some(lead) if lead.id() == *ours => Ok(lead.accepted),
            other => Err(match other.and_then(|lead| ours.superseded_by(&lead)) {
                Some(superseded) => superseded.into(),
                None => KafkaSinkError::NoLead { topic: Store::lead_topic(&self.spec.name) },
            }),
        }
    }

    /// Whether the doubtful batch is there, by what the shards' progress says.
    fn judge(&self, found: &[Epoch], doubtful: Option<Epoch>) -> Result<bool, KafkaSinkError> {
        let mut is_there = doubtful.is_some();
        for (shard, before) in &self.written {
            let (found, before) = (found[usize::from(*shard)], *before);
            let after = doubtful.unwrap_or(0).max(before);
            if found != before && found != after {
                let topic = self.topics.progress.name.clone();
                return Err(KafkaSinkError::Foreign { shard: *shard, found, before, after, topic });
            }
            is_there &= found == after;
        }
        Ok(is_there)
    }

    /// Tries until brokers answer, or the run is to stop.
    fn patiently<T>(
        &self,
        ask: impl Fn(&Store) -> Result<T, KafkaSinkError>,
    ) -> Result<T, KafkaSinkError> {
        let answer = patiently(&self.ids[0], &self.is_to_stop, may_pass, || ask(&self.store));
        // Whatever may pass is asked again, unless it is to stop.
        answer.map_err(|error| if may_pass(&error) { KafkaSinkError::Stopped } else { error })
    }
}

fn may_pass(error: &KafkaSinkError) -> bool {
    use crate::progress::StoreError;
    match error {
        KafkaSinkError::Kafka(error) | KafkaSinkError::Store(StoreError::Kafka(error)) => {
            error.may_pass()
        }
        _ => false,
    }
}
