//! Reading: partitions as they grow, and small topics to their end.
//!
//! Shape: topics, partitions and offsets in; records with their offsets, keys, values and times
//! out, in the partition's order.
//!
//! Invariants: only committed records are seen (`read_committed`); nobody but who asks says where
//! to read: an offset that is not there is an error, never a jump; a partition that nobody asks for
//! records is not fetched beyond a stated number of bytes.
//!
//! Not here: what a record means.

use std::{
    cell::Cell,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, base_consumer::PartitionQueue},
    error::{KafkaError as ClientError, RDKafkaErrorCode as Code},
    message::{BorrowedMessage, Headers},
};

use super::{
    ask::watermarks,
    client::{ANSWER_PATIENCE, Kafka, KafkaError, Watch},
};

/// How much of a partition is fetched ahead of who reads it, in KiB; one batch of records more may
/// come on top.
const FETCHED_AHEAD_KIB: &str = "8192";

/// How long a broker holds a request while nothing comes. A record that comes ends it at once.
const LONGEST_FETCH_MS: &str = "500";

/// The same where a partition is read to its end, which is told by a request that brings nothing.
const END_FETCH_MS: &str = "5";

/// How long fetching rests after what is fetched ahead is enough, in ms.
const FETCH_REST_MS: &str = "5";

/// Between words of the library how far it is with what is read to its end, in ms.
const BETWEEN_STATISTICS_MS: &str = "5";

/// Between looks whether an open transaction of a neighbour has come to its end.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// How long the end of a partition stands, where there was more, before it is believed: a broker
/// that leads since now may know of an earlier one for a while.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Between looks at what comes of several partitions.
const BETWEEN_POLLS: Duration = Duration::from_millis(1);

/// The consumer behind some partitions: asked regularly, it keeps its connections.
pub struct Readers {
    consumer: Arc<BaseConsumer<Watch>>,
    /// When the brokers first and last refused to let it in, of late.
    refused: Cell<Option<(Instant, Instant)>>,
}

/// One partition.
pub struct PartitionReader {
    topic: String,
    partition: u32,
    queue: PartitionQueue<Watch>,
    /// Since when it was read to its end.
    ended: Option<Instant>,
}

/// A record.
pub struct Taken<'m>(BorrowedMessage<'m>);

/// What a partition has.
pub enum Next<'m> {
    /// The next record.
    Record(Taken<'m>),
    /// Everything that was committed when the client came there was handed out; more may have come
    /// since.
    End,
    /// Nothing was fetched yet.
    Nothing,
}

/// Which end of a partition is meant.
#[derive(Clone, Copy)]
enum Until {
    /// That of what is written, transactions that are open included: they are waited for.
    Written,
    /// That of what no open transaction hides.
    Stable,
}

/// What a small topic holds: its records, in order.
pub struct SmallTopic(pub Vec<SmallRecord>);

/// A record of a small topic.
pub struct SmallRecord {
    /// Where it stands.
    pub offset: u64,
    /// Its key; empty where it has none.
    pub key: Vec<u8>,
    /// Its value; `None` says that the key is gone.
    pub value: Option<Vec<u8>>,
    /// When it was written, in ms since 1970; 0 where nobody says.
    pub time_ms: i64,
}

impl SmallRecord {
    fn of(taken: &Taken<'_>) -> SmallRecord {
        SmallRecord {
            offset: taken.offset(),
            key: taken.key().unwrap_or_default().to_vec(),
            value: taken.value().map(<[u8]>::to_vec),
            time_ms: taken.time_ms(),
        }
    }
}

impl Taken<'_> {
    /// Where it stands.
    pub fn offset(&self) -> u64 {
        self.0.offset() as u64
    }

    /// When the broker or the producer says it was written, in ms since 1970; 0 where neither does.
    pub fn time_ms(&self) -> i64 {
        self.0.timestamp().to_millis().unwrap_or(0)
    }

    /// Its key.
    pub fn key(&self) -> Option<&[u8]> {
        self.0.key()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.headers()?.iter().find(|header| header.key == name)?.value
    }

    /// Its value; `None` says that the key is gone.
    pub fn value(&self) -> Option<&[u8]> {
        self.0.payload()
    }
}

