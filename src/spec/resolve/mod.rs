//! Resolving a spec: from what is written to what runs, or everything in it that makes no sense.
//!
//! Shape: `SpecFile` and the places of its parts in; `Spec` out.
//!
//! Invariants: a part that is wrong is reported and left out, and checking goes on, so that one run
//! shows all violations; a `Spec` comes out only where none was found.
//!
//! Not here: the form of the file (`spec::read`); small texts within it (`spec::terms`).
//!
//! A file a part of the spec: `events`, `lookups`, `views`; here is what they share.

mod events;
mod lookups;
mod views;

use std::collections::{HashMap, HashSet};

use super::{
    file::{ConditionFile, SpecFile},
    plan::{Condition, Origin, OutputColumn, OutputId, Spec},
    terms,
    violation::{Findings, Places, Rule, Violation, nearest},
};
use crate::row::{ColumnId, Kind, Value};

/// Most columns of an event, and of a record: their ids are `u16`, and beyond this a record is no
/// longer something that people look at.
const COLUMNS_MAX: usize = 1000;
/// Most lookups: each costs an exchange of every event.
const LOOKUPS_MAX: usize = 64;
/// Most views.
const VIEWS_MAX: usize = 256;
/// Longest text taken from a document, in bytes: a projected document has a limit of its own.
const DOCUMENT_TEXT_MAX: u32 = 1 << 20;

pub(super) fn resolve(file: &SpecFile, places: &Places) -> Result<Spec, Vec<Violation>> {
    let mut resolver = Resolver {
        file,
        findings: Findings::new(places),
        columns: Vec::new(),
        names: HashMap::new(),
        folded: HashSet::new(),
    };
    resolver.check_sizes();
    if !resolver.findings.is_empty() {
        // Ids would not suffice for the rest.
        return Err(resolver.findings.finish());
    }
    resolver.check_name("/name", &file.name, terms::is_lower_name);
    let events = resolver.events();
    let lookups = resolver.lookups();
    let views = resolver.views();
    let Resolver { findings, columns, .. } = resolver;
    let found = findings.finish();
    match (events, found.is_empty()) {
        (Some(events), true) => Ok(Spec {
            text: "".into(),
            hash: 0,
            name: file.name.clone(),
            family: file.name.clone(),
            shards: file.shards,
            corrections: file.corrections,
            events,
            lookups,
            columns,
            views,
        }),
        _ => Err(found),
    }
}

struct Resolver<'f> {
    file: &'f SpecFile,
    findings: Findings<'f>,
    /// Output columns so far: the events' own, then those of each lookup.
    columns: Vec<OutputColumn>,
    /// The same by name.
    names: HashMap<&'f str, OutputId>,
    /// Their names in lower case: where columns are written in another case elsewhere, two that
    /// differ in case alone would be one.
    folded: HashSet<String>,
}

impl<'f> Resolver<'f> {
    fn check_name(&mut self, pointer: &str, name: &str, right: fn(&str) -> bool) {
        if !right(name) {
            let cause = format!("\"{name}\" cannot be a name here");
            let hint = Some(terms::name_hint(right(&name.to_lowercase())));
            self.findings.at_value(pointer, Rule::BadName, cause, hint);
        }
    }

    fn check_sizes(&mut self) {
        let looked_up: usize = self.file.lookups.values().map(|l| l.columns.len()).sum();
        let columns = self.file.events.columns.len() + looked_up;
        for (pointer, count, most, what) in [
            ("/events/columns", columns, COLUMNS_MAX, "columns"),
            ("/lookups", self.file.lookups.len(), LOOKUPS_MAX, "lookups"),
            ("/views", self.file.views.len(), VIEWS_MAX, "views"),
        ] {
            if count > most {
                let cause = format!("{count} {what} are more than the {most} that are possible");
                self.findings.at_key(pointer, Rule::OutOfBounds, cause, None);
            }
        }
    }

