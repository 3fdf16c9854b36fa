//! Comparing: what the views of two dataflows say where both hold the same of every input.
//!
//! Shape: topics of both in, of the one that was not held up to an epoch; rows that only one has,
//! columns that are other, and the boards' numbers out.
//!
//! Invariants: of a key the newest record up to the epoch counts. A row that went on since then and
//! whose earlier record is compacted away is counted as such, and compared with nothing. What is
//! held in memory at a time is bounded: rows are taken by partition, and of a long one by parts of
//! its keys.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use super::{HistoryError, counts::Counting, known::Known};
use crate::{
    kafka::{Asker, Kafka},
    progress::epoch_of,
    spec::Spec,
    time::Epoch,
};

pub use super::counts::OtherGroup;

/// How many records of each side are held in memory at a time, as far as offsets tell.
const RECORDS_AT_ONCE: u64 = 300_000;

/// For how long after it was superseded a record stands for sure: the topics of views are made so
/// (`min.compaction.lag.ms`), with time in hand.
const COMPACTS_AFTER: Duration = Duration::from_secs(15);

/// A row as its record says it.
pub(super) type Row<'r> = BTreeMap<Cow<'r, str>, &'r RawValue>;

/// What is other between two dataflows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// By view.
    pub views: BTreeMap<String, ViewCompared>,
    /// By view of counts.
    pub counts: BTreeMap<String, CountsCompared>,
    /// Views that only the first of both has, and those that only the other one has.
    pub only_one: Vec<String>,
    /// See there.
    pub only_other: Vec<String>,
}

/// What is other in a view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ViewCompared {
    /// Rows that both have and that are equal.
    pub equal: u64,
    /// Rows that both have and that are other.
    pub changed: u64,
    /// Rows that only the first dataflow has, and keys of some.
    pub only_one: u64,
    /// See there.
    pub only_one_keys: Vec<String>,
    /// Rows that only the other one has, and keys of some.
    pub only_other: u64,
    /// See there.
    pub only_other_keys: Vec<String>,
    /// Rows that went on since the epoch in the dataflow that was not held, and of which the record
    /// of before is gone, or may be: they are not compared.
    pub overtaken: u64,
    /// Records that are no rows.
    pub no_rows: u64,
    /// By column in which rows are other.
    pub columns: BTreeMap<String, ColumnCompared>,
}

/// What is other in a column of the rows that both have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ColumnCompared {
    /// Rows in which both have a value, another one.
    pub changed: u64,
    /// Rows in which only the other dataflow has one.
    pub came: u64,
    /// Rows in which only the first dataflow has one.
    pub went: u64,
    /// Some of them: the row's key, and what both say, as JSON.
    pub examples: Vec<(String, Option<String>, Option<String>)>,
}

/// What is other in a view of counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CountsCompared {
    /// Groups that either has.
    pub groups: u64,
    /// Groups whose numbers are other,
    pub changed: u64,
    /// and some of them.
    pub examples: Vec<OtherGroup>,
}

impl Compared {
    /// Whether all was compared, and nothing is other.
    pub fn is_equal(&self) -> bool {
        let is_equal = |view: &ViewCompared| {
            let only = view.only_one + view.only_other;
            view.changed + only + view.no_rows + view.overtaken == 0
        };
        self.only_one.is_empty()
            && self.only_other.is_empty()
            && self.views.values().all(is_equal)
            && self.counts.values().all(|of| of.changed == 0)
    }
}

/// Records of a part of a partition, by key.
type Records = HashMap<Bytes, Bytes>;

/// A key, or a row.
type Bytes = Box<[u8]>;

/// One of the two.
pub struct Side<'s> {
    /// The dataflow.
    pub dataflow: &'s Known,
    /// Up to which epoch, and when it was looked which one; all, of the one that is held.
    pub until: Option<(Epoch, Instant)>,
}

