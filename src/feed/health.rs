//! How a feed is, for who watches.
//!
//! Shape: what a feed says of itself in; numbers and words for people out.
//!
//! Invariants: nothing that a document says is in it.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{
    process::now_ms,
    reference::log::{FeedState, Hold},
};

/// How a feed is.
#[derive(Debug, Default)]
pub struct Health {
    state: Mutex<(FeedState, Option<Hold>)>,
    comparison: Mutex<Option<Comparison>>,
    passed: AtomicU64,
}

/// How far a comparison is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Documents that it has passed,
    pub passed: u64,
    /// of so many, where that is known.
    pub of: Option<u64>,
}

impl Health {
    /// How it is now, and why it waits for the operator's word, where it does.
    pub fn now(&self) -> (FeedState, Option<Hold>) {
        self.state.lock().expect("nobody panics in here").clone()
    }

    /// How far the comparison is that goes on, where one does.
    pub fn comparison(&self) -> Option<Comparison> {
        let comparison = *self.comparison.lock().expect("nobody panics in here");
        comparison.map(|begun| Comparison { passed: self.passed.load(Relaxed), ..begun })
    }

    /// A comparison begins.
    pub(super) fn begin(&self, of: Option<u64>) {
        self.passed.store(0, Relaxed);
        let begun = Comparison { passed: 0, of };
        *self.comparison.lock().expect("nobody panics in here") = Some(begun);
    }

    /// It has passed one more document.
    pub(super) fn passed(&self) {
        self.passed.fetch_add(1, Relaxed);
    }

    /// It is at its end.
    pub(super) fn end(&self) {
        *self.comparison.lock().expect("nobody panics in here") = None;
    }

    /// Takes how it is now.
    pub(super) fn set(&self, state: &FeedState, hold: Option<&Hold>) {
        *self.state.lock().expect("nobody panics in here") = (state.clone(), hold.cloned());
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    now_ms() as u64 / 1000
}
