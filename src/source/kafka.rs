//! Partitions of a topic of events.
//!
//! Shape: a partition's records in, from an offset on, up to a bound where there is one: first what
//! is kept of it elsewhere (`Earlier`), then the topic's own.
//!
//! Invariants: a bound is reached when the record before it was handed out, one at or past it
//! came, or the end has stood there for a while; no record past it is handed out before the bound
//! is lifted. The record that an earlier run read last before a bound must be there again: another
//! one, or none, shows that the topic was emptied and filled anew (P8).
//!
//! Not here: what the bytes mean (`decode`).

use xxhash_rust::xxh3::Xxh3;

use super::{Bound, Last, Limit, PartitionId, Reached, Record, Source, SourceError};
use crate::kafka::{KafkaError, Next, PartitionReader, Taken};

/// A partition of a topic of events.
pub struct KafkaSource {
    partition: PartitionId,
    records: Bounded,
}

/// A partition's records, up to a bound where there is one.
pub(crate) struct Bounded {
    /// What is kept elsewhere of it, until that is read.
    earlier: Option<Box<dyn Earlier>>,
    /// The topic's own; none of one that is kept elsewhere alone.
    reader: Option<PartitionReader>,
    /// A record that was fetched and lies past the bound.
    ahead: Option<Owned>,
    bound: Bound,
    stop: Option<Bound>,
    /// Nothing at or past it is handed out, however long it takes to come.
    hold: Option<Bound>,
    /// Whether the stop was reached.
    is_reached: bool,
    /// Whether the record before a stop may be gone: compaction removes it.
    is_compacted: bool,
    /// Whether everything that is committed was handed out, when this was looked at last.
    is_at_end: bool,
}

struct Owned {
    offset: u64,
    time_ms: i64,
    key: Option<Box<[u8]>>,
    value: Option<Box<[u8]>>,
}

/// A record of a topic, as it is handed out.
#[derive(Clone, Copy)]
pub struct Handed<'r> {
    /// Where it stands.
    pub offset: u64,
    /// When it was written, in ms since 1970.
    pub time_ms: i64,
    /// Its key.
    pub key: Option<&'r [u8]>,
    /// Its value.
    pub value: Option<&'r [u8]>,
}

/// Records of a partition that are kept elsewhere: those before the offset from which the topic
/// itself is read.
pub trait Earlier {
    /// The next one; `None` behind the last.
    ///
    /// # Errors
    /// When it cannot be read.
    fn next(&mut self) -> Result<Option<Handed<'_>>, SourceError>;

    /// From which offset on the topic itself is read.
    fn to(&self) -> u64;
}

impl Bounded {
    /// A partition from an offset on, of which what is kept elsewhere comes first.
    pub(crate) fn new(
        earlier: Option<Box<dyn Earlier>>,
        reader: Option<PartitionReader>,
        from: u64,
        is_compacted: bool,
    ) -> Bounded {
        let bound = Bound::from(from);
        Bounded {
            earlier,
            reader,
            ahead: None,
            bound,
            stop: None,
            hold: None,
            is_reached: false,
            is_compacted,
            is_at_end: false,
        }
    }

    /// Reads up to a bound from now on; `None` lifts it.
    pub(crate) fn stop_at(&mut self, stop: Option<Bound>) {
        self.is_reached = stop.is_some_and(|stop| stop.offset <= self.bound.offset);
        self.stop = stop;
    }

    /// Hands out nothing at or past a bound from now on that another reader has come to; `None`
    /// lifts it. Unlike a stop it says nothing of what this one read once, so only records show
    /// that it was reached.
    pub(crate) fn hold_at(&mut self, hold: Option<Bound>) {
        self.hold = hold;
    }

    fn is_held(&self) -> bool {
        let is_past = |offset: u64| self.hold.is_some_and(|hold| offset >= hold.offset);
        let last = |bound: Bound| bound.last.map(|last| last.offset);
        let is_same = self.hold.and_then(last).is_some_and(|of| last(self.bound) == Some(of));
        is_same
            || is_past(self.bound.offset)
            || self.ahead.as_ref().is_some_and(|ahead| is_past(ahead.offset))
    }

    /// Whether the stop was reached.
    pub(crate) fn is_at_stop(&self) -> bool {
        self.is_reached
    }

    /// Whether everything that is committed was handed out.
    pub(crate) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Up to where it was read.
    pub(crate) fn bound(&self) -> Bound {
        self.bound
    }

