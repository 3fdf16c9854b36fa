//! Events: their columns, and those that are the key, the shard key and the time.

use super::Resolver;
use crate::{
    row::{ColumnId, Kind, Layout},
    spec::{
        file::EventColumnFile,
        plan::{EventColumn, Events, Horizon, Origin},
        terms,
        violation::{Rule, pointer_to},
    },
    time::Day,
};

impl<'f> Resolver<'f> {
    pub(super) fn events(&mut self) -> Option<Events> {
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
        match time {
            Some(time) => self.check_time(&kinds[usize::from(time.0)]),
            None => self.check_zone(None),
        }
        // What is wrong with the time or its zone is reported there.
        let ahead_ms = time.and_then(|time| match &kinds[usize::from(time.0)] {
            Kind::Moment { low, .. } => terms::offset_ms(&written.zone, *low),
            _ => None,
        });
        let horizon = self.horizon(ahead_ms);
        Some(Events {
            columns,
            layout: Layout::new(kinds),
            key: key?,
            shard_key: shard_key?,
            time: time?,
            zone: written.zone.clone(),
            ahead_ms: ahead_ms?,
            dedupe: written.dedupe,
            horizon,
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

    fn horizon(&mut self, ahead_ms: Option<i64>) -> Option<Horizon> {
        let written = self.file.events.horizon.as_deref()?;
        let Some(days) = terms::horizon_days(written) else {
            let cause = format!("\"{written}\" is no number of days from 1 to 36500");
            let hint = Some("written as \"400d\"".to_owned());
            self.findings.at_value("/events/horizon", Rule::OutOfBounds, cause, hint);
            return None;
        };
        Some(Horizon { days, ahead_ms: ahead_ms? })
    }

    fn check_time(&mut self, kind: &Kind) {
        let time = &self.file.events.time;
        let range = match self.file.events.columns.get(time) {
            Some(EventColumnFile::DateTime { range, .. }) => range.as_deref(),
            _ => None,
        };
        let days = match kind {
            // The range is reported where it stands; a zone can be judged by its name alone.
            Kind::Moment { .. } if range.is_some_and(|range| terms::days(range).is_none()) => None,
            Kind::Moment { low, high } => Some((*low, *high)),
            _ => {
                let cause = format!("column \"{time}\" is of type {}, not datetime", kind.name());
                self.findings.at_value("/events/time", Rule::WrongKind, cause, None);
                None
            }
        };
        self.check_zone(days);
    }

    /// The zone by its name, and by the days in which times lie, where they are known.
    fn check_zone(&mut self, days: Option<(Day, Day)>) {
        if let Err((cause, hint)) = terms::check_zone(&self.file.events.zone, days) {
            self.findings.at_value("/events/zone", Rule::BadZone, cause, hint);
        }
    }
}
