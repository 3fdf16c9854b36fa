//! What keeps a worker from reading on: a hold, an end, a rate.
//!
//! Shape: what is asked of the run in; how much may be read now out.
//!
//! Invariants: a run that ends by itself does so once every worker has read its inputs up to there
//! and owes nothing: what it leaves is whole.

use std::{
    num::NonZeroU64,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{Follower, inputs};
use crate::{
    engine::{Place, hold::Asked},
    source::{Bound, Input, PartitionId, Vector},
};

/// What was not read at a time may be read later, but no more than that of so long.
const UNREAD_MAX: Duration = Duration::from_millis(200);

/// For how long all workers are to be done before a run ends by itself.
const DONE_FOR: Duration = Duration::from_millis(500);

/// A rate at which a worker reads.
pub(super) struct Pace {
    a_second: f64,
    /// Events that may be read, and since when they gather.
    unread: f64,
    since: Instant,
}

impl Pace {
    /// The share of one of so many workers.
    pub(super) fn new(a_second: NonZeroU64, workers: usize) -> Pace {
        let a_second = a_second.get() as f64 / workers as f64;
        Pace { a_second, unread: 0.0, since: Instant::now() }
    }

    /// How many may be read now.
    fn allowed(&mut self) -> u64 {
        let now = Instant::now();
        let gathered = (now - self.since).as_secs_f64() * self.a_second;
        let most = (UNREAD_MAX.as_secs_f64() * self.a_second).max(1.0);
        self.unread = (self.unread + gathered).min(most);
        self.since = now;
        self.unread as u64
    }

    fn took(&mut self, events: u64) {
        self.unread -= events as f64;
    }
}

impl Follower<'_> {
    /// Reads only up to where the run ends by itself, where it does.
    pub(super) fn stop_at_end(&mut self) {
        let until = self.shared.start.as_ref().and_then(|start| start.begins.until.as_ref());
        self.ends_by_itself = until.is_some();
        if let Some(until) = until {
            let bound = |(place, offset): (usize, &u64)| {
                (Input::Events(PartitionId(place as u32)), Bound::from(*offset))
            };
            let vector: Vector = until.iter().enumerate().map(bound).collect();
            inputs::stop_at(&mut self.partitions, Some(&vector));
        }
    }

    /// Ends the run once all workers have done all up to there.
    pub(super) fn look_whether_done(&mut self) {
        let owes = || {
            let state = self.flow.state();
            state.waiting_rows() > 0 || state.owes()
        };
        let is_done = self.ends_by_itself
            && self.partitions.iter().all(|partition| partition.is_at_stop())
            && self.open.is_nothing()
            && self.unsealed.is_empty()
            && !owes();
        if is_done != self.is_done {
            // What comes by another worker may have it owe again.
            self.is_done = is_done;
            let one = 1 << self.local;
            let done = match is_done {
                true => self.shared.done.fetch_or(one, Ordering::Relaxed) | one,
                false => self.shared.done.fetch_and(!one, Ordering::Relaxed) & !one,
            };
            let are_all = done.count_ones() as usize == self.shared.job.workers;
            self.all_done = are_all.then(Instant::now);
        }
        // What is on its way to another worker has come by then, and been seen.
        if self.all_done.is_some_and(|since| since.elapsed() >= DONE_FOR) {
            let done = self.shared.done.load(Ordering::Relaxed);
            match done.count_ones() as usize == self.shared.job.workers {
                true => self.follow.end.store(true, Ordering::Relaxed),
                false => self.all_done = Some(Instant::now()),
            }
        }
    }

    /// Holds, or goes on, where that is asked anew; returns whether nothing is to be read.
    pub(super) fn is_to_pause(&mut self) -> bool {
        if let Some(asked) = self.shared.hold.news(&mut self.hold_seen) {
            let vector = match &asked {
                Asked::At(vector) => Some(&**vector),
                Asked::Nothing | Asked::Pause => None,
            };
            inputs::hold_at(&mut self.partitions, vector);
            if let Some(reference) = &mut self.reference {
                reference.hold_at(vector);
            }
            self.is_paused = asked == Asked::Pause;
        }
        self.is_paused
    }

    /// The pace of a worker, where the run has a rate.
    pub(super) fn pace(place: &Place, workers: usize) -> Option<Pace> {
        match place {
            Place::Kafka(run) => run.rate.map(|a_second| Pace::new(a_second, workers)),
            Place::Files(_) | Place::Own(_) => None,
        }
    }

    /// Up to how many lines the open epoch may hold now.
    pub(super) fn epoch_lines_now(&mut self) -> u64 {
        let most = self.shared.job.epoch_lines;
        match &mut self.pace {
            Some(pace) => most.min(self.open.lines + pace.allowed()),
            None => most,
        }
    }

    /// So many events were read.
    pub(super) fn took(&mut self, events: u64) {
        if let Some(pace) = &mut self.pace {
            pace.took(events);
        }
    }
}
