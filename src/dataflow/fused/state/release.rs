//! Release: what is older than the horizon is corrected no more, and its memory is let go.
//!
//! Shape: up to where partitions were read, in; rows out of memory, the oldest first.
//!
//! Which records are corrected is a matter of the vector alone, so it is the same in every run and
//! for any number of workers: not those that were made longer than the horizon before the newest
//! record that was read was written (`State::is_past`). Memory follows later, and shows in nothing
//! but the counts of what is held: a row goes once no partition can bring an event that is as old
//! (`Release::passed`), so that a latest view forgets none which could still be challenged.
//!
//! Invariants: rows go chunk by chunk in the order in which they came, once half of a chunk's may;
//! those that may not are appended again, as the newest of their keys. So rows that a chain names
//! stand up to a place in it, and none behind. Nothing goes while some rows of a key were sent
//! again and others not, or changes are not handed on.

use super::{Held, State, versions_of};
use crate::{
    dataflow::{
        fused::{changes::Changed, documents::VersionId},
        index::Place,
        slab::RowId,
    },
    row::Value,
    source::{Bound, Input, PartitionId},
    spec::plan::Horizon,
    time::Moment,
};

/// Clocks of brokers that follow each other in a partition differ by less than this.
const SLACK_MS: i64 = 24 * 60 * 60 * 1_000;

/// It is looked what may go each time so many parts of the horizon have passed.
const LOOKS: i64 = 256;

/// What may be let go.
pub(super) struct Release {
    horizon: Horizon,
    partitions: Vec<Read>,
    /// When the newest record that was read was written, in ms since 1970.
    newest_ms: i64,
    /// A horizon before it.
    past: Moment,
    /// When it was looked last, as `passed_ms`.
    looked_ms: i64,
}

/// Up to where a partition was read.
#[derive(Clone, Copy, Default)]
struct Read {
    /// When the last record was written, in ms since 1970.
    last_ms: Option<i64>,
    /// Nothing was behind it.
    is_at_end: bool,
}

impl Release {
    pub(super) fn new(horizon: Horizon, partitions: u32) -> Release {
        Release {
            horizon,
            partitions: vec![Read::default(); partitions as usize],
            newest_ms: i64::MIN,
            past: horizon.before(i64::MIN),
            looked_ms: i64::MIN,
        }
    }

    pub(super) fn reach(&mut self, bounds: &[(Input, Bound)], at_end: &[PartitionId]) {
        for (input, bound) in bounds {
            if let (Input::Events(partition), Some(last)) = (input, bound.last) {
                self.partitions[partition.0 as usize] =
                    Read { last_ms: Some(last.time_ms), is_at_end: false };
                self.newest_ms = self.newest_ms.max(last.time_ms);
            }
        }
        at_end.iter().for_each(|partition| self.partitions[partition.0 as usize].is_at_end = true);
        self.past = self.horizon.before(self.newest_ms);
    }

    /// The time in ms since 1970 before which no record comes any more; `None` while some partition
    /// was not heard of.
    fn passed_ms(&self) -> Option<i64> {
        let of = |read: &Read| if read.is_at_end { Some(self.newest_ms) } else { read.last_ms };
        let times = self.partitions.iter().map(of);
        let least = times.min_by_key(|time| time.unwrap_or(i64::MIN)).flatten();
        least.map(|ms| ms.saturating_sub(SLACK_MS))
    }
}

impl State {
    /// Lets go from now on what is older than the spec's horizon, of events in so many partitions.
    pub fn keep_within_horizon(&mut self, partitions: u32) {
        let horizon = self.spec.events.horizon;
        self.release = horizon.map(|horizon| Release::new(horizon, partitions));
    }

    /// Whether something is let go.
    pub fn has_horizon(&self) -> bool {
        self.release.is_some()
    }

    fn made(&self, row: RowId) -> Moment {
        let events = &self.spec.events;
        match events.layout.get(self.slab.row(row), events.time) {
            Some(Value::Moment(moment)) => moment,
            _ => unreachable!("every event says when it was made"),
        }
    }

