//! Lookups: which documents they take, by which key, and which columns of them.

use super::{DOCUMENT_TEXT_MAX, Resolver};
use crate::{
    row::{ColumnId, Kind, Layout, LookupId},
    spec::{
        file::{LookupColumnFile, LookupFile, PathsFile},
        plan::{DocumentColumn, DocumentForm, Filter, Lookup, Origin, Path},
        terms,
        violation::{Rule, pointer_to},
    },
    time::Day,
};

impl<'f> Resolver<'f> {
    pub(super) fn lookups(&mut self) -> Vec<Lookup> {
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
        let from = written.from.clone().unwrap_or_default();
        let from_at = format!("{pointer}/from");
        self.check_distinct(&from_at, &from, Rule::NameTaken, "source");
        for (place, name) in from.iter().enumerate().filter(|(_, n)| !terms::is_source_name(n)) {
            let cause = format!("\"{name}\" is no name of a source");
            let hint = Some("1 to 100 of a-z, 0-9 and _".to_owned());
            self.findings.at_value(&format!("{from_at}/{place}"), Rule::BadName, cause, hint);
        }
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
            from,
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
                self.check_distinct(pointer, paths, Rule::BadPath, "path");
                let path = |(place, path): (usize, &String)| {
                    self.path(&format!("{pointer}/{place}"), path)
                };
                paths.iter().enumerate().filter_map(path).collect()
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
}