    /// Hands out records; returns how many, their bytes, and whether there may be more already.
    pub(crate) fn read(
        &mut self,
        limit: Limit,
        take: &mut dyn FnMut(Handed<'_>),
    ) -> Result<(u64, u64, bool), SourceError> {
        let (mut records, mut bytes) = (0, 0);
        while records < limit.records && bytes < limit.bytes {
            if self.is_reached || self.is_held() {
                return Ok((records, bytes, false));
            }
            let Bounded { earlier, reader, ahead, bound, stop, hold, is_at_end, .. } = self;
            let from_there = earlier.as_ref().map(|earlier| earlier.to());
            let kept = match (&ahead, earlier) {
                (None, Some(earlier)) => earlier.next()?,
                _ => None,
            };
            if let (None, None, Some(to)) = (&ahead, &kept, from_there) {
                self.earlier = None;
                self.is_at_end = self.reader.is_none();
                self.bound.offset = self.bound.offset.max(to);
                if self.stop.is_some_and(|stop| stop.offset <= to) {
                    self.reach()?;
                }
                continue;
            }
            let found = match (ahead.take(), kept) {
                (Some(ahead), _) => Found::Ahead(ahead),
                (None, Some(kept)) => Found::Kept(kept),
                (None, None) => match look(reader)? {
                    Next::Record(taken) => Found::New(taken),
                    // Each end that the client came to stands in the queue, and more behind it.
                    Next::End if stop.is_none() => {
                        *is_at_end = true;
                        continue;
                    }
                    // The end that was seen before still stands: all bounds of an earlier run lie
                    // before it, though what came last before them may be compacted away.
                    Next::Nothing if stop.is_none() || !*is_at_end => {
                        return Ok((records, bytes, false));
                    }
                    // Of a bound that was read once before, the end cannot lie before it.
                    Next::Nothing | Next::End => {
                        *is_at_end = true;
                        if reader.as_ref().is_none_or(PartitionReader::stands_at_end) {
                            self.reach()?;
                        }
                        return Ok((records, bytes, false));
                    }
                },
            };
            *is_at_end = false;
            let handed = found.handed();
            if hold.is_some_and(|hold| handed.offset >= hold.offset) {
                self.ahead = Some(found.into_owned());
                return Ok((records, bytes, false));
            }
            if stop.is_some_and(|stop| handed.offset >= stop.offset) {
                let owned = found.into_owned();
                self.ahead = Some(owned);
                self.reach()?;
                return Ok((records, bytes, true));
            }
            let last = Last::of(&handed);
            records += 1;
            bytes +=
                (handed.value.map_or(0, <[u8]>::len) + handed.key.map_or(0, <[u8]>::len)) as u64;
            take(handed);
            let next = last.offset + 1;
            *bound = Bound { offset: next, last: Some(last) };
            if let Some(stop) = *stop
                && stop.last.is_some_and(|known| known.offset == last.offset)
            {
                if stop.last != Some(last) {
                    return Err(self.other());
                }
                if next >= stop.offset {
                    self.is_reached = true;
                }
            }
        }
        Ok((records, bytes, true))
    }

    /// The stop is reached without the record before it having come just now.
    fn reach(&mut self) -> Result<(), SourceError> {
        let Some(stop) = self.stop else { return Ok(()) };
        let is_seen =
            stop.last.is_none() || stop.last.map(|l| l.offset) == self.bound.last.map(|l| l.offset);
        if !is_seen && !self.is_compacted {
            return Err(self.other());
        }
        self.bound.offset = self.bound.offset.max(stop.offset);
        self.is_reached = true;
        Ok(())
    }

    fn other(&self) -> SourceError {
        let stop = self.stop.expect("only what stands before a stop is known");
        let reader = self.reader.as_ref();
        SourceError::OtherTopic {
            topic: reader.map_or_else(|| "of the archive".to_owned(), |of| of.topic().to_owned()),
            partition: reader.map_or(0, PartitionReader::partition),
            offset: stop.last.map_or(stop.offset, |last| last.offset),
        }
    }
}

/// What the topic has next: nothing more, where all is kept elsewhere.
fn look(reader: &mut Option<PartitionReader>) -> Result<Next<'_>, KafkaError> {
    reader.as_mut().map_or(Ok(Next::Nothing), PartitionReader::look)
}

enum Found<'m> {
    Kept(Handed<'m>),
    New(Taken<'m>),
    Ahead(Owned),
}

impl Found<'_> {
    fn handed(&self) -> Handed<'_> {
        match self {
            Found::Kept(kept) => *kept,
            Found::New(taken) => Handed {
                offset: taken.offset(),
                time_ms: taken.time_ms(),
                key: taken.key(),
                value: taken.value(),
            },
            Found::Ahead(Owned { offset, time_ms, key, value }) => Handed {
                offset: *offset,
                time_ms: *time_ms,
                key: key.as_deref(),
                value: value.as_deref(),
            },
        }
    }

    fn into_owned(self) -> Owned {
        match self {
            Found::Ahead(owned) => owned,
            Found::Kept(Handed { offset, time_ms, key, value }) => {
                Owned { offset, time_ms, key: key.map(Box::from), value: value.map(Box::from) }
            }
            Found::New(taken) => Owned {
                offset: taken.offset(),
                time_ms: taken.time_ms(),
                key: taken.key().map(Box::from),
                value: taken.value().map(Box::from),
            },
        }
    }
}

