//! Writing: transactions whose outcome is known.
//!
//! Shape: the records of one transaction in; committed, or why not, out.
//!
//! Invariants: `Ok` means that the transaction is committed, that all its records are in it, and
//! that nothing of it is still on its way: no connection broke while it was open, and the broker
//! answered its end once. In every other case nothing more may be written by this writer; who makes
//! a new one of the same id fences it, and may then read what was committed.
//!
//! The client library speaks a version of the protocol in which an end of a transaction that was
//! delayed can hit the next one (KIP-890 is what cures it), so an outcome that merely looks well is
//! not enough.
//!
//! Not here: reading back, and what is written.

use std::{
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    error::{KafkaError as ClientError, RDKafkaErrorCode as Code},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};

use super::client::{ANSWER_PATIENCE, Cause, Kafka, KafkaError, Watch};

/// How long a transaction may take, where nothing else is asked for.
pub const TRANSACTION_PATIENCE: Duration = Duration::from_secs(8);

/// How long brokers grant it, after which they abort it; longer than it may take, so that no end is
/// sent to one that they may have aborted meanwhile. So long a writer that hangs hides from readers
/// what others write.
const fn granted(patience: Duration) -> Duration {
    Duration::from_millis(patience.as_millis() as u64 * 5 / 4)
}

/// Between tries to be let in while an earlier transaction of the same id comes to its end.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// Between looks at what is in flight: so long for each record, and in any case. The client's own
/// wait does not end early, and its last millisecond is a loop that keeps a core busy.
const BETWEEN_POLLS_A_RECORD: Duration = Duration::from_nanos(500);
const BETWEEN_POLLS_MIN: Duration = Duration::from_micros(200);
const BETWEEN_POLLS_MAX: Duration = Duration::from_millis(3);

/// Largest request, and with it the largest record: brokers and topics have limits of their own,
/// which are lower.
pub const MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// A writer under a transactional id.
pub struct Writer {
    id: String,
    /// How long a transaction may take.
    patience: Duration,
    producer: BaseProducer<Watch>,
}

/// A record that is to be written.
#[derive(Clone, Copy)]
pub struct Outgoing<'r> {
    /// Where to.
    pub topic: &'r str,
    /// Which partition.
    pub partition: u32,
    /// The key, where it has one.
    pub key: Option<&'r [u8]>,
    /// The value; `None` says that the key is gone.
    pub value: Option<&'r [u8]>,
    /// Names and values.
    pub headers: &'r [(&'r str, &'r [u8])],
}

/// Takes the records of a transaction, one after the other.
pub type Send<'w> = dyn FnMut(Outgoing<'_>) -> Result<(), WriteError> + 'w;

/// Why a transaction is not known to be committed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It may be committed or not, and what was sent may still be on its way.
    #[error("the outcome of a transaction of \"{id}\" is not known")]
    Unknown {
        /// The transactional id.
        id: String,
        /// What is known of the cause.
        #[source]
        source: Option<Cause>,
    },
    /// Another writer has taken the id: nothing of this transaction is on its way any more. Whether
    /// it is committed says who reads: its answer may have been lost before.
    #[error("another writer has taken the transactional id \"{id}\"")]
    Fenced {
        /// The transactional id.
        id: String,
    },
    /// No retry helps.
    #[error(transparent)]
    Hopeless(#[from] KafkaError),
}

impl Kafka {
    /// Makes the writer of an id; from then on no elder of that id writes anything, and no
    /// transaction of its is open.
    ///
    /// # Errors
    /// When brokers do not answer, or do not grant it.
    pub fn writer(&self, id: &str) -> Result<Writer, KafkaError> {
        self.patient_writer(id, TRANSACTION_PATIENCE)
    }

    /// The same; a transaction may take so long. Brokers grant a quarter more, at most their
    /// `transaction.max.timeout.ms`.
    ///
    /// # Errors
    /// As `writer`.
    pub fn patient_writer(&self, id: &str, patience: Duration) -> Result<Writer, KafkaError> {
        let timeout = granted(patience).as_millis().to_string();
        let message_timeout = patience.as_millis().to_string();
        let bytes_max = MESSAGE_BYTES_MAX.to_string();
        let usual = [
            ("compression.type", "snappy"),
            ("linger.ms", "0"),
            ("queue.buffering.max.messages", "500000"),
        ];
        let producer: BaseProducer<Watch> = self.make(
            &usual,
            &[
                ("transactional.id", id),
                ("transaction.timeout.ms", &timeout),
                ("message.timeout.ms", &message_timeout),
                ("enable.idempotence", "true"),
                ("acks", "all"),
                ("delivery.report.only.error", "true"),
                ("message.max.bytes", &bytes_max),
            ],
        )?;
        failpoint!("fence-before");
        let deadline = Instant::now() + ANSWER_PATIENCE;
        loop {
            let error = match producer.init_transactions(BETWEEN_TRIES * 20) {
                Ok(()) => {
                    failpoint!("fence-after");
                    return Ok(Writer { id: id.to_owned(), patience, producer });
                }
                Err(error) => error,
            };
            drain(&producer);
            let tried = format!("take the transactional id \"{id}\"");
            let error = KafkaError::failed(tried, &error, Some(producer.context()));
            if !error.may_pass() || Instant::now() > deadline {
                return Err(error);
            }
            thread::sleep(BETWEEN_TRIES);
        }
    }
}

