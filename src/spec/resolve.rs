//! Resolving a spec: from what is written to what runs, or everything in it that makes no sense.
//!
//! Shape: `SpecFile` and the places of its parts in; `Spec` out.
//!
//! Invariants: a part that is wrong is reported and left out, and checking goes on, so that one run
//! shows all violations; a `Spec` comes out only where none was found.
//!
//! Not here: the form of the file (`spec::read`); small texts within it (`spec::terms`).

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::{
    file::{
        ConditionFile, CountFile, EventColumnFile, LookupColumnFile, LookupFile, PathsFile,
        SpecFile, ViewFile,
    },
    plan::{
        Condition, Corrections, CountColumn, DocumentColumn, DocumentForm, EventColumn, Events,
        Filter, Lookup, Origin, OutputColumn, OutputId, Path, Spec, View, ViewId, ViewKind,
    },
    terms,
    violation::{Findings, Places, Rule, Violation, nearest, pointer_to},
};
use crate::{
    row::{ColumnId, Kind, Layout, LookupId, Value},
    time::Day,
};

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
            name: file.name.clone(),
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

    fn events(&mut self) -> Option<Events> {
        let written = &self.file.events;
        if written.columns.is_empty() {
            let cause = "no column is declared, so events would say nothing".to_owned();
            self.findings.at_key("/events/columns", Rule::Empty, cause, None);
        }
        let (mut columns, mut kinds) = (Vec::new(), Vec::new());
        for (place, (name, column)) in written.columns.iter().enumerate() {
            let pointer = pointer_to("/events/columns", name);
            let (kind, optional) = self.event_kind(&pointer, column);
            let id = ColumnId(place as u16);
            self.declare(&pointer, name, Origin::Event(id), kind.clone());
            columns.push(EventColumn { name: name.clone(), optional });
            kinds.push(kind);
        }
        let key = self.required("/events/key", &written.key);
        let shard_key = self.required("/events/shard_key", &written.shard_key);
        let time = self.required("/events/time", &written.time);
        if let Some(time) = time {
            self.check_time(&kinds[usize::from(time.0)]);
        }
        Some(Events {
            columns,
            layout: Layout::new(kinds),
            key: key?,
            shard_key: shard_key?,
            time: time?,
            zone: written.zone.clone(),
            bytes_max: written.bytes_max as usize,
            depth_max: usize::from(written.depth_max),
        })
    }

    fn event_kind(&mut self, pointer: &str, column: &EventColumnFile) -> (Kind, bool) {
        let range_at = format!("{pointer}/range");
        match column {
            EventColumnFile::Uuid { optional } => (Kind::Uuid, *optional),
            EventColumnFile::Integer { range, optional } => {
                (self.integer_kind(&range_at, range), *optional)
            }
            EventColumnFile::Date { range, optional } => {
                let (low, high) = self.days(&range_at, range.as_deref());
                (Kind::Day { low, high }, *optional)
            }
            EventColumnFile::DateTime { range, optional } => {
                let (low, high) = self.days(&range_at, range.as_deref());
                (Kind::Moment { low, high }, *optional)
            }
            EventColumnFile::Text { bytes_max, optional } => {
                (Kind::Text { bytes_max: *bytes_max }, *optional)
            }
        }
    }

    fn integer_kind(&mut self, pointer: &str, range: &str) -> Kind {
        let (low, high) = terms::integers(range).unwrap_or_else(|| {
            let cause = format!("\"{range}\" is no range of integers");
            let hint = "written as \"0..255\", both ends included, within -2^63 to 2^64-1";
            self.findings.at_value(pointer, Rule::BadRange, cause, Some(hint.to_owned()));
            // What is wrong with a range is said once, not of every value that it would admit.
            terms::INTEGERS
        });
        Kind::Integer { low, high }
    }

    fn days(&mut self, pointer: &str, range: Option<&str>) -> (Day, Day) {
        let Some(range) = range else { return (Day::MIN, Day::MAX) };
        terms::days(range).unwrap_or_else(|| {
            let cause = format!("\"{range}\" is no range of days");
            let hint = "written as \"1970-01-01..2149-06-06\", both ends included";
            self.findings.at_value(pointer, Rule::BadRange, cause, Some(hint.to_owned()));
            (Day::MIN, Day::MAX)
        })
    }

    /// A column that every event must have.
    fn required(&mut self, pointer: &str, name: &str) -> Option<ColumnId> {
        let column = self.event_column(pointer, name)?;
        if self.file.events.columns.get(name).is_some_and(EventColumnFile::is_optional) {
            let cause = format!("column \"{name}\" is optional, but every event needs it here");
            let hint = Some(format!("take optional = true from [events.columns] {name}"));
            self.findings.at_value(pointer, Rule::OptionalColumn, cause, hint);
        }
        Some(column)
    }

    fn check_time(&mut self, kind: &Kind) {
        let (zone, time) = (&self.file.events.zone, &self.file.events.time);
        let range = match self.file.events.columns.get(time) {
            Some(EventColumnFile::DateTime { range, .. }) => range.as_deref(),
            _ => None,
        };
        if range.is_some_and(|range| terms::days(range).is_none()) {
            return; // The range is reported; a zone cannot be judged by it.
        }
        let Kind::Moment { low, high } = kind else {
            let cause = format!("column \"{time}\" is of type {}, not datetime", kind.name());
            return self.findings.at_value("/events/time", Rule::WrongKind, cause, None);
        };
        if let Err((cause, hint)) = terms::check_zone(zone, *low, *high) {
            self.findings.at_value("/events/zone", Rule::BadZone, cause, hint);
        }
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

    fn lookups(&mut self) -> Vec<Lookup> {
        let file = self.file;
        let mut lookups = Vec::new();
        for (place, (name, written)) in file.lookups.iter().enumerate() {
            let pointer = pointer_to("/lookups", name);
            self.check_name(&pointer, name, terms::is_lower_name);
            let id = LookupId(place as u16);
            lookups.extend(self.lookup(id, &pointer, name, written));
        }
        lookups
    }

    fn lookup(
        &mut self,
        id: LookupId,
        pointer: &str,
        name: &str,
        written: &'f LookupFile,
    ) -> Option<Lookup> {
        let filter = written.filter.as_ref().and_then(|filter| {
            if filter.equals.is_empty() {
                let cause = "an empty text never stands in a document: it counts as absent";
                let at = format!("{pointer}/where/equals");
                self.findings.at_value(&at, Rule::WrongValue, cause.to_owned(), None);
            }
            let path = self.path(&format!("{pointer}/where/path"), &filter.path)?;
            Some(Filter { path, equals: filter.equals.clone() })
        });
        let key_path = self.path(&format!("{pointer}/key/path"), &written.key.path);
        let matches = self.event_column(&format!("{pointer}/matches"), &written.matches);
        let key_kind = matches.map(|column| self.key_kind(pointer, column, written));
        let when = written.when.as_ref().and_then(|condition| {
            let at = format!("{pointer}/when");
            self.event_column(&format!("{at}/column"), &condition.column)?;
            self.condition(&at, condition)
        });
        if written.columns.is_empty() {
            let cause = format!("lookup \"{name}\" takes no column, so it would do nothing");
            self.findings.at_key(&format!("{pointer}/columns"), Rule::Empty, cause, None);
        }
        let (columns, kinds) = self.lookup_columns(id, pointer, written);
        Some(Lookup {
            name: name.to_owned(),
            filter,
            key_path: key_path?,
            key_kind: key_kind?,
            matches: matches?,
            when,
            columns,
            layout: Layout::new(kinds),
        })
    }

    /// What values of a document are keys: of the kind of the column that names them.
    fn key_kind(&mut self, pointer: &str, matches: ColumnId, written: &LookupFile) -> Kind {
        let kind = self.columns[usize::from(matches.0)].kind.clone();
        let Some(range) = &written.key.range else { return kind };
        let range_at = format!("{pointer}/key/range");
        let Kind::Integer { low: least, high: greatest } = kind else {
            let cause = format!("a key of type {} has no range", kind.name());
            self.findings.at_value(&range_at, Rule::WrongKind, cause, None);
            return kind;
        };
        let keys = self.integer_kind(&range_at, range);
        let apart = |low, high| high < least || greatest < low;
        if matches!(keys, Kind::Integer { low, high } if apart(low, high)) {
            let name = &written.matches;
            let cause = format!("no value of column \"{name}\" lies in \"{range}\"");
            let hint = format!("the column takes: {}", terms::describe(&kind));
            self.findings.at_value(&range_at, Rule::BadRange, cause, Some(hint));
        }
        keys
    }

    /// The packed columns of a lookup's documents; declares what records show of them.
    fn lookup_columns(
        &mut self,
        lookup: LookupId,
        pointer: &str,
        written: &'f LookupFile,
    ) -> (Vec<DocumentColumn>, Vec<Kind>) {
        let (mut columns, mut kinds) = (Vec::new(), Vec::new());
        for (place, (name, column)) in written.columns.iter().enumerate() {
            let at = pointer_to(&format!("{pointer}/columns"), name);
            let id = ColumnId(place as u16);
            let whole_day = Kind::Day { low: Day::MIN, high: Day::MAX };
            let (origin, shown, packed, form, path) = match column {
                LookupColumnFile::Text { path } => {
                    let kind = Kind::Text { bytes_max: DOCUMENT_TEXT_MAX };
                    (Origin::Document(lookup, id), kind.clone(), kind, DocumentForm::Kind, path)
                }
                LookupColumnFile::Integer { path, range } => {
                    let kind = self.integer_kind(&format!("{at}/range"), range);
                    (Origin::Document(lookup, id), kind.clone(), kind, DocumentForm::Kind, path)
                }
                LookupColumnFile::Years { path, until, range } => {
                    let kind = self.integer_kind(&format!("{at}/range"), range);
                    let until = self.day_column(&format!("{at}/until"), until);
                    let until = until.unwrap_or(ColumnId(0));
                    let origin = Origin::Years { lookup, from: id, until };
                    (origin, kind, whole_day, DocumentForm::DayOfMoment, path)
                }
            };
            let paths = self.paths(&format!("{at}/path"), path);
            self.declare(&at, name, origin, shown);
            columns.push(DocumentColumn { paths, form });
            kinds.push(packed);
        }
        (columns, kinds)
    }

    fn day_column(&mut self, pointer: &str, name: &str) -> Option<ColumnId> {
        let column = self.event_column(pointer, name)?;
        let kind = &self.columns[usize::from(column.0)].kind;
        if !matches!(kind, Kind::Day { .. } | Kind::Moment { .. }) {
            let cause =
                format!("column \"{name}\" is of type {}, not date or datetime", kind.name());
            self.findings.at_value(pointer, Rule::WrongKind, cause, None);
        }
        Some(column)
    }

    fn paths(&mut self, pointer: &str, written: &PathsFile) -> Vec<Path> {
        match written {
            PathsFile::One(path) => self.path(pointer, path).into_iter().collect(),
            PathsFile::FirstOf(paths) => {
                let mut read = Vec::new();
                for (place, path) in paths.iter().enumerate() {
                    let at = format!("{pointer}/{place}");
                    if paths[..place].contains(path) {
                        let cause = format!("path \"{path}\" stands there twice");
                        self.findings.at_value(&at, Rule::BadPath, cause, None);
                    }
                    read.extend(self.path(&at, path));
                }
                read
            }
        }
    }

    fn path(&mut self, pointer: &str, written: &str) -> Option<Path> {
        let path = terms::path(written);
        if path.is_none() {
            let cause = format!("\"{written}\" is no path");
            let hint = Some("written as \"NAME.NAME\" or \"NAME[0].NAME\"".to_owned());
            self.findings.at_value(pointer, Rule::BadPath, cause, hint);
        }
        path
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

    fn views(&mut self) -> Vec<View> {
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
                let cause = format!("\"{name}\" is the name of an output of the engine's own");
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
        if declared(&events.shard_key) && !key.contains(&events.shard_key) {
            let shard_key = &events.shard_key;
            let cause = format!("the key lacks the shard key \"{shard_key}\"");
            let hint = "its events would meet on several workers".to_owned();
            self.findings.at_value(&key_at, Rule::KeyWithoutShard, cause, Some(hint));
        }
        if declared(&events.key) && !order.contains(&events.key) {
            let cause =
                format!("the order does not tell equal events apart: it lacks \"{}\"", events.key);
            let hint = format!("end it with \"{}\"", events.key);
            self.findings.at_value(&order_at, Rule::OrderNotTotal, cause, Some(hint));
        }
        let (key, order) = (self.event_columns(&key_at, key), self.event_columns(&order_at, order));
        Some(ViewKind::Latest { key, order })
    }

    fn event_columns(&mut self, pointer: &str, names: &[String]) -> Vec<ColumnId> {
        let mut columns = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let at = format!("{pointer}/{place}");
            if names[..place].contains(name) {
                let cause = format!("column \"{name}\" stands there twice");
                self.findings.at_value(&at, Rule::NameTaken, cause, None);
            }
            columns.extend(self.event_column(&at, name));
        }
        columns
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
        let mut columns = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let at = format!("{pointer}/{place}");
            if names[..place].contains(name) {
                let cause = format!("column \"{name}\" stands there twice");
                self.findings.at_value(&at, Rule::NameTaken, cause, None);
            }
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