impl Last {
    /// What is remembered of a record that was read last.
    pub fn of(record: &Handed<'_>) -> Last {
        let mut hasher = Xxh3::new();
        hasher.update(record.key.unwrap_or_default());
        hasher.update(record.value.unwrap_or_default());
        Last { offset: record.offset, time_ms: record.time_ms, hash: hasher.digest() }
    }
}

impl KafkaSource {
    /// A partition that is read from an offset on; what is kept elsewhere of it comes first.
    pub fn new(
        partition: PartitionId,
        earlier: Option<Box<dyn Earlier>>,
        reader: Option<PartitionReader>,
        from: u64,
    ) -> KafkaSource {
        KafkaSource { partition, records: Bounded::new(earlier, reader, from, false) }
    }
}

impl Source for KafkaSource {
    fn partition(&self) -> PartitionId {
        self.partition
    }

    fn read(
        &mut self,
        limit: Limit,
        take: &mut dyn FnMut(Record<'_>),
    ) -> Result<Reached, SourceError> {
        let read = self.records.read(limit, &mut |Handed { offset, time_ms, key, value }| {
            // A record without a value is no event, and becomes a dead letter of no bytes.
            let bytes = value.unwrap_or_default();
            take(Record { offset, key, time_ms: Some(time_ms), bytes });
        });
        let (records, bytes, more) = read?;
        Ok(Reached { bound: self.records.bound(), records, bytes, more, ended: false })
    }

    fn stop_at(&mut self, stop: Option<Bound>) {
        self.records.stop_at(stop);
    }

    fn is_at_stop(&self) -> bool {
        self.records.is_at_stop()
    }

    fn hold_at(&mut self, hold: Option<Bound>) {
        self.records.hold_at(hold);
    }

    fn is_at_end(&self) -> bool {
        self.records.is_at_end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records at these offsets, kept elsewhere than in a topic.
    struct Kept(Vec<u64>);

    impl Earlier for Kept {
        fn next(&mut self) -> Result<Option<Handed<'_>>, SourceError> {
            let offset = if self.0.is_empty() { None } else { Some(self.0.remove(0)) };
            let handed = |offset| Handed { offset, time_ms: 1, key: None, value: Some(b"x") };
            Ok(offset.map(handed))
        }

        fn to(&self) -> u64 {
            10
        }
    }

    fn bounded(offsets: &[u64]) -> Bounded {
        Bounded::new(Some(Box::new(Kept(offsets.to_vec()))), None, 0, false)
    }

    fn read(records: &mut Bounded) -> Vec<u64> {
        let mut read = Vec::new();
        let limit = Limit { records: 100, bytes: 100 };
        records.read(limit, &mut |handed| read.push(handed.offset)).expect("it can be read");
        read
    }

    #[test]
    fn hold_lets_nothing_past_it_and_loses_nothing() {
        let mut records = bounded(&[0, 1, 3, 5]);
        // Where one that was read before ends, nothing is lost either.
        records.hold_at(Some(Bound::from(0)));
        assert!(read(&mut records).is_empty());
        records.hold_at(Some(Bound::from(3)));
        assert_eq!(read(&mut records), [0, 1]);
        assert!(read(&mut records).is_empty(), "it is held");
        assert_eq!(records.bound().offset, 2, "what was fetched ahead is not read");
        // The same last record shows that all before the bound was read.
        let last = records.bound().last;
        records.hold_at(Some(Bound { offset: 9, last }));
        assert!(read(&mut records).is_empty());
        records.hold_at(None);
        assert_eq!(read(&mut records), [3, 5]);
        assert_eq!(records.bound().offset, 10, "all that was kept is read");
        assert!(records.is_at_end(), "there is no topic behind it");
    }

    #[test]
    fn stop_is_reached_where_all_is_kept_elsewhere() {
        let mut records = bounded(&[0, 4]);
        records.stop_at(Some(Bound::from(4)));
        assert_eq!((read(&mut records), records.is_at_stop()), (vec![0], true));
        records.stop_at(Some(Bound::from(10)));
        assert_eq!((read(&mut records), records.is_at_stop()), (vec![4], true));
        let mut none = Bounded::new(None, None, 10, false);
        none.stop_at(Some(Bound::from(10)));
        assert!(read(&mut none).is_empty() && none.is_at_stop());
    }
}
