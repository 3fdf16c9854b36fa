//! Progress: what is durable of it, and what a start makes of that.
//!
//! Shape: in one transaction with what it wrote, each writer leaves a record that says of its
//! shards: up to this epoch everything is here, and that epoch holds the inputs up to these
//! offsets. A start reads those records and learns where to cut its first epochs (`Recovery`).
//!
//! Invariants: the epochs of a shard strictly grow. All vectors were cut from one sequence of
//! epochs, so any two can be compared; where they cannot, somebody else wrote them.
//!
//! Not here: who writes when (`engine`).
//!
//! In reading order: `record`, `lead`, `recovery`, `settled` (since when nothing is owed), `hold`
//! (standing still to be compared), `pointer` (which dataflow is read), `store` (the topics that
//! hold them), `frontier` (for who reads the outputs).

mod frontier;
mod hold;
mod lead;
mod pointer;
mod record;
mod recovery;
mod settled;
mod store;

pub use frontier::{FrontierError, PASSING_TIME_MAX, Passing, Progressing, Read, epoch_of};
pub use hold::HoldWord;
pub use lead::{
    Accepted, AcceptedLoss, Difference, FORM, Lead, Output, Retaken, SHARD_HASH, StartId,
    Superseded,
};
pub use pointer::{Pointer, shown_dataflow};
pub use record::{BoundForm, Ownership, Progress, RecordError, Says, TopicBounds};
pub use recovery::{Recovery, RecoveryError};
pub use settled::{LogEnd, LogEnds, SettledSince, may_be_swept};
pub use store::{HOLD_KEY, LEAD_KEY, POINTER_KEY, Store, StoreError};
