//! The resolved spec: plain values that the engine runs on, columns by position.
//!
//! Shape: events, lookups, output columns, views; every name turned into an id.
//!
//! Invariants: `spec::resolve` alone makes one, so every id is in range, every value in a condition
//! is of its column's kind, and keyed views keep the rules that keep corrections simple: keys and
//! orders hold event columns only, keys hold the shard key, orders hold the events' key.
//!
//! Not here: TOML, line numbers, names of anything that is not shown to people.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::terms::{is_lower_name, name_hint};
use crate::{
    row::{ColumnId, Columns, Joined, Key, Kind, Layout, LookupId, Value},
    time::{Day, Moment},
};

pub use super::file::{Corrections, DedupeBy};

/// A fixed slice of the key space, owned by one worker at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// A view's position among the views of its spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ViewId(pub u16);

/// An output column's position among all columns that an enriched record can show. The first ones
/// are the event's own, at the same positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputId(pub u16);

/// A dataflow, ready to run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The dataflow's name: that of its outputs and of all that is its own.
    pub name: String,
    /// The name of its inputs and of what readers are shown: the one in its file, also where it
    /// runs under another one (`Spec::named`).
    pub family: String,
    /// The text that it was read from.
    pub text: Arc<str>,
    /// Of that text: equal text, equal hash.
    pub hash: u64,
    /// Number of shards.
    pub shards: u16,
    /// Whether history follows the reference.
    pub corrections: Corrections,
    /// The events.
    pub events: Events,
    /// The lookups, in the order in which they apply.
    pub lookups: Vec<Lookup>,
    /// Every column of an enriched record, in the order in which it is shown.
    pub columns: Vec<OutputColumn>,
    /// What goes out.
    pub views: Vec<View>,
}

/// The events of a dataflow.
#[derive(Clone, Debug)]
pub struct Events {
    /// By `ColumnId`.
    pub columns: Vec<EventColumn>,
    /// How they are packed.
    pub layout: Layout,
    /// What identifies an event.
    pub key: ColumnId,
    /// What decides its shard.
    pub shard_key: ColumnId,
    /// When it happened.
    pub time: ColumnId,
    /// Zone of its wall-clock times.
    pub zone: String,
    /// How far these are ahead of UTC, in ms.
    pub ahead_ms: i64,
    /// Where events with one key meet.
    pub dedupe: DedupeBy,
    /// How long history is kept; `None` keeps it for ever.
    pub horizon: Option<Horizon>,
    /// Longest event, in bytes.
    pub bytes_max: usize,
    /// Deepest nesting.
    pub depth_max: usize,
}

/// How long history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// In days.
    pub days: u32,
    /// How far the events' wall clocks are ahead of UTC, in ms.
    pub(super) ahead_ms: i64,
}

impl Horizon {
    /// How long it is, in ms.
    pub fn ms(self) -> i64 {
        i64::from(self.days) * 24 * 60 * 60 * 1_000
    }

    /// The wall time a horizon before a time in ms since 1970, UTC.
    pub fn before(self, ms: i64) -> Moment {
        Moment::of_ms(ms.saturating_add(self.ahead_ms).saturating_sub(self.ms()))
    }
}

/// A column of events.
#[derive(Clone, Debug)]
pub struct EventColumn {
    /// Its key in the JSON of an event.
    pub name: String,
    /// Whether it may be missing or null.
    pub optional: bool,
}

/// How events find a document, and what they take from it.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// What people call it.
    pub name: String,
    /// The sources whose documents these are, the first before the others; of all where none is
    /// named.
    pub from: Vec<String>,
    /// Which documents it is about.
    pub filter: Option<Filter>,
    /// Where a document says its key.
    pub key_path: Path,
    /// What values are keys.
    pub key_kind: Kind,
    /// The event column that names the document.
    pub matches: ColumnId,
    /// Which events look it up.
    pub when: Option<Condition>,
    /// What is packed of a document, by `ColumnId`.
    pub columns: Vec<DocumentColumn>,
    /// How it is packed.
    pub layout: Layout,
}

