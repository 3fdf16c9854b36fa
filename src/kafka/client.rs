//! The client: how brokers are reached, and what is said when they are not.
//!
//! Shape: properties in; settings for readers, writers and administration out.
//!
//! Invariants: what the engine promises rests on properties that nobody else sets; the library's
//! log is read, never printed: it says things that its calls do not (`write`).

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext, Statistics,
    admin::AdminClient,
    client::DefaultClientContext,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError as ClientError, RDKafkaErrorCode as Code},
    producer::{DeliveryResult, ProducerContext},
};

use tracing::info;

use super::certificate;
use crate::config::Properties;

/// How long brokers may take to answer, at a start and whenever something is asked of them.
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// How long one broker may take of that: another one is asked then.
pub(super) const ONE_ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// Between looks at whether an answer cannot come, since nobody is let in.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// Longest pause before a broker that was gone is tried again, in ms: it is waited for.
const RECONNECT_PAUSE_MAX_MS: &str = "1000";

/// A place's brokers.
#[derive(Clone, Debug)]
pub struct Kafka {
    properties: Properties,
    /// As brokers name this client in their logs.
    name: String,
}

/// Why brokers did not do what was asked of them.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// The client does not take its properties.
    #[error("the client for Kafka refuses its properties; correct kafka.client")]
    Properties(#[source] Cause),
    /// Something that was asked of the brokers failed.
    #[error("cannot {tried}; {remedy}")]
    Failed {
        /// What was asked of whom.
        tried: String,
        /// What to do.
        remedy: &'static str,
        /// What the client or the broker said.
        source: Cause,
    },
}

/// What the client library said.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{said}")]
pub struct Cause {
    pub(super) code: Option<Code>,
    said: String,
}

impl Cause {
    /// What somebody else said, who knows more.
    pub(super) fn said(said: String) -> Cause {
        Cause { code: Some(Code::SSL), said }
    }

    pub(super) fn of(error: &ClientError) -> Cause {
        let code = code_of(error);
        let said = match (error, code) {
            // Its own text shows the value, which may be a secret.
            (ClientError::ClientConfig(_, said, name, value), _) => {
                let hidden =
                    if value.is_empty() { said.clone() } else { said.replace(value, "...") };
                format!("{name}: {hidden}")
            }
            (_, Some(code)) => format!("{code:?}: {code}"),
            (error, None) => error.to_string(),
        };
        Cause { code, said }
    }
}

/// Its code, where it has one.
pub(super) fn code_of(error: &ClientError) -> Option<Code> {
    match error {
        // The library does not count it among those that have one.
        ClientError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    }
}

impl KafkaError {
    /// What was tried, and why it failed; what `watch` heard before may say more than the call.
    pub(super) fn failed(tried: String, error: &ClientError, watch: Option<&Watch>) -> KafkaError {
        let called = Cause::of(error);
        let heard = watch.and_then(Watch::last_error);
        let is_vague = called.code.is_none_or(|code| REACH.contains(&code));
        let source = match heard {
            Some(heard) if is_vague => heard,
            _ => called,
        };
        KafkaError::refused(tried, source)
    }

    /// What was tried, and what the broker said of it.
    pub(super) fn refused(tried: String, source: Cause) -> KafkaError {
        let remedy = source.code.map_or("see docs/kafka.md", remedy);
        KafkaError::Failed { tried, remedy, source }
    }

    /// Whether trying again may help.
    pub fn may_pass(&self) -> bool {
        let KafkaError::Failed { source, .. } = self else { return false };
        source.code.is_some_and(may_pass)
    }
}

/// Whether trying again may help.
pub(super) fn may_pass(code: Code) -> bool {
    REACH.contains(&code) || CHANGE.contains(&code)
}

/// Said where nobody answers, whatever the reason.
const REACH: [Code; 7] = [
    Code::BrokerTransportFailure,
    Code::AllBrokersDown,
    Code::Resolve,
    Code::OperationTimedOut,
    Code::RequestTimedOut,
    Code::TimedOutQueue,
    Code::Retry,
];

/// Said where brokers come and go, and who leads changes.
const CHANGE: [Code; 20] = [
    Code::NotController,
    Code::LeaderNotAvailable,
    Code::NotLeaderForPartition,
    Code::FencedLeaderEpoch,
    Code::UnknownLeaderEpoch,
    Code::ReplicaNotAvailable,
    Code::KafkaStorageError,
    // Of one that leads since now, and does not know the end yet.
    Code::OffsetNotAvailable,
    Code::BrokerNotAvailable,
    // The client forgets a broker that the others say is gone.
    Code::DestroyBroker,
    Code::BrokerDestroy,
    Code::WaitingForCoordinator,
    // What the client says of a partition of which it knows no leader.
    Code::UnknownPartition,
    Code::CoordinatorLoadInProgress,
    Code::CoordinatorNotAvailable,
    Code::NotCoordinator,
    Code::ConcurrentTransactions,
    Code::NetworkException,
    Code::NotEnoughReplicas,
    Code::NotEnoughReplicasAfterAppend,
];

