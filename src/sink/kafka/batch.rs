//! A batch: what goes into one transaction.
//!
//! Shape: records of sealed epochs in, in their order; outgoing records with their headers out.
//!
//! Invariants: keys and values stand one after the other in one piece of memory, which is used
//! again for the next batch, so that a record costs no allocation here.

use std::ops::Range;

use super::{Topic, Topics};
use crate::{
    kafka::{Outgoing, Send, WriteError},
    progress::Progress,
    source::DeadLetter,
    spec::Spec,
    time::Epoch,
};

/// Records that wait for their transaction, or are in it.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    records: Vec<Slot>,
    letters: Vec<Letter>,
    /// The epochs of the records, as text, in order.
    epochs: Vec<(Epoch, String)>,
    progress: Option<Progress>,
}

/// Where a record of a view stands.
struct Slot {
    /// The view's place among the views.
    view: u16,
    partition: u32,
    /// Among `epochs`.
    epoch: u32,
    key: Range<usize>,
    value: Range<usize>,
}

/// A dead letter with its headers, as text.
struct Letter {
    partition: u32,
    epoch: u32,
    /// `None` where the event had no key.
    key: Option<Range<usize>>,
    value: Range<usize>,
    reason: &'static str,
    column: Option<usize>,
    input_partition: String,
    offset: String,
    time_ms: String,
    /// How many bytes key and event had, where they are not all here; else nothing.
    cut: String,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.letters.is_empty()
    }

    pub(super) fn records(&self) -> u64 {
        (self.records.len() + self.letters.len()) as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Takes a record of a view.
    pub(super) fn record(
        &mut self,
        epoch: Epoch,
        view: usize,
        partition: u32,
        key: impl FnOnce(&mut Vec<u8>),
        value: impl FnOnce(&mut Vec<u8>),
    ) {
        let epoch = self.epoch(epoch);
        let key = self.part(key);
        let value = self.part(value);
        self.records.push(Slot { view: view as u16, partition, epoch, key, value });
    }

    /// Takes a dead letter, with at most so many bytes of its event: brokers hold what is packed
    /// against their limit, so one may come that is larger than its letter could be.
    pub(super) fn dead_letter(
        &mut self,
        epoch: Epoch,
        partition: u32,
        letter: &DeadLetter,
        most: usize,
    ) {
        let epoch = self.epoch(epoch);
        let DeadLetter { place, refusal, bytes, size, key, time_ms } = letter;
        let key = key.as_ref().map(|key| &key[..key.len().min(most / 2)]);
        let kept = &bytes[..bytes.len().min(most - key.map_or(0, <[u8]>::len))];
        let all = size + letter.key.as_ref().map_or(0, |key| key.len());
        let is_cut = kept.len() + key.map_or(0, <[u8]>::len) < all;
        let cut = if is_cut { all.to_string() } else { String::new() };
        let key = key.map(|key| self.part(|out| out.extend_from_slice(key)));
        let value = self.part(|out| out.extend_from_slice(kept));
        self.letters.push(Letter {
            partition,
            epoch,
            key,
            value,
            reason: refusal.reason.name(),
            column: refusal.column.map(|column| usize::from(column.0)),
            input_partition: place.partition.0.to_string(),
            offset: place.offset.to_string(),
            time_ms: time_ms.unwrap_or(0).to_string(),
            cut,
        });
    }

    /// Nothing more comes; this is its progress.
    pub(super) fn finish(&mut self, progress: Progress) {
        self.progress = Some(progress);
    }

    /// The epoch that everything of these shards is written up to with it.
    pub(super) fn epoch_end(&self) -> Epoch {
        self.progress.as_ref().expect("only finished batches are written").epoch
    }

    /// Makes it empty, and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.letters.clear();
        self.epochs.clear();
        self.progress = None;
    }

    fn part(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let begin = self.bytes.len();
        write(&mut self.bytes);
        begin..self.bytes.len()
    }

    fn epoch(&mut self, epoch: Epoch) -> u32 {
        match self.epochs.last() {
            Some((last, _)) if *last == epoch => {}
            last => {
                assert!(last.is_none_or(|(last, _)| *last < epoch), "epochs come in order");
                self.epochs.push((epoch, epoch.to_string()));
            }
        }
        (self.epochs.len() - 1) as u32
    }

    /// Hands out all records for their transaction, the progress record last.
    pub(super) fn each(
        &self,
        spec: &Spec,
        topics: &Topics,
        take: &mut Send<'_>,
    ) -> Result<(), WriteError> {
        let dataflow = spec.name.as_bytes();
        let epoch = |place: u32| self.epochs[place as usize].1.as_bytes();
        for Slot { view, partition, epoch: at, key, value } in &self.records {
            let topic = topics.views[usize::from(*view)].as_ref();
            let Topic { name, .. } = topic.expect("only views that are written come here");
            take(Outgoing {
                topic: name,
                partition: *partition,
                key: Some(&self.bytes[key.clone()]),
                value: Some(&self.bytes[value.clone()]),
                headers: &[("epoch", epoch(*at)), ("dataflow", dataflow)],
            })?;
        }
        for letter in &self.letters {
            let column = letter.column.map_or("", |column| &spec.events.columns[column].name);
            take(Outgoing {
                topic: &topics.dead_letters.name,
                partition: letter.partition,
                key: letter.key.clone().map(|key| &self.bytes[key]),
                value: Some(&self.bytes[letter.value.clone()]),
                headers: &[
                    ("epoch", epoch(letter.epoch)),
                    ("dataflow", dataflow),
                    ("reason", letter.reason.as_bytes()),
                    ("column", column.as_bytes()),
                    ("topic", topics.events.name.as_bytes()),
                    ("partition", letter.input_partition.as_bytes()),
                    ("offset", letter.offset.as_bytes()),
                    ("timestamp", letter.time_ms.as_bytes()),
                    ("cut", letter.cut.as_bytes()),
                ],
            })?;
        }
        let progress = self.progress.as_ref().expect("only finished batches are written");
        failpoint!("progress-before");
        take(Outgoing {
            topic: &topics.progress.name,
            partition: 0,
            key: Some(progress.key().as_bytes()),
            value: Some(&progress.to_json()),
            headers: &[("dataflow", dataflow)],
        })?;
        failpoint!("progress-after");
        Ok(())
    }
}