    /// Whether a row is corrected no more.
    pub(super) fn is_past(&self, row: RowId) -> bool {
        self.release.as_ref().is_some_and(|release| self.made(row) < release.past)
    }

    /// Lets go of rows that nobody asks for any more. Returns the moment before which events were
    /// made that do not come any more, where it is time for others to look too.
    pub fn let_go(&mut self) -> Option<Moment> {
        let release = self.release.as_mut()?;
        let passed_ms = release.passed_ms()?;
        let step = release.horizon.ms() / LOOKS;
        if passed_ms < release.looked_ms.saturating_add(step)
            || !self.recorded.is_empty()
            || self.resends.is_amid_rows()
        {
            return None;
        }
        release.looked_ms = passed_ms;
        let passed = release.horizon.before(passed_ms);
        loop {
            let State { slab, spec, .. } = &*self;
            let oldest = slab.oldest(|row| spec.events.layout.row_bytes(slab.row(row)));
            let gone = oldest.iter().filter(|row| self.made(**row) < passed).count();
            if oldest.is_empty() || 2 * gone < oldest.len() {
                return Some(passed);
            }
            for row in oldest {
                match self.made(row) < passed {
                    true => self.let_go_row(row),
                    false => self.append_again(row),
                }
            }
            self.slab.let_go_oldest();
        }
    }

    fn let_go_row(&mut self, row: RowId) {
        let versions = versions_of(&self.slab, self.header, row);
        self.events -= 1;
        let State { slab, lookups, tallies, header, latest, copies, waiting_rows, .. } = &mut *self;
        let event = slab.row(row);
        if let Some(copies) = copies {
            copies.remove(event, row);
        }
        let held = Held { event, lookups, versions: &versions };
        tallies.add(Changed::Enriched, &held, -1);
        for (place, latest) in latest.iter_mut().enumerate() {
            let (word, bit) = header.is_latest(place);
            if slab.word(row, word) & bit != 0 {
                tallies.add(Changed::Latest(place), &held, -1);
                latest.rows.remove(latest.key.hash(event), |number| number == row.number());
            }
        }
        for (documents, version) in lookups.iter_mut().zip(&versions) {
            if *version == VersionId::NONE {
                continue;
            }
            let entry = documents.entry_of_version(*version);
            if entry.next_to_correct.is_some_and(|next| !slab.is_older(next, row)) {
                // All that are older are gone.
                entry.next_to_correct = entry.next_to_correct.filter(|next| *next != row);
                entry.left_to_correct -= 1;
                *waiting_rows -= 1;
            }
            documents.let_go(row, *version);
        }
    }

    fn append_again(&mut self, row: RowId) {
        let State { slab, spec, lookups, header, latest, copies, waiting_rows, .. } = self;
        let event = &mut self.key_bytes;
        event.clear();
        let bytes = slab.row(row);
        event.extend_from_slice(&bytes[..spec.events.layout.row_bytes(bytes)]);
        let again = slab.push(event);
        for word in 0..header.words(latest.len()) {
            slab.set_word(again, word, slab.word(row, word));
        }
        if let Some(copies) = copies {
            copies.replace(event, row, again);
        }
        for (place, documents) in lookups.iter_mut().enumerate() {
            let version = VersionId(slab.word(row, header.sent(place)));
            if version == VersionId::NONE {
                continue;
            }
            let entry = documents.entry_of_version(version);
            slab.set_word(again, header.older(place), RowId::to_word(entry.newest));
            entry.newest = Some(again);
            if entry.next_to_correct.is_some_and(|next| !slab.is_older(next, row)) {
                // It waits, and is the newest now: so all of its key are gone through again.
                entry.next_to_correct = Some(again);
                *waiting_rows += u64::from(entry.rows - entry.left_to_correct);
                entry.left_to_correct = entry.rows;
            }
        }
        for (place, latest) in latest.iter_mut().enumerate() {
            let (word, bit) = header.is_latest(place);
            if slab.word(row, word) & bit != 0 {
                let is_it = |number| number == row.number();
                if let Place::Taken(number) = latest.rows.place(latest.key.hash(event), is_it) {
                    *number = again.number();
                }
            }
        }
    }
}