/// A test of one text in a document.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Where the text stands.
    pub path: Path,
    /// The text.
    pub equals: String,
}

/// A packed column of a document.
#[derive(Clone, Debug)]
pub struct DocumentColumn {
    /// Tried in order.
    pub paths: Vec<Path>,
    /// How its JSON is read.
    pub form: DocumentForm,
}

/// How a document's value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentForm {
    /// As its kind says.
    Kind,
    /// The day of a moment `YYYY-MM-DDTHH:MM:SSZ`.
    DayOfMoment,
}

/// A way through a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path(pub Vec<Step>);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Name(name) if place == 0 => f.write_str(name)?,
                Step::Name(name) => write!(f, ".{name}")?,
                Step::Position(position) => write!(f, "[{position}]")?,
            }
        }
        Ok(())
    }
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Into an object.
    Name(String),
    /// Into an array.
    Position(usize),
}

/// A test of one column.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The column.
    pub column: OutputId,
    /// The values of which it must have one.
    pub values: Vec<Value>,
}

/// A column of enriched records.
#[derive(Clone, Debug)]
pub struct OutputColumn {
    /// Its key in the JSON of a record.
    pub name: String,
    /// Where its value comes from.
    pub origin: Origin,
    /// What values it has.
    pub kind: Kind,
}

/// Where the value of an output column comes from.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// A column of the event.
    Event(ColumnId),
    /// A column of a looked-up document.
    Document(LookupId, ColumnId),
    /// Whole years from a day in a document to a day of the event.
    Years {
        /// The lookup that found the document.
        lookup: LookupId,
        /// The day in the document.
        from: ColumnId,
        /// The date or datetime of the event.
        until: ColumnId,
    },
}

/// What goes out.
#[derive(Clone, Debug)]
pub struct View {
    /// Its name; also of its file.
    pub name: String,
    /// What it shows.
    pub kind: ViewKind,
}

/// What a view shows.
#[derive(Clone, Debug)]
pub enum ViewKind {
    /// Every event once, with its looked-up columns.
    Enriched,
    /// Of the records with one key the greatest.
    Latest {
        /// What makes a key.
        key: Vec<ColumnId>,
        /// What makes one greater.
        order: Vec<ColumnId>,
    },
    /// Numbers of records by group.
    Counts {
        /// Whose records are counted.
        of: ViewId,
        /// What makes a group.
        by: Vec<OutputId>,
        /// What is counted.
        numbers: Vec<CountColumn>,
    },
}

/// One number of a view of counts.
#[derive(Clone, Debug)]
pub struct CountColumn {
    /// Its key in the JSON of a row.
    pub name: String,
    /// Which records it counts.
    pub when: Option<Condition>,
}

impl Spec {
    /// The same under another name: over the same inputs, with outputs, progress and tables of its
    /// own.
    ///
    /// # Errors
    /// When that cannot be a name; with what could be one.
    pub fn named(self, name: &str) -> Result<Spec, String> {
        match is_lower_name(name) {
            true => Ok(Spec { name: name.to_owned(), ..self }),
            false => Err(name_hint(is_lower_name(&name.to_lowercase()))),
        }
    }

    /// Whether it runs under another name than that in its file.
    pub fn is_renamed(&self) -> bool {
        self.name != self.family
    }

    /// The sources that lookups name.
    pub fn sources(&self) -> BTreeSet<&str> {
        self.lookups.iter().flat_map(|lookup| &lookup.from).map(String::as_str).collect()
    }

    /// A lookup by its id.
    pub fn lookup(&self, id: LookupId) -> &Lookup {
        &self.lookups[usize::from(id.0)]
    }

    /// Whether a record may be without a column.
    pub fn may_lack(&self, column: &OutputColumn) -> bool {
        match column.origin {
            Origin::Event(id) => self.events.columns[usize::from(id.0)].optional,
            Origin::Document(..) | Origin::Years { .. } => true,
        }
    }