    /// Declares an output column; reports a name that is taken. Even then the column has its place,
    /// since an event's columns have the same positions among the output's.
    fn declare(&mut self, pointer: &str, name: &'f str, origin: Origin, kind: Kind) {
        self.check_name(pointer, name, terms::is_name);
        if !self.folded.insert(name.to_lowercase()) {
            let cause = format!("column \"{name}\" is declared twice (case does not count)");
            self.findings.at_key(pointer, Rule::NameTaken, cause, None);
        }
        let id = OutputId(self.columns.len() as u16);
        self.names.entry(name).or_insert(id);
        self.columns.push(OutputColumn { name: name.to_owned(), origin, kind });
    }

    /// An output column by name; reports one that is not declared.
    fn column(&mut self, pointer: &str, name: &str) -> Option<OutputId> {
        let found = self.names.get(name).copied();
        if found.is_none() {
            self.report_unknown(pointer, name, self.columns.len());
        }
        found
    }

    /// Reports an unknown column; the nearest of the first `known` columns may have been meant.
    fn report_unknown(&mut self, pointer: &str, name: &str, known: usize) {
        let cause = format!("column \"{name}\" is not declared");
        let hint = nearest(name, self.columns[..known].iter().map(|c| c.name.as_str()));
        self.findings.at_value(pointer, Rule::UnknownColumn, cause, hint);
    }

    /// An event's column by name; reports one that is looked up, also by a lookup further down.
    fn event_column(&mut self, pointer: &str, name: &str) -> Option<ColumnId> {
        let events = &self.file.events.columns;
        if let Some(place) = events.get_index_of(name) {
            return Some(ColumnId(place as u16));
        }
        if self.file.lookups.values().any(|lookup| lookup.columns.contains_key(name)) {
            let cause =
                format!("column \"{name}\" is looked up, and only event columns can stand here");
            let hint = "what is looked up may change; what stands here must not".to_owned();
            self.findings.at_value(pointer, Rule::LookedUpColumn, cause, Some(hint));
        } else {
            self.report_unknown(pointer, name, events.len());
        }
        None
    }

    fn integer_kind(&mut self, pointer: &str, range: &str) -> Kind {
        let (low, high) = terms::integers(range).unwrap_or_else(|| {
            let cause = format!("\"{range}\" is no range of integers");
            let hint = "written as \"0..255\", both ends included, within -2^63 to 2^64-1, of at \
                        most 2^64 values";
            self.findings.at_value(pointer, Rule::BadRange, cause, Some(hint.to_owned()));
            // What is wrong with a range is said once, not of every value that it would admit.
            terms::INTEGERS
        });
        Kind::Integer { low, high }
    }

    fn condition(&mut self, pointer: &str, written: &ConditionFile) -> Option<Condition> {
        let column = self.column(&format!("{pointer}/column"), &written.column)?;
        let OutputColumn { kind, origin, .. } = self.columns[usize::from(column.0)].clone();
        let looked_up = !matches!(origin, Origin::Event(_));
        let mut values = Vec::new();
        for (place, scalar) in written.values.iter().enumerate() {
            let (name, value) = (&written.column, terms::scalar_value(&kind, scalar));
            let (cause, hint) = match value {
                Some(Value::Text(text)) if looked_up && text.is_empty() => {
                    let hint = "the empty text of a document counts as absent".to_owned();
                    (format!("\"\" never stands in column \"{name}\""), Some(hint))
                }
                Some(value) if values.contains(&value) => {
                    (format!("{} stands there twice", terms::shown(scalar)), None)
                }
                Some(value) => {
                    values.push(value);
                    continue;
                }
                None => {
                    let hint = format!("the column takes: {}", terms::describe(&kind));
                    (
                        format!("{} never stands in column \"{name}\"", terms::shown(scalar)),
                        Some(hint),
                    )
                }
            };
            let at = format!("{pointer}/in/{place}");
            self.findings.at_value(&at, Rule::WrongValue, cause, hint);
        }
        Some(Condition { column, values })
    }

    /// Reports what a list names twice.
    fn check_distinct(&mut self, pointer: &str, names: &[String], rule: Rule, what: &str) {
        let mut seen = HashSet::new();
        for (place, name) in names.iter().enumerate() {
            if !seen.insert(name) {
                let cause = format!("{what} \"{name}\" stands there twice");
                self.findings.at_value(&format!("{pointer}/{place}"), rule, cause, None);
            }
        }
    }
}
