//! Records as JSON, put together from what documents look like in all of their records.
//!
//! Shape: a document becomes fragments when it becomes known; a record is its event's columns with
//! the fragments of its documents between them, in the spec's order of columns.
//!
//! Invariants: the bytes are those of `sink::render`, which looks at each column of each record.

use std::sync::Arc;

use super::documents::Document;
use crate::{
    row::{ColumnId, Joined, LookupId, Row, json},
    spec::{OutputId, Spec, plan::Origin},
};

/// How records of one spec are put together.
pub struct RecordJson {
    spec: Arc<Spec>,
    pieces: Vec<Piece>,
    /// By `OutputId`: `,"NAME":`.
    labels: Vec<Label>,
}

/// A stretch of columns.
#[derive(Clone)]
enum Piece {
    /// Of the event alone.
    Event(ColumnId),
    /// The same in all records of a document: the columns of a lookup's fragment.
    Fragment { lookup: LookupId, number: usize, columns: Vec<OutputId> },
    /// Of the event and a document together.
    Both(OutputId),
}

/// What a document looks like in its records, cut where other columns come between.
#[derive(Default)]
pub(super) struct Fragments {
    bytes: Box<[u8]>,
    ends: Box<[u32]>,
}

impl RecordJson {
    /// Plans the records of `spec`.
    pub fn new(spec: Arc<Spec>) -> RecordJson {
        let mut pieces = Vec::new();
        let mut fragments = vec![0; spec.lookups.len()];
        for (place, column) in spec.columns.iter().enumerate() {
            let id = OutputId(place as u16);
            let piece = match column.origin {
                Origin::Event(column) => Piece::Event(column),
                Origin::Years { .. } => Piece::Both(id),
                Origin::Document(of, _) => match pieces.last_mut() {
                    Some(Piece::Fragment { lookup, columns, .. }) if *lookup == of => {
                        columns.push(id);
                        continue;
                    }
                    _ => {
                        let number = fragments[usize::from(of.0)];
                        fragments[usize::from(of.0)] += 1;
                        Piece::Fragment { lookup: of, number, columns: vec![id] }
                    }
                },
            };
            pieces.push(piece);
        }
        let labels = spec.columns.iter().map(|column| {
            let mut label = vec![b','];
            json::write_text(&mut label, &column.name);
            label.push(b':');
            Label::new(label)
        });
        let labels = labels.collect();
        RecordJson { spec, pieces, labels }
    }

    /// What a document of a lookup looks like in its records.
    pub(super) fn fragments(&self, lookup: LookupId, row: &Row) -> Fragments {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let alone = Alone { lookup, row };
        for piece in &self.pieces {
            let Piece::Fragment { lookup: of, columns, .. } = piece else { continue };
            if *of == lookup {
                columns.iter().for_each(|column| self.column(&alone, *column, &mut bytes));
                ends.push(bytes.len() as u32);
            }
        }
        Fragments { bytes: bytes.into(), ends: ends.into() }
    }

    /// Appends a record as one JSON object.
    pub(super) fn write<'d>(
        &self,
        record: &impl Joined,
        document: impl Fn(LookupId) -> Option<&'d Document>,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        for piece in &self.pieces {
            match piece {
                Piece::Event(column) => {
                    let value = self.spec.events.layout.get(record.event(), *column);
                    if let Some(value) = value {
                        self.labels[usize::from(column.0)].write(out);
                        json::write_value(out, value);
                    }
                }
                Piece::Fragment { lookup, number, .. } => {
                    if let Some(document) = document(*lookup) {
                        out.extend_from_slice(document.fragments.get(*number));
                    }
                }
                Piece::Both(column) => self.column(record, *column, out),
            }
        }
        // Every column begins with a comma, the first one's place is the bracket's.
        match out.get_mut(start) {
            Some(comma) => *comma = b'{',
            None => out.push(b'{'),
        }
        out.push(b'}');
    }

    fn column(&self, record: &impl Joined, column: OutputId, out: &mut Vec<u8>) {
        if let Some(value) = self.spec.value(record, column) {
            self.labels[usize::from(column.0)].write(out);
            json::write_value(out, value);
        }
    }
}

/// A label, with room behind it where it is short: a copy of a fixed length is a few instructions.
enum Label {
    Short { bytes: [u8; SHORT], length: usize },
    Long(Box<[u8]>),
}

const SHORT: usize = 32;

impl Label {
    fn new(label: Vec<u8>) -> Label {
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..label.len()) {
            Some(begin) => {
                begin.copy_from_slice(&label);
                Label::Short { bytes, length: label.len() }
            }
            None => Label::Long(label.into()),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Label::Short { bytes, length } => {
                let end = out.len() + length;
                out.extend_from_slice(bytes);
                out.truncate(end);
            }
            Label::Long(label) => out.extend_from_slice(label),
        }
    }
}

impl Fragments {
    fn get(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] as usize };
        &self.bytes[start..self.ends[number] as usize]
    }
}

/// A document without an event.
struct Alone<'d> {
    lookup: LookupId,
    row: &'d Row,
}

impl Joined for Alone<'_> {
    fn event(&self) -> &[u8] {
        unreachable!("a column of a document alone does not ask for the event")
    }

    fn document(&self, lookup: LookupId) -> Option<&[u8]> {
        (lookup == self.lookup).then(|| self.row.bytes())
    }
}
