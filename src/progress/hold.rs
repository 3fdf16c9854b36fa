//! The word by which a dataflow is asked to stand still where another one was, so that what both
//! hold there can be compared.
//!
//! Shape: JSON under a key of its own in the topic of the lead record:
//!
//! ```text
//! {"by":"5f...","beat":7,"at":{...}}
//! ```
//!
//! Invariants: who asks says so again and again (`beat`), and takes the word back at the end; a
//! word that is not said again for `PATIENCE` counts no more, so who dies while he asks holds up
//! nobody.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Progress;

/// A request to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldWord {
    /// A name that the one who asks drew.
    pub by: String,
    /// How often it was said: each time is one more.
    pub beat: u64,
    /// Up to where to read, as another dataflow recorded it; none as long as that is not known, and
    /// nothing is read then.
    pub at: Option<Box<Progress>>,
}

impl HoldWord {
    /// For how long a word counts that is not said again.
    pub const PATIENCE: Duration = Duration::from_secs(30);

    /// Between times at which it is said.
    pub const BETWEEN_BEATS: Duration = Duration::from_secs(5);

    /// Reads the record's value; what is none asks for nothing.
    pub fn parse(value: &[u8]) -> Option<HoldWord> {
        serde_json::from_slice(value).ok()
    }

    /// The record's value.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain values have a JSON")
    }
}
