//! Since when nothing is owed: a time after which everything was written that a worker's shards may
//! still owe corrections for.
//!
//! Shape: looks at where the reference log ends, and `settled`, in; that time out.
//!
//! Compaction sweeps a deletion away some time after it was written, and leaves no trace of it. So
//! a shard that owes nothing below an offset is not safe by that alone: what was deleted past it
//! must be young. The only proof is a look at the log that found its end at or below that offset:
//! what stands past it was written after that look.
//!
//! Times are those of the host that looks, in ms since 1970. They are held against the brokers'
//! with a day in hand (`DAY_MS`), so clocks may differ by that.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

/// What is kept in hand of the time for which compaction leaves a record alone.
const DAY_MS: i64 = 24 * 3600 * 1000;

/// A look at where the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnd {
    /// A time before the brokers were asked.
    pub asked_ms: i64,
    /// The offset that they would give next, transactions that are open included.
    pub end: u64,
}

/// The newest look, for all workers of a process.
#[derive(Debug, Default)]
pub struct LogEnds(Mutex<Option<LogEnd>>);

/// Since when a worker's shards owe nothing.
#[derive(Clone, Copy, Debug)]
pub struct SettledSince {
    since_ms: i64,
    /// A look that found an end up to which something is still owed.
    awaited: Option<LogEnd>,
}

impl LogEnds {
    /// With a look that was made before, where one was.
    pub fn new(look: Option<LogEnd>) -> LogEnds {
        LogEnds(Mutex::new(look))
    }

    /// Takes a look.
    pub fn set(&self, look: LogEnd) {
        *self.0.lock().expect("nobody panics while holding it") = Some(look);
    }

    fn newest(&self) -> Option<LogEnd> {
        *self.0.lock().expect("nobody panics while holding it")
    }
}

impl SettledSince {
    /// As it was recorded last.
    pub fn new(since_ms: i64) -> SettledSince {
        SettledSince { since_ms, awaited: None }
    }

    /// Takes that no correction is owed below an offset of the log.
    pub fn settled(&mut self, settled: u64, looks: &LogEnds) {
        for look in self.awaited.take().into_iter().chain(looks.newest()) {
            // Behind what was read last the marker of its transaction may stand.
            match look.end <= settled + 1 {
                true => self.since_ms = self.since_ms.max(look.asked_ms),
                // The eldest is reached first.
                false => self.awaited = self.awaited.or(Some(look)),
            }
        }
    }

    /// The time, in ms since 1970.
    pub fn since_ms(&self) -> i64 {
        self.since_ms
    }
}

/// Whether a deletion that was written at a time, or later, may have been swept away, where
/// compaction leaves alone what is younger than `lag_ms`.
pub fn may_be_swept(time_ms: i64, now_ms: i64, lag_ms: i64) -> bool {
    // One that is yet to come is of a clock that went wrong, and says nothing.
    time_ms < now_ms - (lag_ms - DAY_MS).max(0) || time_ms > now_ms + DAY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_look_whose_end_is_reached_counts() {
        let looks = LogEnds::default();
        let mut since = SettledSince::new(5);
        let mut after = |settled, look: Option<(i64, u64)>| {
            look.into_iter().for_each(|(asked_ms, end)| looks.set(LogEnd { asked_ms, end }));
            since.settled(settled, &looks);
            since.since_ms()
        };
        assert_eq!(after(10, None), 5);
        assert_eq!(after(10, Some((10, 12))), 5);
        assert_eq!(after(11, Some((20, 12))), 20, "behind it is a marker");
        // Nobody looks any more, as while brokers are gone: what is reached then says nothing.
        assert_eq!(after(500, None), 20);
        // What grows under a correction that takes long does not put it off for ever.
        assert_eq!(after(500, Some((30, 600))), 20);
        assert_eq!(after(598, Some((40, 900))), 20);
        assert_eq!(after(600, Some((50, 1_000))), 30);
        assert_eq!(after(1_000, None), 50);
        // One whose elder clock was ahead.
        assert_eq!(after(1_000, Some((45, 1_000))), 50);
    }

    #[test]
    fn a_day_is_kept_in_hand() {
        let now = 100 * DAY_MS;
        assert!(!may_be_swept(now - 6 * DAY_MS, now, 7 * DAY_MS));
        assert!(may_be_swept(now - 6 * DAY_MS - 1, now, 7 * DAY_MS));
        assert!(may_be_swept(now - 1, now, 0));
        assert!(may_be_swept(now + 2 * DAY_MS, now, 7 * DAY_MS), "a clock was wrong");
    }
}
