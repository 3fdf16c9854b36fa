//! Rendering: rows of views as JSON objects.
//!
//! Shape: a row in; `{"COLUMN":value,...}` in the spec's order of columns out.
//!
//! Invariants: absent columns are left out, never an empty default; one row has one rendering.

use std::sync::Arc;

use crate::{
    dataflow::{CountsRow, ViewRow},
    row::{Key, Rank, Record, Value, json},
    spec::{OutputId, ShardId, Spec, ViewId, ViewKind},
};

/// Renders the rows of one dataflow's views.
#[derive(Clone, Debug)]
pub struct Renderer {
    spec: Arc<Spec>,
    /// By `OutputId`: `"NAME":`.
    labels: Vec<Vec<u8>>,
}

impl Renderer {
    /// A renderer for the views of `spec`.
    pub fn new(spec: Arc<Spec>) -> Renderer {
        let labels = spec.columns.iter().map(|column| label(&column.name)).collect();
        Renderer { spec, labels }
    }

    /// Appends a row as one JSON object.
    pub fn json(&self, view: ViewId, row: &ViewRow, out: &mut Vec<u8>) {
        out.push(b'{');
        match row {
            ViewRow::Record(record) => self.record(record, out),
            ViewRow::Counts(counts) => self.counts(view, counts, out),
        }
        out.push(b'}');
    }

    fn record(&self, record: &Record, out: &mut Vec<u8>) {
        let mut first = true;
        for (place, label) in self.labels.iter().enumerate() {
            if let Some(value) = self.spec.value(record, OutputId(place as u16)) {
                pair(&mut first, label, value, out);
            }
        }
    }

    fn counts(&self, view: ViewId, counts: &CountsRow, out: &mut Vec<u8>) {
        let ViewKind::Counts { by, numbers, .. } = &self.spec.view(view).kind else { return };
        let mut first = true;
        for (column, value) in by.iter().zip(&counts.group) {
            if let Some(value) = value {
                pair(&mut first, &self.labels[usize::from(column.0)], value.borrowed(), out);
            }
        }
        for (column, number) in numbers.iter().zip(&counts.numbers) {
            pair(&mut first, &label(&column.name), Value::Integer((*number).into()), out);
        }
    }
}

/// What identifies a row within its view, and where it stands in it.
pub fn rank(spec: &Spec, view: ViewId, row: &ViewRow) -> Rank {
    match (&spec.view(view).kind, row) {
        (ViewKind::Latest { key, .. }, ViewRow::Record(record)) => {
            Rank::of(spec.event_values(record.event(), key))
        }
        (_, ViewRow::Record(record)) => {
            Rank::of(spec.event_values(record.event(), &[spec.events.key]))
        }
        (_, ViewRow::Counts(counts)) => Rank::of(group_values(counts)),
    }
}

/// The shard to which a row belongs: that of its event, of a group the group's own.
pub fn shard(spec: &Spec, row: &ViewRow) -> ShardId {
    match row {
        ViewRow::Record(record) => spec.shard_of_event(record.event()),
        ViewRow::Counts(counts) => spec.shard_of(&Key::of(group_values(counts))),
    }
}

fn group_values(counts: &CountsRow) -> impl Iterator<Item = Option<Value<&str>>> {
    counts.group.iter().map(|value| value.as_ref().map(Value::borrowed))
}

fn label(name: &str) -> Vec<u8> {
    let mut label = Vec::new();
    json::write_text(&mut label, name);
    label.push(b':');
    label
}

fn pair(first: &mut bool, label: &[u8], value: Value<&str>, out: &mut Vec<u8>) {
    if !std::mem::replace(first, false) {
        out.push(b',');
    }
    out.extend_from_slice(label);
    json::write_value(out, value);
}
