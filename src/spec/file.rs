//! The spec as it is written: the types behind `dataflows/*.toml`.
//!
//! Shape: TOML in, these types out; the JSON Schema for editors is generated from them, and their
//! doc comments are what an editor shows.
//!
//! Invariants: only the form is settled here (keys, types, bounds). Whether names are declared and
//! values make sense is checked by `spec::resolve`, which knows the whole file.
//!
//! Not here: anything that the engine runs on: that is `spec::plan`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A dataflow: which events come in, what is looked up for them, and which views go out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpecFile {
    /// Name of the dataflow, in lower case; topics, tables and progress bear it.
    pub name: String,
    /// Into how many fixed slices the key space is cut, 1 to 4096. It outlives every change of the
    /// number of workers and cannot change without new outputs. More let more workers share the
    /// work, and cost more progress records; fewer bound the workers.
    #[serde(default = "SpecFile::default_shards")]
    #[schemars(range(min = 1, max = 4096))]
    pub shards: u16,
    /// Whether records change when a document does.
    #[serde(default)]
    pub corrections: Corrections,
    /// The events: their columns, limits, and what the columns mean to the engine.
    pub events: EventsFile,
    /// What is looked up for each event, by name of the lookup; at most 64, each of which costs an
    /// exchange of the events. Their columns stand in records in this order.
    #[serde(default)]
    pub lookups: IndexMap<String, LookupFile>,
    /// What goes out, by name of the view, 1 to 256; the name is that of its file or topic.
    pub views: IndexMap<String, ViewFile>,
}

impl SpecFile {
    fn default_shards() -> u16 {
        64
    }
}

/// Whether records change when a document does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Corrections {
    /// History follows the reference: when a document changes, every record that it touches changes
    /// with it, in every view.
    #[default]
    Always,
    /// A record shows the documents as they were known when its event arrived, for good. Holds no
    /// history for looked-up columns; the result then depends on the order of arrival, so views
    /// that count by looked-up columns are refused.
    Never,
}

/// The events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsFile {
    /// The column that identifies an event: of events with one key the first stands, equal ones are
    /// dropped, others are dead letters. Equal keys must come by one input partition, unless
    /// `dedupe` says otherwise.
    pub key: String,
    /// Where events with one key meet.
    #[serde(default)]
    pub dedupe: DedupeBy,
    /// The column by whose value the work is cut into shards, usually whom the event is about.
    /// Where few values have most events, few workers have most work.
    pub shard_key: String,
    /// The column that says when the event happened; of type `datetime`, not optional.
    pub time: String,
    /// Time zone of the wall-clock times in events, by its exact IANA name. It must keep one offset
    /// over the whole range of the time column: where clocks are set back, wall time is ambiguous.
    pub zone: String,
    /// How long history is kept, in whole days, as "400d", up to 36500. An event that was made
    /// longer before its record was written is a dead letter; a record that is older than the
    /// newest by more is corrected no more, and its memory is let go. Without it all is kept. Files
    /// do not say when their lines were written: over them it changes nothing. Orders of latest
    /// views must then begin with the time column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon: Option<String>,
    /// Longest event in bytes, 64 B to 8 MiB; a longer one is a dead letter. More
    /// admits larger events, and lets one take more memory.
    #[serde(default = "EventsFile::default_bytes_max")]
    #[schemars(range(min = 64, max = 8_388_608))]
    pub bytes_max: u32,
    /// Deepest nesting of an event, 1 to 1024; the object itself is one level. A deeper one is a
    /// dead letter.
    #[serde(default = "EventsFile::default_depth_max")]
    #[schemars(range(min = 1, max = 1024))]
    pub depth_max: u16,
    /// The columns, by name, in the order in which records show them; with those of all lookups at
    /// most 1000. Keys of an event that are no columns are ignored.
    pub columns: IndexMap<String, EventColumnFile>,
}

impl EventsFile {
    fn default_bytes_max() -> u32 {
        1 << 20
    }

    fn default_depth_max() -> u16 {
        64
    }
}

/// Where events with one key meet.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum DedupeBy {
    /// In their input partition: producers write events with one key to one partition.
    #[default]
    Partition,
    /// In their shard too: events with one key may come by several partitions. Equal ones are one
    /// event; of others with one value of the shard key that stands which is held, and the rest is
    /// counted, not kept. Which one that is may be another one after a crash. Takes about 10 bytes
    /// more an event.
    Shard,
}

/// The type of an event's column. `optional = true`: may be missing or null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum EventColumnFile {
    /// A UUID as text with hyphens, of any case; written out in lower case.
    Uuid {
        /// May be missing or null.
        #[serde(default)]
        optional: bool,
    },
    /// An integer, as a JSON integer or as text of 1 to 20 decimal digits without sign.
    Integer {
        /// Least and greatest value, `"0..255"`; within -2^63 to 2^64-1. An event with another is a
        /// dead letter; a narrower range takes less memory.
        range: String,
        /// May be missing or null.
        #[serde(default)]
        optional: bool,
    },
    /// A real day, `YYYY-MM-DD`.
    Date {
        /// First and last day, `"1970-01-01..2149-06-06"`; by default years 1 to 9999.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "String")]
        range: Option<String>,
        /// May be missing or null.
        #[serde(default)]
        optional: bool,
    },
    /// A real moment of wall-clock time, `YYYY-MM-DD HH:MM:SS` with at most 6 digits of fraction;
    /// written out with 6.
    DateTime {
        /// First and last day on which it may lie, `"2015-01-01..2149-12-31"`; by default years 1
        /// to 9999.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "String")]
        range: Option<String>,
        /// May be missing or null.
        #[serde(default)]
        optional: bool,
    },
    /// Text.
    Text {
        /// Longest text in bytes of UTF-8, 1 B to 64 KiB; an event with a longer one is a dead
        /// letter.
        #[schemars(range(min = 1, max = 65_536))]
        bytes_max: u32,
        /// May be missing or null.
        #[serde(default)]
        optional: bool,
    },
}

