//! Where progress is kept: two compacted topics of one partition each, `<dataflow>_lead` and
//! `<dataflow>_progress`. The first also says, under a key of its own, which journal leads
//! (`journal::events`).
//!
//! Shape: records as they stand there, read to the end, out.
//!
//! Invariants: both are read to what was written before the question, open transactions included
//! (`Kafka::read_to_end`), so who fenced a writer first sees all that it ever committed.

use std::collections::BTreeSet;

use super::{Accepted, HoldWord, Lead, Pointer, Progress, RecordError, Recovery, RecoveryError};
use crate::kafka::{Asker, Kafka, KafkaError, SmallRecord, SmallTopic};

/// The topics of a dataflow's progress.
#[derive(Clone, Debug)]
pub struct Store {
    kafka: Kafka,
    lead: String,
    progress: String,
}

/// Why progress cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The brokers failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// What stands there is no record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// What stands there contradicts itself.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

/// The key of the lead record.
pub const LEAD_KEY: &[u8] = b"lead";

/// The key under which it is said which dataflow of a family readers are shown.
pub const POINTER_KEY: &[u8] = b"readers";

/// The key under which a dataflow is asked to hold.
pub const HOLD_KEY: &[u8] = b"hold";

impl Store {
    /// The topics of a dataflow.
    pub fn new(kafka: Kafka, dataflow: &str) -> Store {
        let (lead, progress) = (Store::lead_topic(dataflow), Store::progress_topic(dataflow));
        Store { kafka, lead, progress }
    }

    /// The topic of a dataflow's lead record.
    pub fn lead_topic(dataflow: &str) -> String {
        format!("{dataflow}_lead")
    }

    /// The topic of a dataflow's progress records.
    pub fn progress_topic(dataflow: &str) -> String {
        format!("{dataflow}_progress")
    }

    /// The transactional id of who leads a dataflow's starts.
    pub fn lead_id(dataflow: &str) -> String {
        format!("{dataflow}-lead")
    }

    /// The transactional ids of a worker's two writers, which take turns.
    pub fn writer_ids(dataflow: &str, worker: u32) -> [String; 2] {
        ["", "-odd"].map(|which| format!("{dataflow}-writer-{worker}{which}"))
    }

    /// The lead record in force; `None` before the first start.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn lead(&self) -> Result<Option<Lead>, StoreError> {
        Ok(self.lead_and_hold()?.0)
    }

    /// The same, and where others ask it to hold.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn lead_and_hold(&self) -> Result<(Option<Lead>, Option<HoldWord>), StoreError> {
        self.lead_and_hold_of(&self.kafka.read_to_end(&self.lead, 0)?.0)
    }

    /// The lead record as far as no transaction is open: at once.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn lead_so_far(&self) -> Result<Option<Lead>, StoreError> {
        Ok(self.lead_and_hold_of(&self.kafka.read_so_far(&self.lead, 0)?.0)?.0)
    }

    fn lead_and_hold_of(
        &self,
        records: &[SmallRecord],
    ) -> Result<(Option<Lead>, Option<HoldWord>), StoreError> {
        let newest = |key: &[u8]| {
            let record = records.iter().rfind(|record| record.key == key)?;
            Some((record.offset, record.value.as_deref()?))
        };
        let lead = newest(LEAD_KEY).map(|(offset, value)| Lead::parse(&self.lead, offset, value));
        let hold = newest(HOLD_KEY).and_then(|(_, value)| HoldWord::parse(value));
        Ok((lead.transpose()?, hold))
    }

    /// Which dataflow of the family of this name readers are shown; `None` before they were ever
    /// switched.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn pointer(&self) -> Result<Option<Pointer>, StoreError> {
        match self.is_there()? {
            true => self.pointer_of(self.kafka.read_to_end(&self.lead, 0)?),
            false => Ok(None),
        }
    }

    /// The same as far as no transaction is open: at once.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn pointer_so_far(&self) -> Result<Option<Pointer>, StoreError> {
        match self.is_there()? {
            true => self.pointer_of(self.kafka.read_so_far(&self.lead, 0)?),
            false => Ok(None),
        }
    }

    /// Whether the topic of the lead record is there.
    fn is_there(&self) -> Result<bool, StoreError> {
        Ok(!self.kafka.asker()?.identities(std::slice::from_ref(&self.lead))?.is_empty())
    }

    fn pointer_of(&self, read: SmallTopic) -> Result<Option<Pointer>, StoreError> {
        let records = read.0;
        let newest = records.iter().rfind(|record| record.key == POINTER_KEY);
        let value = newest.and_then(|record| Some((record.offset, record.value.as_deref()?)));
        let parsed = value.map(|(offset, value)| Pointer::parse(&self.lead, offset, value));
        Ok(parsed.transpose()?)
    }

    /// When the newest lead record was written, in ms since 1970, by the brokers' clock; 0 before
    /// the first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn lead_time_ms(&self) -> Result<i64, StoreError> {
        let records = self.kafka.read_to_end(&self.lead, 0)?.0;
        let last = records.iter().rfind(|record| record.key == LEAD_KEY);
        Ok(last.map_or(0, |record| record.time_ms))
    }

    /// Where the topic of the lead record ends: it moves with every start.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn lead_end(&self, asker: &Asker) -> Result<u64, StoreError> {
        Ok(asker.extent(&self.lead, 0)?.1)
    }

    /// All progress records that stand, in the order in which they were written.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn progress(&self) -> Result<Vec<Progress>, StoreError> {
        self.parse(self.kafka.read_to_end(&self.progress, 0)?)
    }

    fn parse(&self, read: SmallTopic) -> Result<Vec<Progress>, StoreError> {
        let parsed = read.0.into_iter().filter_map(|record| {
            let value = record.value?;
            Some(Progress::parse(&self.progress, record.offset, &value))
        });
        Ok(parsed.collect::<Result<_, _>>()?)
    }

    /// Where a start of so many shards begins, given what was accepted to be lost.
    ///
    /// # Errors
    /// When the records cannot be read, or contradict each other.
    pub fn recovery(&self, shards: u16, accepted: &Accepted) -> Result<Recovery, StoreError> {
        Ok(Recovery::of(&self.progress()?, shards, accepted)?)
    }

    /// The same, and the keys of the records on which none rests any more.
    ///
    /// # Errors
    /// As `recovery`.
    pub fn recovery_and_passed(
        &self,
        shards: u16,
        accepted: &Accepted,
    ) -> Result<(Recovery, BTreeSet<String>), StoreError> {
        let records = self.progress()?;
        Ok((Recovery::of(&records, shards, accepted)?, Recovery::passed(&records, shards)))
    }

    /// Where it would begin if all that is open came to nothing: known at once, and no start that
    /// fences whoever writes begins earlier.
    ///
    /// # Errors
    /// As `recovery`.
    pub fn recovery_so_far(
        &self,
        shards: u16,
        accepted: &Accepted,
    ) -> Result<Recovery, StoreError> {
        let so_far = self.parse(self.kafka.read_so_far(&self.progress, 0)?)?;
        Ok(Recovery::of(&so_far, shards, accepted)?)
    }

    /// The brokers.
    pub fn kafka(&self) -> &Kafka {
        &self.kafka
    }
}