/// Compares the views of two dataflows, and of each view of counts that `spec` has the numbers.
/// `told` hears how many records of how many were read.
///
/// # Errors
/// When brokers fail, or topics are cut otherwise.
pub fn compare(
    kafka: &Kafka,
    spec: &Spec,
    sides: [Side<'_>; 2],
    examples: usize,
    told: &mut dyn FnMut(u64, u64),
) -> Result<Compared, HistoryError> {
    fit(spec, &sides)?;
    let asker = kafka.asker()?;
    let [ones, others] = [0, 1].map(|side| sides[side].dataflow.topics(spec));
    let mut counting = Counting::of(spec);
    let only = |of: &BTreeMap<String, String>, views: &BTreeMap<String, String>| {
        of.keys().filter(|view| !views.contains_key(*view)).cloned().collect::<Vec<String>>()
    };
    let (only_one, only_other) = (only(&ones, &others), only(&others, &ones));
    let mut compared = Compared { only_one, only_other, ..Compared::default() };
    let (mut read, mut all) = (0, 0);
    let mut views = Vec::new();
    for (view, one) in &ones {
        let Some(other) = others.get(view) else { continue };
        let names = [one.clone(), other.clone()];
        let found = asker.identities(&names)?;
        let partitions = |name: &String| {
            let known = found.iter().find(|(of, ..)| of == name);
            known.map_or(0, |(_, _, partitions)| *partitions)
        };
        let partitions = (partitions(one), partitions(other));
        let [one, other] = names;
        if partitions.0 != partitions.1 {
            return Err(HistoryError::Partitions { one, other, partitions });
        }
        for partition in 0..partitions.0 {
            all += length(&asker, &one, partition)? + length(&asker, &other, partition)?;
        }
        views.push((view.clone(), [one, other], partitions.0));
    }
    for (view, topics, partitions) in views {
        let mut of_view = ViewCompared::default();
        let mut counts: Vec<&mut Counting> =
            counting.iter_mut().filter(|counts| counts.of == view).collect();
        for partition in 0..partitions {
            let [one, other] = &topics;
            let longer = length(&asker, one, partition)?.max(length(&asker, other, partition)?);
            let parts = longer.div_ceil(RECORDS_AT_ONCE).max(1);
            for part in 0..parts {
                let mut within = Within { kafka, partition, parts, part, read: 0 };
                let (mut of_one, mut overtaken) = within.records(one, sides[0].until)?;
                let (mut of_other, by_other) = within.records(other, sides[1].until)?;
                overtaken.extend(by_other);
                // One that neither has by then came later.
                overtaken.retain(|key| of_one.contains_key(key) || of_other.contains_key(key));
                of_one.retain(|key, _| of_other.contains_key(key) || !overtaken.contains(key));
                of_other.retain(|key, _| of_one.contains_key(key) || !overtaken.contains(key));
                of_view.overtaken += overtaken.len() as u64;
                read += within.read / parts;
                told(read.min(all), all);
                of_view.take(&mut of_one, of_other, examples, &mut counts);
            }
        }
        compared.views.insert(view, of_view);
    }
    for counts in counting.into_iter().filter(|counts| compared.views.contains_key(&counts.of)) {
        let name = counts.name.clone();
        let (groups, mut others) = counts.others();
        let changed = others.len() as u64;
        others.truncate(examples);
        compared.counts.insert(name, CountsCompared { groups, changed, examples: others });
    }
    Ok(compared)
}

/// That a key lies in the same partition on both sides.
fn fit(spec: &Spec, [one, other]: &[Side<'_>; 2]) -> Result<(), HistoryError> {
    let (one, other) = (one.dataflow, other.dataflow);
    let shard_key = |of: &Known| {
        let spec = of.spec(spec);
        spec.events.columns[usize::from(spec.events.shard_key.0)].name.clone()
    };
    let what = match (one.lead.shards == other.lead.shards, shard_key(one) == shard_key(other)) {
        (true, true) => return Ok(()),
        (false, _) => "the number of shards",
        (true, false) => "the shard key",
    };
    let (one, other) = (one.name.clone(), other.name.clone());
    Err(HistoryError::OtherShards { one, other, what })
}

fn length(asker: &Asker, topic: &str, partition: u32) -> Result<u64, HistoryError> {
    let (begin, end) = asker.extent(topic, partition)?;
    Ok(end - begin)
}

/// A part of a partition's keys.
struct Within<'w> {
    kafka: &'w Kafka,
    partition: u32,
    parts: u64,
    part: u64,
    /// How many records were read.
    read: u64,
}

impl Within<'_> {
    /// The newest record of each key, up to an epoch where one is given; and the keys that went on
    /// behind it, and of which no record up to there is left, or one that may not be the newest.
    fn records(
        &mut self,
        topic: &str,
        until: Option<(Epoch, Instant)>,
    ) -> Result<(Records, HashSet<Bytes>), HistoryError> {
        let (mut records, mut beyond) = (Records::new(), HashSet::new());
        self.kafka.scan(topic, self.partition, 0, &mut |taken| {
            self.read += 1;
            let Some(key) = taken.key() else { return true };
            if xxh3_64(key) % self.parts != self.part {
                return true;
            }
            let is_beyond = |until| epoch_of(&taken).is_some_and(|epoch| epoch > until);
            if until.is_some_and(|(until, _)| is_beyond(until)) {
                beyond.insert(key.into());
                return true;
            }
            match taken.value() {
                Some(value) => drop(records.insert(key.into(), value.into())),
                None => drop(records.remove(key)),
            }
            true
        })?;
        // Later a record may have been compacted away while an elder one was read.
        if until.is_some_and(|(_, since)| since.elapsed() >= COMPACTS_AFTER) {
            records.retain(|key, _| !beyond.contains(key));
        }
        beyond.retain(|key| !records.contains_key(key));
        Ok((records, beyond))
    }
}

