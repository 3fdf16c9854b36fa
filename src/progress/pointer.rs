//! The pointer: which dataflow of a family readers are shown.
//!
//! Shape: JSON under a key of its own in the topic of the family's lead record:
//!
//! ```text
//! {"number":3,"dataflow":"attendance_v2","before":"attendance","is_back":false,
//!  "since_ms":1764108000123,
//!  "topics":{"enriched":"attendance_v2_enriched","latest":"attendance_v2_latest"}}
//! ```
//!
//! Invariants: who follows it finds in each of those topics the whole of that view; its number
//! grows each time that readers are switched. Where none stands, readers are shown the dataflow of
//! the family's own name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{RecordError, Store, StoreError};
use crate::kafka::Kafka;

/// The dataflow of a family that readers are shown: that of the family's own name, until they were
/// switched.
///
/// # Errors
/// When brokers do not answer.
pub fn shown_dataflow(kafka: &Kafka, family: &str) -> Result<String, StoreError> {
    let pointer = Store::new(kafka.clone(), family).pointer()?;
    Ok(pointer.map_or_else(|| family.to_owned(), |pointer| pointer.dataflow))
}

/// Which dataflow readers are shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// How often readers were switched, this time included.
    pub number: u64,
    /// The dataflow.
    pub dataflow: String,
    /// Which one it was before.
    pub before: String,
    /// Whether readers were taken back to the one of before: they are not taken back once more.
    #[serde(default)]
    pub is_back: bool,
    /// Since when, in ms since 1970, by the clock of who switched.
    pub since_ms: i64,
    /// By view, where its records stand.
    pub topics: BTreeMap<String, String>,
}

impl Pointer {
    /// Reads a record's value.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(topic: &str, offset: u64, value: &[u8]) -> Result<Pointer, RecordError> {
        let topic = topic.to_owned();
        serde_json::from_slice(value).map_err(|source| RecordError::None { topic, offset, source })
    }

    /// The record's value.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain values have a JSON")
    }
}