/// Said where the brokers are there and do not let this client in.
const DOOR: [Code; 5] = [
    Code::Authentication,
    Code::SaslAuthenticationFailed,
    Code::UnsupportedSASLMechanism,
    Code::SSL,
    Code::ClusterAuthorizationFailed,
];

fn remedy(code: Code) -> &'static str {
    match code {
        code if REACH.contains(&code) => "are the brokers there, and does kafka.brokers name them?",
        Code::SSL => {
            "check ssl.ca.location and the client's own certificate and key in kafka.client"
        }
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
            "check security.protocol, sasl.mechanism, sasl.username and sasl.password in \
             kafka.client"
        }
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => {
            "grant this user the rights that docs/kafka.md lists"
        }
        Code::BadCompression => {
            "a batch there cannot be unpacked: raise receive.message.max.bytes in kafka.client \
             where it is larger than that, else it is broken: delete the records up to it with \
             kafka-delete-records, and start with --accept-loss"
        }
        Code::UnknownTopicOrPartition | Code::UnknownTopic => {
            "`tributary init` makes the dataflow's own topics"
        }
        Code::UnknownPartition => {
            "see that all brokers are there; if the topic was made again with fewer partitions, \
             start again: the start says what is gone"
        }
        code if CHANGE.contains(&code) => {
            "the brokers change who leads, or too few of them are there: see that all are, and try \
             again"
        }
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => {
            "raise max.message.bytes of the topic, as `tributary init` sets it"
        }
        Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
            "records are gone that were to be read: start again, and the start says which"
        }
        Code::InvalidReplicationFactor => "give --replication the number of brokers, or less",
        Code::PolicyViolation => "the brokers' policy refuses it: make the topic by hand",
        Code::InvalidTransactionTimeout => {
            "raise the brokers' transaction.max.timeout.ms to 150 s or more"
        }
        _ => "see docs/kafka.md",
    }
}

impl Kafka {
    /// The brokers that these properties name; `name` is what brokers call this client.
    pub fn new(properties: Properties, name: &str) -> Kafka {
        Kafka { properties, name: format!("tributary-{name}") }
    }

    /// What brokers call this client, and the group of its readers.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Settings for a client: `usual` where the place says nothing else; `ours` last, since nobody
    /// may change them.
    fn settings(&self, usual: &[(&str, &str)], ours: &[(&str, &str)]) -> ClientConfig {
        let mut settings = ClientConfig::new();
        settings.set("reconnect.backoff.max.ms", RECONNECT_PAUSE_MAX_MS);
        for (name, value) in usual {
            settings.set(*name, *value);
        }
        for (name, value) in &self.properties.0 {
            settings.set(name, value);
        }
        settings.set("client.id", &self.name);
        // What it says of its connections, for `Watch`; see there.
        settings.set("debug", "broker,eos").set_log_level(RDKafkaLogLevel::Debug);
        for (name, value) in ours {
            settings.set(*name, *value);
        }
        settings
    }

    pub(super) fn make<T: FromClientConfigAndContext<Watch>>(
        &self,
        usual: &[(&str, &str)],
        ours: &[(&str, &str)],
    ) -> Result<T, KafkaError> {
        let made = T::from_config_and_context(&self.settings(usual, ours), Watch::default());
        made.map_err(|error| KafkaError::Properties(Cause::of(&error)))
    }

    pub(super) fn admin(&self) -> Result<AdminClient<DefaultClientContext>, KafkaError> {
        // Nobody listens to what it says of its connections.
        let made = self.settings(&[], &[]).remove("debug").create();
        made.map_err(|error| KafkaError::Properties(Cause::of(&error)))
    }

    /// Proves that the brokers are there and let this client in; says early that they do not.
    ///
    /// # Errors
    /// When they do not.
    pub fn connect(&self) -> Result<(), KafkaError> {
        let probe: BaseConsumer<Watch> = self.make(&[], &[])?;
        let deadline = Instant::now() + ANSWER_PATIENCE;
        let mut is_told = false;
        loop {
            let error = match probe.fetch_metadata(None, BETWEEN_LOOKS) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            probe.poll(Duration::ZERO);
            while probe.context().has_more() {
                probe.poll(Duration::ZERO);
            }
            let heard = probe.context().last_error().and_then(|cause| cause.code);
            let is_refused = heard.is_some_and(|code| DOOR.contains(&code));
            if heard == Some(Code::SSL)
                && let Some((source, remedy)) = certificate::why_untrusted(&self.properties)
            {
                let tried = "trust a broker of Kafka".to_owned();
                return Err(KafkaError::Failed { tried, remedy, source });
            }
            if is_refused || Instant::now() > deadline {
                let tried = "reach the brokers of Kafka".to_owned();
                return Err(KafkaError::failed(tried, &error, Some(probe.context())));
            }
            if !std::mem::replace(&mut is_told, true) {
                info!(at_most_s = ANSWER_PATIENCE.as_secs(), "waits for the brokers");
            }
        }
    }
}

