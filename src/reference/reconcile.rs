//! What a log says of a source's documents, held against what the system of record says.
//!
//! Shape: upserts and tombstones of a system in; of those, the ones that the log says otherwise
//! out, in batches.
//!
//! Invariants: only true differences go out, and of each document only what was said last; a
//! deletion that was found by comparison goes out only if it is still found once its grace has
//! passed, and only while the guard lets it. What is said again of a document takes back its
//! deletion. A batch changes what is held once it is known to be written, not before.
//!
//! Not here: reading systems (`feed`), and writing the log (`feed::desk`).

use std::{
    collections::HashMap,
    mem,
    time::{Duration, Instant},
};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// A version of a document, in its system's own count; greater is later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// What is held of a document that the log knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    /// Of what the log says.
    hash: u64,
    /// The newest one that was seen.
    version: Version,
    /// The comparison in which it was last seen.
    seen: u32,
}

/// What is to be written of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// It says this, as JSON.
    Upsert(Version, Vec<u8>),
    /// It is no more.
    Tombstone,
}

/// Documents and what is to be written of them.
pub type Batch = Vec<(Box<str>, Content)>;

/// How much may be deleted without the operator's word: within a day one document in so many, and
/// so many in any case. What was deleted is forgotten evenly over the day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guard {
    /// The share of the documents that may go, 0 to 1; 1 guards nothing.
    pub share: f64,
    /// How many may go whatever the share is.
    pub least: u64,
}

impl Default for Guard {
    fn default() -> Guard {
        Guard { share: 0.05, least: 20 }
    }
}

/// How much of what the guard lets is used up, at a moment in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Deletions that are not forgotten yet.
    pub deletions: f64,
    /// The moment.
    pub at: u64,
}

/// More would be deleted than the guard lets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

const DAY_SECONDS: f64 = 86_400.0;

impl Guard {
    /// Whether so many of so many documents may be deleted now; takes them as deleted where so.
    ///
    /// # Errors
    /// Where they may not.
    pub fn pass(&self, gone: u64, held: u64, spent: &mut Spent, now: u64) -> Result<(), TooMany> {
        if self.share >= 1.0 {
            return Ok(());
        }
        let most = (held as f64 * self.share).max(self.least as f64);
        let forgotten = most * now.saturating_sub(spent.at) as f64 / DAY_SECONDS;
        let before = (spent.deletions - forgotten).max(0.0);
        if before + gone as f64 > most {
            return Err(TooMany);
        }
        *spent = Spent { deletions: before + gone as f64, at: now };
        Ok(())
    }
}

/// The documents of a source, as its log says, and what is to be written.
#[derive(Debug, Default)]
pub struct Reconcile {
    held: HashMap<Box<str>, Held>,
    /// In the order in which it was said; of a document what was said last.
    pending: IndexMap<Box<str>, Content>,
    /// Documents that the source has and that cannot be taken: nothing of them is in the log, and
    /// what is counted in the source counts them.
    refused: HashMap<Box<str>, Held>,
    /// Documents that were missed, and since when.
    missed: HashMap<Box<str>, Instant>,
    comparison: u32,
}

impl Reconcile {
    /// Takes what the log says of a document.
    pub fn learn(&mut self, id: &str, version: Version, document: &[u8]) {
        let held = Held { hash: xxh3_64(document), version, seen: self.comparison };
        self.held.insert(id.into(), held);
    }

    /// Takes that the log says that a document is no more.
    pub fn unlearn(&mut self, id: &str) {
        self.held.remove(id);
    }

    /// How many documents the log holds.
    pub fn held(&self) -> u64 {
        self.held.len() as u64
    }

    /// How many of them were missed, and not deleted yet.
    pub fn missed(&self) -> u64 {
        self.missed.len() as u64
    }

    /// Whether a document was said since the comparison began.
    pub fn is_met(&self, id: &str) -> bool {
        self.held.get(id).is_some_and(|held| held.seen == self.comparison)
    }

    /// Those that were not said since the comparison began, there or gone.
    pub fn unmet(&self) -> impl Iterator<Item = &str> {
        let unmet = self.held.iter().filter(|(_, held)| held.seen != self.comparison);
        unmet.map(|(id, _)| &**id)
    }

