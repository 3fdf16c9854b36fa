//! Records of the outputs, as they come: what they say, and what they change of what stands.
//!
//! Shape: a record of a topic in; what it changes, and what is to be told of that, out.
//!
//! Invariants: one that is none of its view changes nothing and is counted.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::warn;
use uuid::Uuid;

use super::super::{
    marks::{Cell, Taken as Change},
    shown::{LETTER_BYTES_MAX, Letter, Seen, Standing, TailRecord, said},
};
use crate::{kafka::Taken, progress::epoch_of, time::Epoch};

/// What a partition is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Records,
    Latest,
    Letters,
    Documents,
}

/// A record that came, of some kind.
pub(super) struct Came {
    pub(super) kind: Kind,
    pub(super) partition: u32,
    pub(super) offset: u64,
    pub(super) epoch: Option<Epoch>,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) letter: Option<Letter>,
}

/// What a turn changed.
#[derive(Default)]
pub(super) struct Changed {
    pub(super) epoch: Epoch,
    pub(super) cells: Vec<Cell>,
    pub(super) is_all: bool,
    pub(super) corrected: u64,
    pub(super) refused: u64,
}

/// What a record says of its event.
#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Event {
    journal_id: i128,
    student_id: i128,
    lesson_id: i128,
    attendance_mark: i128,
    marked_by: i128,
}

impl Came {
    pub(super) fn of(kind: Kind, partition: u32, taken: &Taken<'_>) -> Came {
        let is_letter = kind == Kind::Letters;
        Came {
            kind,
            partition,
            offset: taken.offset(),
            epoch: epoch_of(taken),
            key: taken.key().unwrap_or_default().to_vec(),
            value: taken.value().filter(|_| !is_letter).map(<[u8]>::to_vec),
            letter: is_letter.then(|| letter(partition, taken)),
        }
    }
}

/// A dead letter, as its headers say.
fn letter(partition: u32, taken: &Taken<'_>) -> Letter {
    let text = |name: &str| {
        let text = taken.header(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        text.filter(|text| !text.is_empty())
    };
    let value = taken.value().unwrap_or_default();
    let input = match (text("topic"), text("partition")) {
        (Some(topic), Some(partition)) => format!("{topic}/{partition}"),
        _ => format!("?/{partition}"),
    };
    let number = |name: &str| text(name).and_then(|text| text.parse().ok());
    Letter {
        number: 0,
        input: input.into(),
        line: number("offset").unwrap_or_default(),
        reason: text("reason").unwrap_or_else(|| "?".to_owned()).into(),
        column: text("column"),
        size: number("cut").map_or(value.len(), |size| size as usize),
        bytes: value[..value.len().min(LETTER_BYTES_MAX)].into(),
    }
}

impl Changed {
    /// An enriched record: a new event, or what is shown of it now.
    pub(super) fn record(&mut self, standing: &mut Standing, came: &Came, skipped: &mut usize) {
        let Some(id) = Uuid::try_parse_ascii(&came.key).ok() else {
            self.refuse(came);
            return;
        };
        let Some(value) = &came.value else {
            standing.events.remove(&id);
            self.is_all = true;
            return;
        };
        let (Ok(event), Some(epoch)) = (serde_json::from_slice::<Event>(value), came.epoch) else {
            self.refuse(came);
            return;
        };
        self.epoch = self.epoch.max(epoch);
        let Event { journal_id, student_id, lesson_id, attendance_mark, marked_by } = event;
        let numbers = [journal_id, student_id, lesson_id, attendance_mark, marked_by];
        let is_new = !standing.events.contains_key(&id);
        // It is visible since it was first.
        standing.events.entry(id).or_insert_with(|| Seen { epoch, said: said(numbers.map(Some)) });
        if *skipped > 0 {
            *skipped -= 1;
            return;
        }
        let Some(after) = raw(value) else { return };
        let before = if is_new { None } else { before(standing, id, &after) };
        let sequence = 0;
        standing.push_record(TailRecord { sequence, epoch, id: Some(id), is_new, before, after });
    }

    /// A row of the latest view: another mark counts, or the same with something else known.
    pub(super) fn latest(&mut self, standing: &mut Standing, came: &Came) {
        let Some(value) = &came.value else {
            match Cell::of_key(&came.key) {
                Some(cell) => {
                    standing.marks.remove(&cell);
                    self.is_all = true;
                }
                None => self.refuse(came),
            }
            return;
        };
        self.epoch = self.epoch.max(came.epoch.unwrap_or_default());
        match standing.marks.take(value) {
            Ok((cell, Change::Marked)) => self.cells.push(cell),
            Ok((_, Change::Corrected)) => self.corrected += 1,
            Err(_) => self.refuse(came),
        }
    }

    fn refuse(&mut self, came: &Came) {
        let Came { partition, offset, kind, .. } = came;
        if self.refused == 0 {
            warn!(?kind, partition, offset, "no record of its view");
        }
        self.refused += 1;
    }
}

/// What was known of an event until now, where that is held: in the tail, or as the mark that
/// counts.
fn before(standing: &Standing, id: Uuid, after: &Arc<RawValue>) -> Option<Arc<RawValue>> {
    let is_same = |record: &&TailRecord| record.id == Some(id);
    if let Some(last) = standing.tail.iter().rev().find(is_same) {
        return Some(Arc::clone(&last.after));
    }
    let cell = Cell::of_key(after.get().as_bytes())?;
    standing.marks.mark(&cell).filter(|mark| mark.id == id)?;
    let row: Arc<RawValue> = standing.marks.row_of(&cell)?.into();
    let value = |row: &RawValue| serde_json::from_str::<serde_json::Value>(row.get()).ok();
    // The latest view may be ahead of the records.
    (value(&row) != value(after)).then_some(row)
}

fn raw(bytes: &[u8]) -> Option<Arc<RawValue>> {
    let text = String::from_utf8(bytes.to_vec()).ok()?;
    Some(RawValue::from_string(text).ok()?.into())
}
