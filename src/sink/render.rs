//! Rendering: rows of views as JSON objects.
//!
//! Shape: a row in; `{"COLUMN":value,...}` in the spec's order of columns out.
//!
//! Invariants: absent columns are left out, never an empty default; one row has one rendering, and
//! records of the fused operator, which puts them together from fragments, have this one too.

use std::sync::Arc;

use super::contents::Row;
use crate::{
    dataflow::CountsRow,
    row::{Joined, Value, json},
    spec::{OutputId, Spec, ViewKind},
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
    pub fn json(&self, row: &Row<'_>, out: &mut Vec<u8>) {
        match row {
            Row::Fused(record) => record.json(out),
            Row::Stock(record) => self.record(*record, out),
            Row::Counts(counts) => self.counts(counts, out),
        }
    }

    /// Appends a record, however it is held, column by column.
    pub fn record(&self, record: &impl Joined, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut first = true;
        for (place, label) in self.labels.iter().enumerate() {
            if let Some(value) = self.spec.value(record, OutputId(place as u16)) {
                pair(&mut first, label, value, out);
            }
        }
        out.push(b'}');
    }

    /// Appends the numbers of a group.
    pub fn counts(&self, counts: &CountsRow, out: &mut Vec<u8>) {
        let ViewKind::Counts { by, numbers, .. } = &self.spec.view(counts.view).kind else {
            unreachable!("a row of counts names a view of counts")
        };
        out.push(b'{');
        let mut first = true;
        for (column, value) in by.iter().zip(&counts.group) {
            if let Some(value) = value {
                pair(&mut first, &self.labels[usize::from(column.0)], value.borrowed(), out);
            }
        }
        for (column, number) in numbers.iter().zip(&counts.numbers) {
            pair(&mut first, &label(&column.name), Value::Integer((*number).into()), out);
        }
        out.push(b'}');
    }
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