/// Hears all that the client has to say now. It says one thing a poll, and what is not heard counts
/// as in flight.
fn hear(producer: &BaseProducer<Watch>) {
    producer.poll(Duration::ZERO);
    while producer.context().has_more() {
        producer.poll(Duration::ZERO);
    }
}

/// Hears the client, until it has nothing more to say and nothing is in flight.
fn drain(producer: &BaseProducer<Watch>) {
    hear(producer);
    while producer.in_flight_count() > 0 {
        pause(producer);
        hear(producer);
    }
}

/// Lets a moment pass for what is in flight.
fn pause(producer: &BaseProducer<Watch>) {
    let records = producer.in_flight_count().max(0) as u32;
    let moment = BETWEEN_POLLS_A_RECORD.saturating_mul(records);
    thread::sleep(moment.clamp(BETWEEN_POLLS_MIN, BETWEEN_POLLS_MAX));
}

impl Writer {
    /// Its transactional id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How long a transaction of it may take.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Hears what the client has to say, which it keeps until it is heard; to be called now and
    /// then while nothing is written.
    pub fn hear(&self) {
        hear(&self.producer);
    }

    /// Writes the records that `each` hands out in one transaction.
    ///
    /// # Errors
    /// When the transaction is not known to be committed; this writer must not be used again.
    pub fn write(
        &mut self,
        each: impl FnOnce(&mut Send<'_>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let deadline = Instant::now() + self.patience;
        drain(&self.producer);
        self.producer.context().forget();
        self.producer.begin_transaction().map_err(|error| self.failed(&error))?;
        each(&mut |record| {
            failpoint!("produce-before");
            self.send(record, deadline)?;
            failpoint!("produce-after");
            Ok(())
        })?;
        hear(&self.producer);
        while self.producer.in_flight_count() > 0 {
            self.wait(deadline)?;
        }
        failpoint!("commit-before");
        // Asked with no time left, a commit may still be made, or not.
        self.look(deadline)?;
        let left = deadline.saturating_duration_since(Instant::now());
        self.producer.commit_transaction(left).map_err(|error| self.failed(&error))?;
        failpoint!("commit-after");
        drain(&self.producer);
        match self.producer.context().is_certain() {
            true => Ok(()),
            false => Err(self.unknown(None)),
        }
    }

    /// Queues one record; waits while the queue is full.
    fn send(&self, record: Outgoing<'_>, deadline: Instant) -> Result<(), WriteError> {
        let Outgoing { topic, partition, key, value, headers } = record;
        let mut owned = OwnedHeaders::new_with_capacity(headers.len());
        for (name, value) in headers {
            owned = owned.insert(Header { key: name, value: Some(*value) });
        }
        let mut record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(topic).partition(partition as i32).headers(owned);
        record.key = key;
        record.payload = value;
        while let Err((error, refused)) = self.producer.send(record) {
            if error.rdkafka_error_code() != Some(Code::QueueFull) {
                let tried = format!("write to topic \"{topic}\"");
                return Err(KafkaError::failed(tried, &error, None).into());
            }
            self.wait(deadline)?;
            record = refused;
        }
        Ok(())
    }

    /// Lets a moment pass for what is in flight.
    fn wait(&self, deadline: Instant) -> Result<(), WriteError> {
        pause(&self.producer);
        hear(&self.producer);
        self.look(deadline)
    }

    /// Whether a record was refused, or it has taken too long.
    fn look(&self, deadline: Instant) -> Result<(), WriteError> {
        if let Some(cause) = self.producer.context().lost() {
            return Err(self.of_cause(cause));
        }
        if Instant::now() > deadline {
            return Err(self.unknown(None));
        }
        Ok(())
    }

    fn failed(&self, error: &ClientError) -> WriteError {
        drain(&self.producer);
        self.of_cause(self.producer.context().lost().unwrap_or_else(|| Cause::of(error)))
    }

    fn of_cause(&self, cause: Cause) -> WriteError {
        let hopeless = [
            Code::MessageSizeTooLarge,
            Code::InvalidMessageSize,
            Code::TopicAuthorizationFailed,
            Code::TransactionalIdAuthorizationFailed,
            Code::ClusterAuthorizationFailed,
            Code::UnknownTopic,
            Code::UnknownPartition,
            Code::InvalidTopic,
        ];
        // Which of the two is said where a newer one has the id depends on who says it.
        match cause.code {
            Some(Code::Fenced | Code::InvalidProducerEpoch) => {
                WriteError::Fenced { id: self.id.clone() }
            }
            Some(code) if hopeless.contains(&code) => {
                let tried = format!("write as \"{}\"", self.id);
                KafkaError::refused(tried, cause).into()
            }
            _ => self.unknown(Some(cause)),
        }
    }

    fn unknown(&self, source: Option<Cause>) -> WriteError {
        let heard = || self.producer.context().last_error();
        WriteError::Unknown { id: self.id.clone(), source: source.or_else(heard) }
    }
}
