//! Shared content: held once, compared by its hash before it is looked at.
//!
//! Shape: a pointer to the content with the content's hash beside it.
//!
//! Invariants: equal contents have equal hashes, so two that differ are told apart without
//! following a pointer (differential sorts and merges all it holds: measured, comparing contents
//! was a fifth of a run); the order is total and fixed, but it is the hash's and means nothing.
//!
//! Not here: keys whose order means something (`row::Rank`).

use std::{cmp::Ordering, hash::Hash, hash::Hasher, sync::Arc};

use serde::{Deserialize, Serialize};

/// Content that many hold.
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "T: Serialize", deserialize = "Arc<T>: Deserialize<'de>"))]
pub(super) struct Shared<T: ?Sized> {
    hash: u64,
    content: Arc<T>,
}

impl<T: ?Sized> Shared<T> {
    /// Shares content under its hash, which the caller computes from all of it.
    pub(super) fn new(hash: u64, content: Arc<T>) -> Shared<T> {
        Shared { hash, content }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn content(&self) -> &T {
        &self.content
    }
}

impl Shared<[u8]> {
    /// Shares bytes.
    pub(super) fn of_bytes(bytes: &[u8]) -> Shared<[u8]> {
        Shared::new(hash_of_bytes(bytes), bytes.into())
    }
}

/// The hash under which bytes are shared.
pub(super) fn hash_of_bytes(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

impl<T: ?Sized> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared { hash: self.hash, content: Arc::clone(&self.content) }
    }
}

impl<T: Ord + ?Sized> Ord for Shared<T> {
    fn cmp(&self, other: &Shared<T>) -> Ordering {
        let by_hash = self.hash.cmp(&other.hash);
        if by_hash != Ordering::Equal || Arc::ptr_eq(&self.content, &other.content) {
            return by_hash;
        }
        self.content.cmp(&other.content)
    }
}

impl<T: Ord + ?Sized> PartialOrd for Shared<T> {
    fn partial_cmp(&self, other: &Shared<T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord + ?Sized> PartialEq for Shared<T> {
    fn eq(&self, other: &Shared<T>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T: Ord + ?Sized> Eq for Shared<T> {}

impl<T: ?Sized> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}