impl ViewCompared {
    fn take(
        &mut self,
        of_one: &mut Records,
        of_other: Records,
        examples: usize,
        counts: &mut [&mut Counting],
    ) {
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        // In order, so that the examples are always the same.
        let mut others: Vec<(Bytes, Bytes)> = of_other.into_iter().collect();
        others.sort_unstable();
        for (key, other) in others {
            let Some(one) = of_one.remove(&key) else {
                self.only_other += 1;
                if self.only_other_keys.len() < examples {
                    self.only_other_keys.push(text(&key));
                }
                self.count(&other, 1, counts);
                continue;
            };
            self.count(&one, 0, counts);
            self.count(&other, 1, counts);
            match one == other {
                true => self.equal += 1,
                false => self.differ(&text(&key), &one, &other, examples),
            }
        }
        let mut left: Vec<(&Bytes, &Bytes)> = of_one.iter().collect();
        left.sort_unstable();
        for (key, one) in left {
            self.only_one += 1;
            if self.only_one_keys.len() < examples {
                self.only_one_keys.push(text(key));
            }
            self.count(one, 0, counts);
        }
    }

    fn count(&mut self, row: &[u8], side: usize, counts: &mut [&mut Counting]) {
        if counts.is_empty() {
            return;
        }
        match serde_json::from_slice::<Row<'_>>(row) {
            Ok(row) => counts.iter_mut().for_each(|counts| counts.count(&row, side)),
            Err(_) => self.no_rows += 1,
        }
    }

    fn differ(&mut self, key: &str, one: &[u8], other: &[u8], examples: usize) {
        let parsed = serde_json::from_slice::<Row<'_>>(one)
            .and_then(|one| Ok((one, serde_json::from_slice::<Row<'_>>(other)?)));
        let Ok((one, other)) = parsed else {
            self.no_rows += 1;
            return;
        };
        let mut is_other = false;
        let columns: Vec<&Cow<'_, str>> =
            one.keys().chain(other.keys().filter(|name| !one.contains_key(*name))).collect();
        for column in columns {
            let [before, after] =
                [&one, &other].map(|row| row.get(column).map(|value| value.get()));
            if before == after {
                continue;
            }
            is_other = true;
            let of_column = self.columns.entry(column.clone().into_owned()).or_default();
            match (before, after) {
                (None, _) => of_column.came += 1,
                (_, None) => of_column.went += 1,
                _ => of_column.changed += 1,
            }
            if of_column.examples.len() < examples {
                let owned = |value: Option<&str>| value.map(str::to_owned);
                of_column.examples.push((key.to_owned(), owned(before), owned(after)));
            }
        }
        // Columns in another order say the same.
        match is_other {
            true => self.changed += 1,
            false => self.equal += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(rows: &[(&str, &str)]) -> Records {
        rows.iter().map(|(key, row)| (key.as_bytes().into(), row.as_bytes().into())).collect()
    }

    #[test]
    fn rows_are_told_by_what_is_other() {
        let mut one = records(&[
            ("1", r#"{"A":1,"B":"x"}"#),
            ("2", r#"{"A":1}"#),
            ("3", r#"{"A":1,"C":2}"#),
            ("4", r#"{"A":4}"#),
        ]);
        let other = records(&[
            ("1", r#"{"B":"x","A":1}"#),
            ("2", r#"{"A":2,"B":"y"}"#),
            ("3", r#"{"A":1}"#),
            ("5", r#"{"A":5}"#),
        ]);
        let mut view = ViewCompared::default();
        view.take(&mut one, other, 1, &mut []);
        let counts = (view.equal, view.changed, view.only_one, view.only_other);
        assert_eq!(counts, (1, 2, 1, 1));
        assert_eq!((&*view.only_one_keys[0], &*view.only_other_keys[0]), ("4", "5"));
        let of = |name: &str| {
            let column = &view.columns[name];
            (column.changed, column.came, column.went)
        };
        assert_eq!((of("A"), of("B"), of("C")), ((1, 0, 0), (0, 1, 0), (0, 0, 1)));
        let example = ("2".to_owned(), Some("1".to_owned()), Some("2".to_owned()));
        assert_eq!(view.columns["A"].examples, [example]);
    }
}