    /// Whether a document is missed.
    pub fn is_missed(&self, id: &str) -> bool {
        self.missed.contains_key(id)
    }

    /// Forgets what is to be written.
    pub fn forget_pending(&mut self) {
        self.pending.clear();
    }

    /// Forgets what was missed; returns how many that were.
    pub fn forget_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed).len() as u64
    }

    /// How many documents are to be written.
    pub fn pending(&self) -> u64 {
        self.pending.len() as u64
    }

    /// The version of a document that was seen last.
    pub fn version(&self, id: &str) -> Option<Version> {
        self.held.get(id).or_else(|| self.refused.get(id)).map(|held| held.version)
    }

    /// Versions and ids of the documents that the source has, as far as is known, in no order:
    /// those that are held and not missed, and those that were refused.
    pub fn versions(&self) -> impl Iterator<Item = (Version, &str)> + Clone {
        let is_there = |id: &str| self.missed.is_empty() || !self.missed.contains_key(id);
        let held = self.held.iter().filter(move |(id, _)| is_there(id));
        held.chain(&self.refused).map(|(id, held)| (held.version, &**id))
    }

    /// Takes what a document says now.
    pub fn upsert(&mut self, id: &str, version: Version, document: &[u8]) {
        if !self.missed.is_empty() {
            self.missed.remove(id);
        }
        if !self.refused.is_empty() {
            self.refused.remove(id);
        }
        if let Some(held) = self.held.get_mut(id) {
            held.seen = self.comparison;
            if held.hash == xxh3_64(document) {
                held.version = version;
                self.pending.swap_remove(id);
                return;
            }
        }
        self.pending.insert(id.into(), Content::Upsert(version, document.to_vec()));
    }

    /// Begins a comparison: whatever is not said from now on is missed at its end.
    pub fn begin_comparison(&mut self) {
        self.comparison += 1;
    }

    /// Forgets which versions were seen: those of an earlier time of the source say nothing of this
    /// one.
    pub fn forget_versions(&mut self) {
        self.held.values_mut().for_each(|held| held.version = Version::default());
        self.refused.clear();
    }

    /// Says that a document is there in that version, and cannot be taken: what is held of it
    /// stands.
    pub fn refuse(&mut self, id: &str, version: Version) {
        match self.held.contains_key(id) {
            true => self.saw(id, version),
            false => {
                let held = Held { hash: 0, version, seen: self.comparison };
                self.refused.insert(id.into(), held);
            }
        }
    }

    /// Says that a document is there in that version, which says nothing that counts.
    pub fn saw(&mut self, id: &str, version: Version) {
        if let Some(held) = self.held.get_mut(id) {
            held.seen = self.comparison;
            held.version = version;
            self.missed.remove(id);
        } else if let Some(refused) = self.refused.get_mut(id) {
            (refused.seen, refused.version) = (self.comparison, version);
        }
    }

    /// Ends a comparison: what was not said since its begin is missed from now on.
    pub fn end_comparison(&mut self, now: Instant) {
        let (comparison, missed) = (self.comparison, &mut self.missed);
        for (id, _) in self.held.iter().filter(|(_, held)| held.seen != comparison) {
            missed.entry(id.clone()).or_insert(now);
        }
        self.refused.retain(|_, refused| refused.seen == comparison);
    }

    /// Says that a document was missed.
    pub fn miss(&mut self, id: &str, now: Instant) {
        self.refused.remove(id);
        self.pending.swap_remove(id);
        if self.held.contains_key(id) {
            self.missed.entry(id.into()).or_insert(now);
        }
    }

    /// Takes that the source says that a document is no more: it is missed, and was said.
    pub fn say_gone(&mut self, id: &str, now: Instant) {
        self.miss(id, now);
        if let Some(held) = self.held.get_mut(id) {
            held.seen = self.comparison;
        }
    }

    /// Deletes what was missed for so long, if the guard lets it; returns how many.
    ///
    /// # Errors
    /// Where it does not: nothing is deleted then.
    pub fn delete_missed(
        &mut self,
        grace: Duration,
        now: Instant,
        pass: impl FnOnce(u64, u64) -> Result<(), TooMany>,
    ) -> Result<u64, TooMany> {
        let is_due = |since: &Instant| now.saturating_duration_since(*since) >= grace;
        let due = self.missed.values().filter(|since| is_due(since)).count() as u64;
        if due == 0 {
            return Ok(0);
        }
        pass(due, self.held())?;
        for (id, _) in self.missed.extract_if(|_, since| is_due(since)) {
            self.pending.insert(id, Content::Tombstone);
        }
        Ok(due)
    }

    /// The next of what is to be written, within limits; empty once there is no more.
    pub fn take_batch(&mut self, records_max: usize, bytes_max: usize) -> Batch {
        let mut batch = Batch::new();
        let mut bytes = 0;
        let mut taken = 0;
        for (id, content) in &self.pending {
            if batch.len() >= records_max || bytes >= bytes_max {
                break;
            }
            taken += 1;
            if self.is_other(id, content) {
                if let Content::Upsert(_, document) = content {
                    bytes += document.len();
                }
                batch.push((id.clone(), content.clone()));
            }
        }
        drop(self.pending.drain(..taken));
        batch
    }

    /// Whether the log says otherwise.
    pub fn is_other(&self, id: &str, content: &Content) -> bool {
        match (self.held.get(id), content) {
            (Some(held), Content::Upsert(_, document)) => held.hash != xxh3_64(document),
            (None, Content::Upsert(..)) => true,
            (held, Content::Tombstone) => held.is_some(),
        }
    }

    /// Takes that a batch is written.
    pub fn wrote(&mut self, batch: Batch) {
        for (id, content) in batch {
            match content {
                Content::Upsert(version, document) => {
                    let hash = xxh3_64(&document);
                    self.held.insert(id, Held { hash, version, seen: self.comparison });
                }
                Content::Tombstone => drop(self.held.remove(&id)),
            }
        }
    }

    /// Takes those of a batch as written that the log says already; leaves the others.
    pub fn retain_others(&mut self, batch: &mut Batch) {
        for (id, content) in batch.iter() {
            if let Content::Upsert(version, _) = content
                && !self.is_other(id, content)
            {
                self.saw(id, *version);
            }
        }
        batch.retain(|(id, content)| self.is_other(id, content));
    }

    /// Takes what the log says as it is read anew, after it became unclear what was written.
    pub fn relearn(&mut self, log: Reconcile) {
        let before = mem::replace(&mut self.held, log.held);
        for (id, held) in &mut self.held {
            // Nothing but what was under way can be other; what the source says is known already.
            let known = before.get(id);
            held.seen = known.map_or(self.comparison, |known| known.seen);
            held.version = known.map_or(held.version, |known| known.version);
        }
        let held = &self.held;
        self.missed.retain(|id, _| held.contains_key(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn guard_counts_what_went_within_a_day() {
        let (guard, mut spent) = (Guard::default(), Spent::default());
        assert_eq!(guard.pass(30, 1_000, &mut spent, DAY), Ok(()));
        assert_eq!(guard.pass(21, 1_000, &mut spent, DAY), Err(TooMany));
        assert_eq!(guard.pass(20, 1_000, &mut spent, DAY), Ok(()));
        assert_eq!(guard.pass(1, 1_000, &mut spent, DAY), Err(TooMany));
        // Half a day later half of it is forgotten.
        assert_eq!(guard.pass(26, 1_000, &mut spent, DAY + DAY / 2), Err(TooMany));
        assert_eq!(guard.pass(25, 1_000, &mut spent, DAY + DAY / 2), Ok(()));
        let none = Guard { share: 1.0, least: 0 };
        assert_eq!(none.pass(u64::MAX, 1, &mut Spent::default(), 0), Ok(()));
    }

    fn batch(reconcile: &mut Reconcile) -> Vec<String> {
        let batch = reconcile.take_batch(100, 1_000);
        let said = |(id, content): &(Box<str>, Content)| match content {
            Content::Upsert(_, document) => {
                format!("{id}={}", str::from_utf8(document).expect("text"))
            }
            Content::Tombstone => format!("-{id}"),
        };
        let said = batch.iter().map(said).collect();
        reconcile.wrote(batch);
        said
    }

    #[test]
    fn only_what_is_other_is_written_and_of_each_document_what_was_said_last() {
        let mut reconcile = Reconcile::default();
        reconcile.learn("a", Version(1), b"A");
        reconcile.learn("b", Version(2), b"B");
        reconcile.upsert("a", Version(3), b"A");
        reconcile.upsert("b", Version(4), b"C");
        reconcile.upsert("b", Version(5), b"D");
        reconcile.upsert("c", Version(6), b"E");
        reconcile.miss("c", Instant::now());
        assert_eq!(batch(&mut reconcile), ["b=D"]);
        assert_eq!(reconcile.version("a"), Some(Version(3)));
        assert_eq!(reconcile.version("b"), Some(Version(5)));
        // There and back again within a batch is nothing.
        reconcile.upsert("a", Version(7), b"Z");
        reconcile.upsert("a", Version(8), b"A");
        reconcile.miss("nobody", Instant::now());
        assert!(batch(&mut reconcile).is_empty());
    }

    #[test]
    fn what_is_missed_goes_after_its_grace_unless_it_comes_back() {
        let (mut reconcile, now) = (Reconcile::default(), Instant::now());
        for id in ["a", "b", "c"] {
            reconcile.learn(id, Version(1), b"A");
        }
        reconcile.begin_comparison();
        reconcile.upsert("a", Version(1), b"A");
        reconcile.end_comparison(now);
        assert_eq!((reconcile.held(), reconcile.missed()), (3, 2));
        let grace = Duration::from_secs(5);
        let go = |reconcile: &mut Reconcile, at| {
            reconcile.delete_missed(grace, now + Duration::from_secs(at), |_, _| Ok(()))
        };
        assert_eq!(go(&mut reconcile, 4), Ok(0));
        reconcile.upsert("b", Version(2), b"A");
        assert_eq!(go(&mut reconcile, 5), Ok(1));
        assert_eq!(batch(&mut reconcile), ["-c"]);
        assert_eq!(reconcile.versions().count(), 2);
    }

    #[test]
    fn what_was_refused_is_there_and_is_not_in_the_log() {
        let (mut reconcile, now) = (Reconcile::default(), Instant::now());
        reconcile.learn("a", Version(1), b"A");
        reconcile.begin_comparison();
        reconcile.refuse("a", Version(2));
        reconcile.refuse("b", Version(3));
        reconcile.end_comparison(now);
        assert_eq!((reconcile.held(), reconcile.missed()), (1, 0));
        assert_eq!(reconcile.versions().count(), 2);
        assert_eq!(reconcile.version("b"), Some(Version(3)));
        assert!(batch(&mut reconcile).is_empty());
        // It goes, in a look or in a comparison, or can be taken.
        reconcile.miss("b", now);
        assert_eq!((reconcile.versions().count(), reconcile.missed()), (1, 0));
        reconcile.refuse("b", Version(4));
        reconcile.upsert("b", Version(5), b"B");
        assert_eq!(batch(&mut reconcile), ["b=B"]);
        reconcile.refuse("c", Version(6));
        reconcile.begin_comparison();
        reconcile.saw("c", Version(6));
        reconcile.end_comparison(now);
        assert_eq!(reconcile.version("c"), Some(Version(6)));
        reconcile.begin_comparison();
        reconcile.end_comparison(now);
        assert_eq!(reconcile.version("c"), None);
    }

    #[test]
    fn a_batch_that_was_in_doubt_is_known_by_what_the_log_says() {
        let mut reconcile = Reconcile::default();
        reconcile.learn("a", Version(1), b"A");
        reconcile.learn("b", Version(1), b"A");
        reconcile.upsert("a", Version(2), b"B");
        reconcile.upsert("b", Version(3), b"B");
        let mut batch = reconcile.take_batch(100, 1_000);
        // Of two records one is there after all.
        let mut log = Reconcile::default();
        log.learn("a", Version(2), b"B");
        log.learn("b", Version(1), b"A");
        reconcile.relearn(log);
        reconcile.retain_others(&mut batch);
        assert_eq!(batch.iter().map(|(id, _)| &**id).collect::<Vec<_>>(), ["b"]);
        assert_eq!(reconcile.version("a"), Some(Version(2)));
        reconcile.wrote(batch);
        assert_eq!(reconcile.version("b"), Some(Version(3)));
    }
}
