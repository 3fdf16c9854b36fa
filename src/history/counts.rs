//! The boards' numbers of two dataflows: what views of counts say, counted from the rows of both.
//!
//! Shape: rows as JSON in; groups whose numbers are other out.

use std::collections::HashMap;

use super::compare::Row;
use crate::{
    row::json::write_value,
    spec::{Spec, ViewKind},
};

/// A view of counts, by the names in rows.
pub(super) struct Counting {
    pub(super) name: String,
    /// The view whose rows are counted.
    pub(super) of: String,
    by: Vec<String>,
    numbers: Vec<Number>,
    groups: HashMap<Box<str>, Box<[[i64; 2]]>>,
}

struct Number {
    name: String,
    /// The column that must have one of these values, as JSON.
    when: Option<(String, Vec<Box<str>>)>,
}

/// A group whose numbers are other.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OtherGroup {
    /// The group's values, as JSON.
    pub group: String,
    /// By number, what it was and what it would be.
    pub numbers: Vec<(String, i64, i64)>,
}

impl Counting {
    pub(super) fn of(spec: &Spec) -> Vec<Counting> {
        let column = |id| spec.column(id).name.clone();
        let counts = spec.views.iter().filter_map(|view| match &view.kind {
            ViewKind::Counts { of, by, numbers } => Some((view, *of, by, numbers)),
            ViewKind::Enriched | ViewKind::Latest { .. } => None,
        });
        let counting = counts.map(|(view, of, by, numbers)| Counting {
            name: view.name.clone(),
            of: spec.view(of).name.clone(),
            by: by.iter().map(|id| column(*id)).collect(),
            numbers: numbers
                .iter()
                .map(|number| Number {
                    name: number.name.clone(),
                    when: number.when.as_ref().map(|when| {
                        let json = |value: &crate::row::Value| {
                            let mut out = Vec::new();
                            write_value(&mut out, value.borrowed());
                            String::from_utf8_lossy(&out).into()
                        };
                        (column(when.column), when.values.iter().map(json).collect())
                    }),
                })
                .collect(),
            groups: HashMap::new(),
        });
        counting.collect()
    }

    /// Counts a row of one of the two.
    pub(super) fn count(&mut self, row: &Row<'_>, side: usize) {
        let group: Vec<&str> = self
            .by
            .iter()
            .map(|column| row.get(&**column).map_or("null", |value| value.get()))
            .collect();
        let group = format!("[{}]", group.join(","));
        let count = self.numbers.len();
        let numbers = self
            .groups
            .entry(group.into())
            .or_insert_with(|| vec![[0; 2]; count].into_boxed_slice());
        for (number, counted) in self.numbers.iter().zip(numbers) {
            let is_counted = number.when.as_ref().is_none_or(|(column, values)| {
                let value = row.get(&**column).map(|value| value.get());
                value.is_some_and(|value| values.iter().any(|one| **one == *value))
            });
            counted[side] += i64::from(is_counted);
        }
    }

    /// How many groups there are, and those that are other, in order.
    pub(super) fn others(self) -> (u64, Vec<OtherGroup>) {
        let groups = self.groups.len() as u64;
        let is_other = |numbers: &[[i64; 2]]| numbers.iter().any(|[one, other]| one != other);
        let others = self.groups.into_iter().filter(|(_, numbers)| is_other(numbers));
        let mut others: Vec<OtherGroup> = others
            .map(|(group, numbers)| OtherGroup {
                group: group.into(),
                numbers: self
                    .numbers
                    .iter()
                    .zip(&numbers)
                    .map(|(number, [one, other])| (number.name.clone(), *one, *other))
                    .collect(),
            })
            .collect();
        others.sort_by(|one, other| one.group.cmp(&other.group));
        (groups, others)
    }
}
