//! Kafka: what the engine needs of brokers, and the one place that knows the client library.
//!
//! Shape: the properties of a place in; partitions to read, small topics read to their end,
//! transactions that are known to be committed, topics made and checked, out.
//!
//! Invariants: readers see committed records only; a transaction of which anything is unclear is
//! called unknown, never committed; an error says what was tried, on what, and what to do, and
//! holds no secret.
//!
//! Not here: what the records mean, and the order in which a start goes (`engine`).
//!
//! In reading order: `client` (being let in, and what went wrong), `certificate`, `patience`,
//! `topic` (what there is), `ask`, `read`, `write`.

mod ask;
mod certificate;
mod client;
mod patience;
mod read;
mod topic;
mod topic_id;
mod write;

pub use ask::Asker;
pub use client::{Kafka, KafkaError};
pub use patience::patiently;
pub use read::{Next, PartitionReader, Readers, SmallRecord, SmallTopic, Taken};
pub use topic::{NewTopic, TopicState};
pub use write::{MESSAGE_BYTES_MAX, Outgoing, Send, TRANSACTION_PATIENCE, WriteError, Writer};