    /// A view by its id.
    pub fn view(&self, id: ViewId) -> &View {
        &self.views[usize::from(id.0)]
    }

    /// An output column by its id.
    pub fn column(&self, id: OutputId) -> &OutputColumn {
        &self.columns[usize::from(id.0)]
    }

    /// What a record says in a column.
    pub fn value<'r>(
        &self,
        record: &'r (impl Joined + ?Sized),
        column: OutputId,
    ) -> Option<Value<&'r str>> {
        let OutputColumn { origin, kind, .. } = self.column(column);
        match *origin {
            Origin::Event(column) => self.events.layout.get(record.event(), column),
            Origin::Document(lookup, column) => {
                self.lookup(lookup).layout.get(record.document(lookup)?, column)
            }
            Origin::Years { lookup, from, until } => {
                let from = self.lookup(lookup).layout.get(record.document(lookup)?, from)?;
                let years = day_of(from)?.whole_years_until(self.day(record.event(), until)?);
                let within = matches!(kind, Kind::Integer { low, high }
                    if (*low..=*high).contains(&i128::from(years)));
                within.then_some(Value::Integer(years.into()))
            }
        }
    }

    /// Whether a record passes a test.
    pub fn holds(&self, condition: &Condition, record: &(impl Joined + ?Sized)) -> bool {
        let value = self.value(record, condition.column);
        value.is_some_and(|value| condition.values.iter().any(|one| one.borrowed() == value))
    }

    /// Some columns of packed events, to be hashed and compared where they stand.
    pub fn event_columns(&self, columns: &[ColumnId]) -> Columns {
        let is_optional = |id: ColumnId| self.events.columns[usize::from(id.0)].optional;
        Columns::new(&self.events.layout, columns, is_optional)
    }

    /// Some columns of an event as a key.
    pub fn event_key(&self, event: &[u8], columns: &[ColumnId]) -> Key {
        Key::of(self.event_values(event, columns))
    }

    /// Some columns of an event, in order.
    pub fn event_values<'r>(
        &self,
        event: &'r [u8],
        columns: &[ColumnId],
    ) -> impl Iterator<Item = Option<Value<&'r str>>> {
        columns.iter().map(|column| self.events.layout.get(event, *column))
    }

    /// The key of the document that an event asks a lookup for; `None` where it asks for none.
    pub fn lookup_key(&self, lookup: LookupId, event: &[u8]) -> Option<Key> {
        let named = self.events.layout.get(event, self.lookup(lookup).matches);
        self.asks(lookup, event).then(|| Key::of([named]))
    }

    /// Whether an event asks a lookup for a document.
    pub fn asks(&self, lookup: LookupId, event: &[u8]) -> bool {
        let Lookup { when, matches, .. } = self.lookup(lookup);
        when.as_ref().is_none_or(|condition| self.holds(condition, event))
            && self.events.layout.get(event, *matches).is_some()
    }

    /// The shard of an event and of every record made from it; `scratch` spares an allocation.
    pub fn shard_of_event(&self, event: &[u8], scratch: &mut Vec<u8>) -> ShardId {
        scratch.clear();
        Key::append(self.event_values(event, &[self.events.shard_key]), scratch);
        self.shard_of_hash(Key::hash_of_bytes(scratch))
    }

    /// The shard of a key. The hash is part of what outputs hold and must never change.
    pub fn shard_of(&self, key: &Key) -> ShardId {
        self.shard_of_hash(key.hash())
    }

    fn shard_of_hash(&self, hash: u64) -> ShardId {
        ShardId((hash % u64::from(self.shards)) as u16)
    }

    fn day(&self, event: &[u8], column: ColumnId) -> Option<Day> {
        day_of(self.events.layout.get(event, column)?)
    }
}

fn day_of(value: Value<&str>) -> Option<Day> {
    match value {
        Value::Day(day) => Some(day),
        Value::Moment(moment) => Some(moment.day()),
        _ => None,
    }
}
