//! Views: what goes out, by which keys, in which order, and what is counted.

use std::collections::HashSet;

use indexmap::IndexMap;

use super::{COLUMNS_MAX, Resolver};
use crate::{
    row::ColumnId,
    spec::{
        file::{CountFile, ViewFile},
        plan::{Corrections, CountColumn, Origin, OutputColumn, OutputId, View, ViewId, ViewKind},
        terms,
        violation::{Rule, nearest, pointer_to},
    },
};

impl<'f> Resolver<'f> {
    pub(super) fn views(&mut self) -> Vec<View> {
        let file = self.file;
        if file.views.is_empty() {
            let cause = "no view is declared, so nothing would go out".to_owned();
            let hint = Some("add one, as: [views.enriched] with kind = \"enriched\"".to_owned());
            self.findings.at_key("/views", Rule::Empty, cause, hint);
        }
        let mut views = Vec::new();
        for (name, written) in &file.views {
            let pointer = pointer_to("/views", name);
            self.check_name(&pointer, name, terms::is_lower_name);
            if terms::RESERVED_VIEWS.contains(&name.as_str()) {
                let cause = format!("\"{name}\" is the name of a topic of the engine's own");
                self.findings.at_key(&pointer, Rule::NameTaken, cause, None);
            }
            let kind = match written {
                ViewFile::Enriched {} => Some(ViewKind::Enriched),
                ViewFile::Latest { key, order } => self.latest(&pointer, key, order),
                ViewFile::Counts { of, by, counts } => self.counts(&pointer, of, by, counts),
            };
            views.extend(kind.map(|kind| View { name: name.clone(), kind }));
        }
        views
    }

    fn latest(&mut self, pointer: &str, key: &[String], order: &[String]) -> Option<ViewKind> {
        let events = &self.file.events;
        let (key_at, order_at) = (format!("{pointer}/key"), format!("{pointer}/order"));
        // A key of the events that is no column is reported where it is named.
        let declared = |column: &String| events.columns.contains_key(column);
        if declared(&events.shard_key) && !key.is_empty() && !key.contains(&events.shard_key) {
            let shard_key = &events.shard_key;
            let cause = format!("the key lacks the shard key \"{shard_key}\"");
            let hint = "its events would meet on several workers".to_owned();
            self.findings.at_value(&key_at, Rule::KeyWithoutShard, cause, Some(hint));
        }
        if declared(&events.key) && !order.is_empty() && !order.contains(&events.key) {
            let cause =
                format!("the order does not tell equal events apart: it lacks \"{}\"", events.key);
            let hint = format!("end it with \"{}\"", events.key);
            self.findings.at_value(&order_at, Rule::OrderNotTotal, cause, Some(hint));
        }
        if events.horizon.is_some()
            && let Some(first) = order.first().filter(|first| **first != events.time)
        {
            let cause = format!("the order begins with \"{first}\", and there is a horizon");
            let hint = format!(
                "begin it with \"{}\": else what was let go could still be the latest",
                events.time
            );
            self.findings.at_value(&order_at, Rule::OrderNotByTime, cause, Some(hint));
        }
        let (key, order) = (self.event_columns(&key_at, key), self.event_columns(&order_at, order));
        Some(ViewKind::Latest { key, order })
    }

    fn event_columns(&mut self, pointer: &str, names: &[String]) -> Vec<ColumnId> {
        self.check_distinct(pointer, names, Rule::NameTaken, "column");
        let column = |(place, name): (usize, &String)| {
            self.event_column(&format!("{pointer}/{place}"), name)
        };
        names.iter().enumerate().filter_map(column).collect()
    }

    fn counts(
        &mut self,
        pointer: &str,
        of: &str,
        by: &[String],
        counts: &IndexMap<String, CountFile>,
    ) -> Option<ViewKind> {
        let of = self.counted_view(&format!("{pointer}/of"), of);
        let by = self.group(&format!("{pointer}/by"), by);
        let counts_at = format!("{pointer}/counts");
        let columns = by.len() + counts.len();
        if columns > COLUMNS_MAX {
            let cause =
                format!("{columns} columns are more than the {COLUMNS_MAX} that are possible");
            self.findings.at_key(&counts_at, Rule::OutOfBounds, cause, None);
        }
        if counts.is_empty() {
            let cause = "nothing is counted".to_owned();
            let hint = Some("add a number, as: counts = { ALL = {} }".to_owned());
            self.findings.at_key(&counts_at, Rule::Empty, cause, hint);
        }
        let grouped = by.iter().map(|id| self.columns[usize::from(id.0)].name.to_lowercase());
        let mut taken: HashSet<String> = grouped.collect();
        let mut numbers = Vec::new();
        for (name, count) in counts {
            let at = pointer_to(&counts_at, name);
            self.check_name(&at, name, terms::is_name);
            if !taken.insert(name.to_lowercase()) {
                let cause = format!("\"{name}\" is already a column of this view");
                self.findings.at_key(&at, Rule::NameTaken, cause, None);
            }
            let when_at = format!("{at}/when");
            let when = count.when.as_ref().and_then(|when| {
                let condition = self.condition(&when_at, when)?;
                self.check_corrected(&format!("{when_at}/column"), condition.column);
                Some(condition)
            });
            numbers.push(CountColumn { name: name.clone(), when });
        }
        Some(ViewKind::Counts { of: of?, by, numbers })
    }

    fn counted_view(&mut self, pointer: &str, of: &str) -> Option<ViewId> {
        let views = &self.file.views;
        let countable = |view: &ViewFile| !matches!(view, ViewFile::Counts { .. });
        match views.get_full(of) {
            Some((place, _, view)) if countable(view) => Some(ViewId(place as u16)),
            Some(_) => {
                let cause = format!("view \"{of}\" is of kind counts and has no records to count");
                self.findings.at_value(pointer, Rule::UnknownView, cause, None);
                None
            }
            None => {
                let cause = format!("view \"{of}\" is not declared");
                let hint =
                    nearest(of, views.iter().filter(|v| countable(v.1)).map(|v| v.0.as_str()));
                self.findings.at_value(pointer, Rule::UnknownView, cause, hint);
                None
            }
        }
    }

    fn group(&mut self, pointer: &str, names: &[String]) -> Vec<OutputId> {
        self.check_distinct(pointer, names, Rule::NameTaken, "column");
        let mut columns = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let at = format!("{pointer}/{place}");
            if let Some(column) = self.column(&at, name) {
                self.check_corrected(&at, column);
                columns.push(column);
            }
        }
        columns
    }

    /// Without corrections a looked-up column is never set right, and counts by it would be wrong
    /// for ever.
    fn check_corrected(&mut self, pointer: &str, column: OutputId) {
        let OutputColumn { name, origin, .. } = &self.columns[usize::from(column.0)];
        let looked_up = !matches!(origin, Origin::Event(_));
        if looked_up && self.file.corrections == Corrections::Never {
            let cause = format!("counts by the looked-up column \"{name}\" need corrections");
            let hint = "set corrections = \"always\", or count by event columns".to_owned();
            self.findings.at_value(pointer, Rule::NeedsCorrections, cause, Some(hint));
        }
    }
}