impl Kafka {
    /// Reads partitions from the given offsets on; `wake` is called when one that had nothing has
    /// something.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn read(
        &self,
        from: &[(String, u32, u64)],
        wake: impl Fn() + Clone + Send + Sync + 'static,
    ) -> Result<(Readers, Vec<PartitionReader>), KafkaError> {
        self.read_and_tell(from, None, wake)
    }

    /// The same; every so many ms it is told up to where each was fetched, if that is given
    /// (`Readers::has_fetched`).
    ///
    /// # Errors
    /// As `read`.
    pub fn read_and_tell(
        &self,
        from: &[(String, u32, u64)],
        every_ms: Option<&str>,
        wake: impl Fn() + Clone + Send + Sync + 'static,
    ) -> Result<(Readers, Vec<PartitionReader>), KafkaError> {
        let usual = [
            ("queued.max.messages.kbytes", FETCHED_AHEAD_KIB),
            ("fetch.wait.max.ms", LONGEST_FETCH_MS),
            ("fetch.queue.backoff.ms", FETCH_REST_MS),
            ("statistics.interval.ms", every_ms.unwrap_or("0")),
        ];
        let consumer: BaseConsumer<Watch> = self.make(
            &usual,
            &[
                ("group.id", self.name()),
                ("isolation.level", "read_committed"),
                ("auto.offset.reset", "error"),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("enable.partition.eof", "true"),
            ],
        )?;
        let consumer = Arc::new(consumer);
        let tried = || format!("read {} partition(s) of Kafka", from.len());
        let failed = |error| KafkaError::failed(tried(), &error, Some(consumer.context()));
        let mut wanted = TopicPartitionList::new();
        for (topic, partition, offset) in from {
            let offset = Offset::Offset(*offset as i64);
            wanted.add_partition_offset(topic, *partition as i32, offset).map_err(failed)?;
        }
        // Each partition has a queue of its own before anything is fetched: what came to the common
        // one would be missed.
        let mut readers = Vec::with_capacity(from.len());
        for (topic, partition, _) in from {
            let queue = consumer.split_partition_queue(topic, *partition as i32);
            let mut queue = queue.expect("each partition has a queue");
            queue.set_nonempty_callback(wake.clone());
            let (topic, partition) = (topic.clone(), *partition);
            readers.push(PartitionReader { topic, partition, queue, ended: None });
        }
        failpoint!("read-assign");
        consumer.assign(&wanted).map_err(failed)?;
        failpoint!("read-assigned");
        Ok((Readers { consumer, refused: Cell::new(None) }, readers))
    }

    /// Reads a partition to its end: all that was written before this was called, transactions that
    /// are open then included, once they have ended.
    ///
    /// # Errors
    /// When it is not there or cannot be read, or a transaction stays open beyond all patience.
    pub fn read_to_end(&self, topic: &str, partition: u32) -> Result<SmallTopic, KafkaError> {
        self.read_some(topic, partition, 0, Until::Written, usize::MAX)
    }

    /// Reads a partition as far as no transaction is open: less than `read_to_end`, and at once.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn read_so_far(&self, topic: &str, partition: u32) -> Result<SmallTopic, KafkaError> {
        self.read_some(topic, partition, 0, Until::Stable, usize::MAX)
    }

    /// Whether a partition holds a committed record, transactions that are open now included, once
    /// they have ended.
    ///
    /// # Errors
    /// As `read_to_end`.
    pub fn holds_records(&self, topic: &str, partition: u32) -> Result<bool, KafkaError> {
        Ok(!self.read_some(topic, partition, 0, Until::Written, 1)?.0.is_empty())
    }

    /// When the first record that a partition has at or past an offset was written, in ms since
    /// 1970; `None` where it has none.
    ///
    /// # Errors
    /// As `read_to_end`.
    pub fn time_at(
        &self,
        topic: &str,
        partition: u32,
        offset: u64,
    ) -> Result<Option<i64>, KafkaError> {
        let first = self.read_some(topic, partition, offset, Until::Written, 1)?;
        Ok(first.0.first().map(|record| record.time_ms))
    }

    /// The first committed record at or past an offset, of each of these partitions; `None` where
    /// there is none yet. One client reads them all.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn first_at(
        &self,
        places: &[(String, u32, u64)],
    ) -> Result<Vec<Option<SmallRecord>>, KafkaError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let (readers, mut partitions) = self.read(places, || {})?;
        let mut found: Vec<Option<Option<SmallRecord>>> = places.iter().map(|_| None).collect();
        let deadline = Instant::now() + ANSWER_PATIENCE;
        while found.iter().any(Option::is_none) {
            readers.serve()?;
            for (found, reader) in found.iter_mut().zip(&mut partitions) {
                if found.is_none() {
                    *found = match reader.look()? {
                        Next::Record(taken) => Some(Some(SmallRecord::of(&taken))),
                        Next::End | Next::Nothing => reader.stands_at_end().then_some(None),
                    };
                }
            }
            if Instant::now() > deadline {
                let tried = "read what was read last of the inputs".to_owned();
                let error = ClientError::MessageConsumption(Code::OperationTimedOut);
                return Err(KafkaError::failed(tried, &error, Some(readers.consumer.context())));
            }
            thread::sleep(BETWEEN_POLLS);
        }
        Ok(found.into_iter().map(|found| found.expect("each was found or has none")).collect())
    }

    /// The first committed record of a partition from an offset on, and up to where no transaction
    /// hides anything: behind that there may be more.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn first_and_stable(
        &self,
        topic: &str,
        partition: u32,
        from: u64,
    ) -> Result<(Option<SmallRecord>, u64), KafkaError> {
        let mut first = None;
        let stable = self.scan_until(topic, partition, from, Until::Stable, &mut |taken| {
            first = Some(SmallRecord::of(&taken));
            false
        })?;
        Ok((first, stable))
    }

    /// Reads a partition from an offset on to its end, or to so many records.
    fn read_some(
        &self,
        topic: &str,
        partition: u32,
        from: u64,
        until: Until,
        most: usize,
    ) -> Result<SmallTopic, KafkaError> {
        let mut records = Vec::new();
        self.scan_until(topic, partition, from, until, &mut |taken| {
            records.push(SmallRecord::of(&taken));
            records.len() < most
        })?;
        Ok(SmallTopic(records))
    }

    /// Hands out the records of a partition from an offset on to its end, transactions that are
    /// open now included, once they have ended; until `take` has enough. Returns that end.
    ///
    /// # Errors
    /// As `read_to_end`.
    pub fn scan(
        &self,
        topic: &str,
        partition: u32,
        from: u64,
        take: &mut dyn FnMut(Taken<'_>) -> bool,
    ) -> Result<u64, KafkaError> {
        self.scan_until(topic, partition, from, Until::Written, take)
    }

    fn scan_until(
        &self,
        topic: &str,
        partition: u32,
        from: u64,
        until: Until,
        take: &mut dyn FnMut(Taken<'_>) -> bool,
    ) -> Result<u64, KafkaError> {
        failpoint!("read-back-before");
        let tried = || format!("read topic \"{topic}\" to its end");
        let place = partition as i32;
        let written = self.asker()?.extent(topic, partition)?.1 as i64;
        let committed: BaseConsumer<Watch> = self.make(
            &[
                ("fetch.wait.max.ms", END_FETCH_MS),
                ("statistics.interval.ms", BETWEEN_STATISTICS_MS),
            ],
            &[
                ("group.id", self.name()),
                ("isolation.level", "read_committed"),
                ("auto.offset.reset", "error"),
                ("enable.auto.commit", "false"),
            ],
        )?;
        let failed = |error| KafkaError::failed(tried(), &error, Some(committed.context()));
        let deadline = Instant::now() + ANSWER_PATIENCE;
        // The end that a reader of committed records is told is where the first open transaction
        // begins: it hides what others wrote behind it.
        let (begin, written) = loop {
            let (begin, stable) = watermarks(&committed, topic, place).map_err(failed)?;
            match until {
                Until::Stable => break (begin, stable),
                Until::Written if stable >= written => break (begin, written),
                Until::Written => {}
            }
            if Instant::now() > deadline {
                return Err(failed(ClientError::MessageConsumption(Code::OperationTimedOut)));
            }
            thread::sleep(BETWEEN_LOOKS);
        };
        let mut wanted = TopicPartitionList::new();
        let from = begin.max(from as i64).min(written);
        let offset = Offset::Offset(from);
        wanted.add_partition_offset(topic, place, offset).map_err(failed)?;
        committed.assign(&wanted).map_err(failed)?;
        let mut deadline = Instant::now() + ANSWER_PATIENCE;
        // What comes last may be the end of a transaction, which is no record; and a broker that
        // leads since now may know of an earlier end for a while. So it is the place that counts
        // up to which the library has fetched.
        let mut is_fetched = false;
        let mut is_read = from >= written;
        while !is_read {
            match committed.poll(if is_fetched { Duration::ZERO } else { BETWEEN_POLLS }) {
                Some(Ok(message)) => {
                    // Where others go on writing, the end that the library tells of may never come.
                    is_read = message.offset() + 1 >= written;
                    is_read |= !take(Taken(message));
                    deadline = Instant::now() + ANSWER_PATIENCE;
                }
                Some(Err(error)) if !passes(&error) => return Err(failed(error)),
                Some(Err(error)) if Instant::now() > deadline => return Err(failed(error)),
                Some(Err(_)) => {}
                // A poll that brings nothing may have heard something else.
                None if is_fetched => is_read = !committed.context().has_more(),
                None => is_fetched = committed.context().has_fetched(topic, place, written),
            }
            if Instant::now() > deadline {
                return Err(failed(ClientError::MessageConsumption(Code::OperationTimedOut)));
            }
        }
        failpoint!("read-back-after");
        Ok(written as u64)
    }
}

/// Whether it says that brokers did not let it in.
fn is_refusal(error: &ClientError) -> bool {
    let refusals = [Code::Authentication, Code::SaslAuthenticationFailed];
    error.rdkafka_error_code().is_some_and(|code| refusals.contains(&code))
}

/// Whether what a consumer says is a difficulty that it overcomes by itself.
fn passes(error: &ClientError) -> bool {
    let lasts = [
        Code::AutoOffsetReset,
        Code::OffsetOutOfRange,
        Code::LogTruncation,
        Code::UnknownTopic,
        Code::UnknownTopicOrPartition,
        Code::UnknownPartition,
        Code::TopicAuthorizationFailed,
        Code::GroupAuthorizationFailed,
        Code::Authentication,
        Code::SaslAuthenticationFailed,
        Code::BadMessage,
        Code::BadCompression,
        Code::Fatal,
    ];
    let is_fatal = matches!(error, ClientError::MessageConsumptionFatal(_));
    !is_fatal && error.rdkafka_error_code().is_some_and(|code| !lasts.contains(&code))
}

impl Readers {
    /// Serves the connections; to be called now and then.
    ///
    /// # Errors
    /// When the client cannot go on by itself.
    pub fn serve(&self) -> Result<(), KafkaError> {
        loop {
            let Some(said) = self.consumer.poll(Duration::ZERO) else {
                // It says one thing a poll, and of some things nothing.
                match self.consumer.context().has_more() {
                    true => continue,
                    false => break,
                }
            };
            match said {
                Err(error) if is_refusal(&error) && self.may_be_let_in() => {}
                Err(error) if !passes(&error) => {
                    let tried = "read partitions of Kafka".to_owned();
                    return Err(KafkaError::failed(tried, &error, Some(self.consumer.context())));
                }
                Err(_) => {}
                // Nothing that is handed out here would be missed by anybody.
                Ok(_) => {
                    return Err(KafkaError::failed(
                        "hand out a record: it came by the queue that no partition has".to_owned(),
                        &ClientError::MessageConsumption(Code::Unknown),
                        None,
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether all of a partition was fetched up to an offset: what nobody was handed out of it yet
    /// stands in its queue. Only of readers that tell so, and not at once.
    pub fn has_fetched(&self, topic: &str, partition: u32, end: u64) -> bool {
        let Ok(partition) = partition.try_into() else { return false };
        self.consumer.context().has_fetched(topic, partition, end as i64)
    }

    /// Whether brokers that refuse to let it in may do so again soon: a token that came too late is
    /// followed by another one.
    fn may_be_let_in(&self) -> bool {
        let now = Instant::now();
        let first = match self.refused.get() {
            Some((first, last)) if now - last < ANSWER_PATIENCE => first,
            _ => now,
        };
        self.refused.set(Some((first, now)));
        now - first < ANSWER_PATIENCE
    }

    /// Tells the brokers up to where partitions are read, for tools that show lag; whether they
    /// take it is of no consequence here.
    pub fn say_offsets(&self, offsets: impl Iterator<Item = (String, u32, u64)>) {
        let mut said = TopicPartitionList::new();
        for (topic, partition, offset) in offsets {
            let offset = Offset::Offset(offset as i64);
            let added = said.add_partition_offset(&topic, partition as i32, offset);
            added.expect("an offset of a record is one");
        }
        let _ = self.consumer.commit(&said, CommitMode::Async);
    }
}

impl PartitionReader {
    /// Its topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Its number within the topic.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Whether it was read to its end, and that stands for so long that it is believed.
    pub fn stands_at_end(&self) -> bool {
        self.ended.is_some_and(|since| since.elapsed() >= END_PATIENCE)
    }

    /// What it has next.
    ///
    /// # Errors
    /// When it cannot be read on: its records are gone, or itself.
    pub fn look(&mut self) -> Result<Next<'_>, KafkaError> {
        loop {
            return match self.queue.poll(Duration::ZERO) {
                None => Ok(Next::Nothing),
                Some(Ok(message)) => {
                    self.ended = None;
                    Ok(Next::Record(Taken(message)))
                }
                Some(Err(ClientError::PartitionEOF(_))) => {
                    self.ended.get_or_insert_with(Instant::now);
                    Ok(Next::End)
                }
                // Records may stand behind it in the queue.
                Some(Err(error)) if passes(&error) => continue,
                Some(Err(error)) => {
                    let tried =
                        format!("read on in partition {} of \"{}\"", self.partition, self.topic);
                    Err(KafkaError::failed(tried, &error, None))
                }
            };
        }
    }
}
