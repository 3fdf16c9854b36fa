//! What is known of a shard.
//!
//! Shape: checkpoints, and when they were asked for, in; up to which operation all was taken out.
//!
//! Invariant: what is taken moves to a checkpoint only once all up to there was visible when it was
//! read.

use std::time::{Duration, Instant};

use crate::reference::reconcile::Version;

/// Bits of a version that are the number of an operation; those above name the shard.
const NUMBER_BITS: u32 = 50;

/// What is known of a shard.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Its place among the shards.
    pub(super) place: u64,
    /// Operations up to this number were taken.
    pub(super) taken: i64,
    /// Checkpoints, and when they were asked for, that are not sure to be visible yet.
    pub(super) waiting: Vec<(Instant, i64)>,
    /// Whether what is gone is to be looked for though nothing is new: a comparison has read what
    /// there was a while ago, and met what a look had missed since.
    pub(super) may_lack: bool,
    /// Whether it was compared, so that the versions of its documents are known.
    pub(super) is_compared: bool,
}

/// When a point in time was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    /// The checkpoint was asked for then,
    pub(super) asked: Instant,
    /// it was opened then,
    pub(super) opened: Instant,
    /// and what was done is visible after so long; at once where it is not said.
    pub(super) unrefreshed: Option<Duration>,
}

impl Known {
    /// A shard of which everything up to a number was taken.
    pub(super) fn new(place: u64, taken: i64) -> Known {
        Known { place, taken, waiting: Vec::new(), may_lack: false, is_compared: false }
    }

    /// The version of a document that an operation of this shard made.
    pub(super) fn version(&self, number: i64) -> Version {
        Version(self.place << NUMBER_BITS | number.unsigned_abs())
    }

    /// The number of the operation that made a version, where it is of this shard.
    pub(super) fn number(&self, version: Version) -> Option<i64> {
        let is_of_this = version.0 >> NUMBER_BITS == self.place;
        is_of_this.then_some((version.0 & ((1 << NUMBER_BITS) - 1)) as i64)
    }

    /// Takes everything up to a checkpoint as taken, which was asked for before a point in time was
    /// opened; where nothing was refreshed, up to one that was asked for long enough before that.
    pub(super) fn take(&mut self, checkpoint: i64, at: Opened) {
        let Some(unrefreshed) = at.unrefreshed else {
            self.waiting.clear();
            self.taken = self.taken.max(checkpoint);
            return;
        };
        self.waiting.push((at.asked, checkpoint));
        let is_visible = |(asked, _): &(Instant, i64)| {
            at.opened.saturating_duration_since(*asked) >= unrefreshed
        };
        let visible = self.waiting.partition_point(is_visible);
        if let Some((_, checkpoint)) = self.waiting.drain(..visible).next_back() {
            self.taken = self.taken.max(checkpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_refreshed_is_taken_once_it_was_visible_when_it_was_opened() {
        let begun = Instant::now();
        let at = |asked: u64, opened: u64| {
            let after = |seconds| begun + Duration::from_secs(seconds);
            let unrefreshed = Some(Duration::from_secs(6));
            Opened { asked: after(asked), opened: after(opened), unrefreshed }
        };
        let mut known = Known::new(1, -1);
        known.take(10, at(0, 1));
        known.take(20, at(4, 5));
        assert_eq!(known.taken, -1, "however long it took to read");
        known.take(30, at(6, 7));
        assert_eq!(known.taken, 10);
        known.take(40, at(10, 10));
        assert_eq!(known.taken, 20);
        known.take(50, Opened { unrefreshed: None, ..at(11, 11) });
        assert_eq!((known.taken, known.waiting.len()), (50, 0));
    }
}
