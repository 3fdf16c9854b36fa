//! How a feed is, for who watches.
//!
//! Shape: what a feed says of itself in; numbers and words for people out.
//!
//! Invariants: nothing that a document says is in it.

use std::sync::Mutex;

use crate::{
    process::now_ms,
    reference::log::{FeedState, Hold},
};

/// How a feed is.
#[derive(Debug, Default)]
pub struct Health(Mutex<(FeedState, Option<Hold>)>);

impl Health {
    /// How it is now, and why it waits for the operator's word, where it does.
    pub fn now(&self) -> (FeedState, Option<Hold>) {
        self.0.lock().expect("nobody panics in here").clone()
    }

    /// Takes how it is now.
    pub(super) fn set(&self, state: &FeedState, hold: Option<&Hold>) {
        *self.0.lock().expect("nobody panics in here") = (state.clone(), hold.cloned());
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    now_ms() as u64 / 1000
}
