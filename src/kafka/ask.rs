//! Questions to the brokers: where partitions begin and end, and which topics there are.
//!
//! Shape: names in; offsets and identities, as they are now, out.
//!
//! Invariant: what is asked is read uncommitted: where a partition ends is where the next record
//! comes to stand, whoever writes it.

use std::time::Duration;

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError as ClientError,
};

use super::{
    client::{Kafka, KafkaError, Watch},
    patience::until_answered,
    topic::named,
    topic_id,
};

/// How long one broker is asked where a partition ends, before another one may lead it.
const QUESTION_PATIENCE: Duration = Duration::from_secs(5);

/// Asks the brokers.
pub struct Asker {
    consumer: BaseConsumer<Watch>,
}

impl Kafka {
    /// One who asks the brokers where partitions begin and end, and which topics there are. A
    /// connection costs more than a question: ask all of one.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn asker(&self) -> Result<Asker, KafkaError> {
        let consumer = self.make(&[], &[("isolation.level", "read_uncommitted")])?;
        Ok(Asker { consumer })
    }
}

impl Asker {
    /// The first offset that a partition still has and the one that it gives next, whoever wrote
    /// what is there.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn extent(&self, topic: &str, partition: u32) -> Result<(u64, u64), KafkaError> {
        let asked = watermarks(&self.consumer, topic, partition as i32);
        let (begin, end) = asked.map_err(|error| {
            let tried = format!("ask for the extent of partition {partition} of topic \"{topic}\"");
            self.failed(tried, &error)
        })?;
        self.forget_words();
        self.consumer.context().forget();
        Ok((begin as u64, end as u64))
    }

    /// The first offset of a partition whose record was written at or after a moment, in ms since
    /// 1970, by the time that the record bears; `None` where there is none yet.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn offset_at(
        &self,
        topic: &str,
        partition: u32,
        time_ms: i64,
    ) -> Result<Option<u64>, KafkaError> {
        let mut wanted = TopicPartitionList::new();
        let place = partition as i32;
        let added = wanted.add_partition_offset(topic, place, Offset::Offset(time_ms));
        added.expect("a time is a number");
        let ask = || self.consumer.offsets_for_times(wanted.clone(), QUESTION_PATIENCE);
        let found = until_answered(ask).map_err(|error| {
            let tried = format!("ask for a moment in partition {partition} of topic \"{topic}\"");
            self.failed(tried, &error)
        })?;
        self.forget_words();
        match found.find_partition(topic, place).map(|found| found.offset()) {
            Some(Offset::Offset(offset)) => Ok(Some(offset as u64)),
            _ => Ok(None),
        }
    }

    /// Where a partition ends, if who leads it says so at once.
    pub fn end_now(&self, topic: &str, partition: u32) -> Option<u64> {
        let asked = watermarks_now(&self.consumer, topic, partition as i32);
        self.forget_words();
        self.consumer.context().forget();
        Some(asked.ok()?.1 as u64)
    }

    /// The identity and number of partitions of topics: less than all that is known of them, for
    /// who looks often.
    ///
    /// # Errors
    /// When the brokers cannot be asked.
    pub fn identities(&self, names: &[String]) -> Result<Vec<(String, String, u32)>, KafkaError> {
        let asked = until_answered(|| topic_id::identities(self.consumer.client(), names));
        let found = asked
            .map_err(|error| self.failed(format!("ask for the topics {}", named(names)), &error))?;
        self.forget_words();
        Ok(found.into_iter().map(|t| (t.name, t.id, t.partitions)).collect())
    }

    fn failed(&self, tried: String, error: &ClientError) -> KafkaError {
        self.forget_words();
        KafkaError::failed(tried, error, Some(self.consumer.context()))
    }

    /// Hears what the library has to say, which it keeps until it is heard.
    fn forget_words(&self) {
        self.consumer.poll(Duration::ZERO);
        while self.consumer.context().has_more() {
            self.consumer.poll(Duration::ZERO);
        }
    }
}

/// Where a partition begins and ends, as who asks may see it.
pub(super) fn watermarks(
    consumer: &BaseConsumer<Watch>,
    topic: &str,
    partition: i32,
) -> Result<(i64, i64), ClientError> {
    until_answered(|| watermarks_now(consumer, topic, partition))
}

/// The same, asked once.
fn watermarks_now(
    consumer: &BaseConsumer<Watch>,
    topic: &str,
    partition: i32,
) -> Result<(i64, i64), ClientError> {
    let asked = consumer.fetch_watermarks(topic, partition, QUESTION_PATIENCE);
    if asked.is_err() {
        // Else it would go on asking whoever led when it heard of that last, and that may be gone.
        let _ = consumer.fetch_metadata(Some(topic), QUESTION_PATIENCE);
    }
    asked
}