impl EventColumnFile {
    /// Whether the column may be missing or null.
    pub fn is_optional(&self) -> bool {
        match self {
            EventColumnFile::Uuid { optional }
            | EventColumnFile::Integer { optional, .. }
            | EventColumnFile::Date { optional, .. }
            | EventColumnFile::DateTime { optional, .. }
            | EventColumnFile::Text { optional, .. } => *optional,
        }
    }
}

/// How events find a document, and what they take from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LookupFile {
    /// The sources whose documents these are, 1 to 16; all there are where it is not said. Where
    /// documents of two claim one key, the source that stands first has it. The first epoch waits
    /// for the first snapshot of each. Documents that are read from files have no source, and
    /// are of every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1, max = 16))]
    pub from: Option<Vec<String>>,
    /// Which documents this lookup is about; all of them where it is not said.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "FilterFile")]
    pub filter: Option<FilterFile>,
    /// The documents' own key. Where two documents of a source claim one key, the one with the
    /// smallest `_id` (by code points) has it.
    pub key: LookupKeyFile,
    /// The event column whose value names the document. Where it is absent, nothing is looked up.
    pub matches: String,
    /// Which events look the document up, by an event column; all of them where it is not said.
    /// The fewer, the fewer are held for correction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ConditionFile")]
    pub when: Option<ConditionFile>,
    /// The columns taken from the document, by name, at least one, in the order in which records
    /// show them. Where no document is known or it says nothing, the column is absent.
    pub columns: IndexMap<String, LookupColumnFile>,
}

/// A test of one text in a document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterFile {
    /// Where the text stands, as `NAME.NAME[0].NAME`.
    pub path: String,
    /// The text that must stand there; not empty, since empty text counts as absent.
    pub equals: String,
}

/// Where a document says its key. Text or an integer, as the event column that it is matched with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LookupKeyFile {
    /// Where the key stands, as `NAME.NAME[0].NAME`.
    pub path: String,
    /// Least and greatest integer that is a key, `"1..4294967295"`; by default the range of the
    /// matched column, with which it must share values. A document with another value has no key
    /// and is never found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub range: Option<String>,
}

/// A column taken from a document. Missing, null and empty text are absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum LookupColumnFile {
    /// A text; anything else is absent.
    Text {
        /// Where it stands; of several paths the first that holds a text.
        path: PathsFile,
    },
    /// An integer or text of decimal digits; anything else is absent.
    Integer {
        /// Where it stands; of several paths the first that holds such an integer.
        path: PathsFile,
        /// Least and greatest value; another is absent.
        range: String,
    },
    /// Whole years from a moment in the document (`YYYY-MM-DDTHH:MM:SSZ`, of which the day counts
    /// as written) to a day of the event; an age on that day.
    Years {
        /// Where the moment stands; of several paths the first that holds one.
        path: PathsFile,
        /// The event column, a date or datetime, up to which years are counted.
        until: String,
        /// Least and greatest number of years; another is absent.
        range: String,
    },
}

/// One path, or several of which the first that holds a value counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PathsFile {
    /// One path, as `NAME.NAME[0].NAME`.
    One(String),
    /// Several paths, 1 to 16, tried in order.
    FirstOf(#[schemars(length(min = 1, max = 16))] Vec<String>),
}

/// A test of one column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConditionFile {
    /// The column.
    pub column: String,
    /// The values of which it must have one, 1 to 1000; an absent value is none of them.
    #[serde(rename = "in")]
    #[schemars(length(min = 1, max = 1000))]
    pub values: Vec<ScalarFile>,
}

/// A value in a condition, written as the column's type asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ScalarFile {
    /// For integer columns. TOML's integers end at 2^63-1; a greater one is written as text.
    Integer(i64),
    /// For all other columns, and for integers as decimal digits.
    Text(String),
}

/// What goes out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum ViewFile {
    /// Every event once, with all its looked-up columns.
    Enriched {},
    /// Of the enriched records with one key the greatest.
    Latest {
        /// The columns that make a key; event columns only, the shard key among them.
        #[schemars(length(min = 1))]
        key: Vec<String>,
        /// The columns by which the greatest is found, compared from left to right, an absent value
        /// lowest; event columns only, the events' key among them so that none are equal.
        #[schemars(length(min = 1))]
        order: Vec<String>,
    },
    /// Numbers of records of another view, by group; a group without records is no row.
    Counts {
        /// The view whose records are counted, of kind `enriched` or `latest`.
        of: String,
        /// The columns that make a group; an absent value is a group of its own.
        #[schemars(length(min = 1))]
        by: Vec<String>,
        /// What is counted, by name of the number; at least one.
        counts: IndexMap<String, CountFile>,
    },
}

/// One number of a view of kind `counts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CountFile {
    /// Which records are counted; all of them where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ConditionFile")]
    pub when: Option<ConditionFile>,
}