/// Listens to what the library says of a client.
///
/// Its calls hide what the exactness of transactions depends on. When a connection breaks, the
/// library connects anew and sends again, and of errors alike it reports but the first within 30 s.
/// Its debug log says each break (`FAIL`, facility `broker`) and each answer to the end of a
/// transaction (`ENDTXN`, facility `eos`), before it acts on it: rdkafka_broker.c and
/// rdkafka_txnmgr.c of librdkafka 2.12.1.
#[derive(Default)]
pub(super) struct Watch {
    /// Whether a connection broke.
    broke: AtomicBool,
    /// Answers to the end of a transaction that said it is done, and others.
    ended: AtomicU64,
    refused: AtomicU64,
    /// Of records, which the broker did not take.
    lost: Mutex<Option<Cause>>,
    /// The last error that stands above one connection.
    error: Mutex<Option<Cause>>,
    heard: AtomicU64,
    seen: AtomicU64,
    /// From where each partition that this client reads is fetched next; only of one that tells
    /// its statistics.
    fetched: Mutex<HashMap<(String, i32), i64>>,
}

impl Watch {
    /// Whether all of a partition that this client reads was fetched up to an offset, and stands in
    /// its queue.
    pub(super) fn has_fetched(&self, topic: &str, partition: i32, end: i64) -> bool {
        let fetched = self.fetched.lock().expect("nobody panics while holding it");
        fetched.get(&(topic.to_owned(), partition)).is_some_and(|next| *next >= end)
    }

    /// Forgets what was heard.
    pub(super) fn forget(&self) {
        self.broke.store(false, Ordering::Relaxed);
        self.ended.store(0, Ordering::Relaxed);
        self.refused.store(0, Ordering::Relaxed);
        *self.lost.lock().expect("nobody panics while holding it") = None;
        *self.error.lock().expect("nobody panics while holding it") = None;
    }

    /// Whether, since `forget`, one transaction came to its end at the first try, on connections
    /// that held.
    pub(super) fn is_certain(&self) -> bool {
        !self.broke.load(Ordering::Relaxed)
            && self.ended.load(Ordering::Relaxed) == 1
            && self.refused.load(Ordering::Relaxed) == 0
    }

    /// The first record since `forget` that was not taken.
    pub(super) fn lost(&self) -> Option<Cause> {
        self.lost.lock().expect("nobody panics while holding it").clone()
    }

    pub(super) fn last_error(&self) -> Option<Cause> {
        self.error.lock().expect("nobody panics while holding it").clone()
    }

    /// Whether the last poll heard something, so that there may be more.
    pub(super) fn has_more(&self) -> bool {
        let heard = self.heard.load(Ordering::Relaxed);
        self.seen.swap(heard, Ordering::Relaxed) != heard
    }
}

impl ClientContext for Watch {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.heard.fetch_add(1, Ordering::Relaxed);
        match facility {
            "FAIL" => self.broke.store(true, Ordering::Relaxed),
            "ENDTXN" if message.contains("EndTxn returned NO_ERROR") => {
                self.ended.fetch_add(1, Ordering::Relaxed);
            }
            "ENDTXN" => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.heard.fetch_add(1, Ordering::Relaxed);
        let mut fetched = self.fetched.lock().expect("nobody panics while holding it");
        for topic in statistics.topics.values() {
            for partition in topic.partitions.values() {
                let next = fetched.entry((topic.topic.clone(), partition.partition)).or_default();
                *next = partition.next_offset.max(*next);
            }
        }
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.heard.fetch_add(1, Ordering::Relaxed);
        let code = error.rdkafka_error_code();
        let mut last = self.error.lock().expect("nobody panics while holding it");
        // That nobody answers says less than why one that answered did not let this client in.
        let says_less = code.is_none_or(|code| REACH.contains(&code));
        if last.is_none() || !says_less {
            *last = Some(Cause { code, said: reason.to_owned() });
        }
    }
}

impl ConsumerContext for Watch {}

impl ProducerContext for Watch {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut lost = self.lost.lock().expect("nobody panics while holding it");
            lost.get_or_insert_with(|| Cause::of(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads_and_who_is_there_may_change() {
        let of = |code| KafkaError::failed(String::new(), &ClientError::MetadataFetch(code), None);
        for code in [Code::DestroyBroker, Code::FencedLeaderEpoch, Code::OffsetNotAvailable] {
            assert!(of(code).may_pass(), "{code:?}");
        }
        for code in [Code::UnknownTopic, Code::TopicAuthorizationFailed, Code::InvalidMessage] {
            assert!(!of(code).may_pass(), "{code:?}");
        }
    }
}
