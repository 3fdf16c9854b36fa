//! Sweeping: files that nobody needs any more go.
//!
//! Shape: the newest manifest in; files that none of the last manifests names removed.
//!
//! Invariants: `keeper` says which. What cannot be known to be needless stays: where one of those
//! manifests cannot be read, nothing goes.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::super::{ArchiveError, Manifest, Store, manifest};
use crate::process::now_ms;

/// So many manifests are kept, with all that they name.
pub(super) const MANIFESTS_KEPT: u64 = 3;

/// How old a file is at least that goes.
pub(super) const REMOVED_AFTER: Duration = Duration::from_secs(3_600);

/// Between looks.
const BETWEEN_LOOKS: Duration = Duration::from_secs(600);

/// Who sweeps.
#[derive(Default)]
pub(super) struct Sweeper {
    looked: Option<Instant>,
}

impl Sweeper {
    /// Removes what none of the last manifests names, where it is time to look.
    pub(super) fn sweep(&mut self, store: &Store, newest: &Manifest) -> Result<(), ArchiveError> {
        if self.looked.is_some_and(|looked| looked.elapsed() < BETWEEN_LOOKS) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        sweep(store, newest, now_ms() - REMOVED_AFTER.as_millis() as i64)
    }
}

/// Removes what was written before a moment and none of the last manifests names.
fn sweep(store: &Store, newest: &Manifest, before_ms: i64) -> Result<(), ArchiveError> {
    let least = newest.number.saturating_sub(MANIFESTS_KEPT - 1);
    let mut named = HashSet::new();
    for number in Manifest::numbers(store)?.into_iter().filter(|number| *number >= least) {
        // One that is later than ours is another start's: it knows better.
        let Ok(manifest) = Manifest::read(store, number) else { return Ok(()) };
        named.extend(manifest.segments().map(|segment| segment.path.clone()));
        named.insert(Manifest::path(number));
    }
    for folder in ["events", manifest::FOLDER] {
        for found in store.list(folder)? {
            if found.written_ms < before_ms && !named.contains(&found.path) {
                store.remove(&found.path)?;
            }
        }
    }
    Ok(())
}
