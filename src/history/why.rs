//! Why a record has its values: what was said, by whom, and what came of it.
//!
//! Shape: the ID of an event in; where it was said, which documents were looked up and what they
//! said, which mark counts among those of its key, and where all that stands, out.
//!
//! Invariants: nothing is kept for it: it is read from the inputs and outputs when it is asked, so
//! it says what stands there. What is told is of the dataflow as its topics are at that moment; a
//! correction that is on its way shows as such.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{HistoryError, compare::Row, known::Known};
use crate::{
    archive::{self, Archived, Manifest},
    config::ClickHouseConfig,
    engine::{Names, view_topics},
    kafka::{Kafka, Taken},
    load::{LoadError, Readers, Server},
    progress::epoch_of,
    reference::{
        Content, Projector,
        log::{Said, parts, read},
    },
    row::{ColumnId, Kind, LookupId, Value, json::write_value},
    source::{Decoder, Handed},
    spec::{Spec, ViewKind},
    time::Epoch,
};

/// What is known of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Why {
    /// Which start of the dataflow was last, and the hash of its spec.
    pub generation: u64,
    /// See there.
    pub spec: String,
    /// Whether that is another one than what is told here goes by.
    pub is_other_spec: bool,
    /// Where it was said, by partition and offset.
    pub said: Vec<SaidAt>,
    /// What its record said, newest last, as far as the topic holds it.
    pub enriched: Vec<Version>,
    /// By lookup, which documents it was looked up in.
    pub lookups: BTreeMap<String, LookedUp>,
    /// By view of the latest, which record counts of its key.
    pub latest: BTreeMap<String, Counts>,
    /// Where its record stands.
    pub held: Held,
}

/// An event of this ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SaidAt {
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
    /// When it was written there, in ms since 1970.
    pub time_ms: i64,
    /// Whether it was read from the archive.
    pub is_archived: bool,
    /// What became of it.
    pub became: Became,
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// It stands.
    Stands,
    /// It says what another one said before it.
    Repeats,
    /// Another one had its ID: it is a dead letter.
    Taken,
    /// It is no event: a dead letter, for this reason, in this column.
    Refused(&'static str, Option<String>),
}

/// A record as it stood at an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// When it came to say so.
    pub epoch: Epoch,
    /// Where it stands in the topic.
    pub offset: u64,
    /// By column what it came to say, as JSON; of the first one all, else what is other.
    pub columns: BTreeMap<String, Option<String>>,
}

/// What a lookup found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LookedUp {
    /// The number that was looked up, as JSON; none where the event asks for none.
    pub key: Option<String>,
    /// All that was said of it, in the order of the log.
    pub documents: Vec<Document>,
    /// Which one has it now.
    pub has_it: Option<String>,
}

/// What was said of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Document {
    /// Its source and `_id`.
    pub id: String,
    /// Where in the reference log.
    pub offset: u64,
    /// When it was written there, in ms since 1970.
    pub time_ms: i64,
    /// Its version in its system; 0 where that has none.
    pub version: u64,
    /// Whether it says that it has this number; else it has let it go, or is gone.
    pub claims: bool,
}

/// Which record counts of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The ID of the one that counts, as JSON.
    pub id: Option<String>,
    /// In which epoch it came to.
    pub epoch: Epoch,
    /// All of that key, the one that counts first, with what decides: the greatest does.
    pub of_key: Vec<OfKey>,
}

/// A record of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfKey {
    /// Its ID, as JSON.
    pub id: String,
    /// By column what decides among those of the key, in order.
    pub decides: Vec<(String, Option<String>)>,
}

/// Where a record stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// The topic, its partition, and where in it.
    pub topic: String,
    /// See there.
    pub partition: u32,
    /// Up to which epoch all shards have committed.
    pub committed: Epoch,
    /// In ClickHouse, the epoch of its row; none where it has none or is not asked.
    pub clickhouse: Option<Epoch>,
    /// Up to which epoch all is visible there.
    pub clickhouse_frontier: Option<Epoch>,
}

/// An event, packed.
type Event = Box<[u8]>;

/// Where to look.
pub struct Places<'p> {
    /// The dataflow.
    pub spec: &'p Arc<Spec>,
    /// Its brokers.
    pub kafka: &'p Kafka,
    /// Its inputs.
    pub names: &'p Names,
    /// Its archive, where there is one.
    pub archive: Option<&'p Arc<archive::Store>>,
    /// Its server of ClickHouse, where there is one.
    pub clickhouse: Option<&'p ClickHouseConfig>,
}

/// The text of a value as JSON.
fn json(value: Value<&str>) -> String {
    let mut out = Vec::new();
    write_value(&mut out, value);
    String::from_utf8_lossy(&out).into_owned()
}

/// An ID that somebody typed, as JSON.
fn known_as(spec: &Spec, id: &str) -> Result<String, HistoryError> {
    let no_id = || HistoryError::NoId {
        id: id.to_owned(),
        column: spec.events.columns[usize::from(spec.events.key.0)].name.clone(),
    };
    let text = json(Value::Text(id.trim()));
    let token = RawValue::from_string(text).map_err(|_| no_id())?;
    let mut scratch = String::new();
    let kind = spec.events.layout.kind(spec.events.key);
    kind.read(&token, &mut scratch).map(json).map_err(|_| no_id())
}

fn owned(value: Option<&&RawValue>) -> Option<String> {
    value.map(|value| value.get().to_owned())
}

/// The event of an ID, as it is looked for.
struct Looking<'l> {
    spec: &'l Spec,
    decoder: Decoder,
    /// The ID as JSON, and as it stands in an event, in lower case.
    id: String,
    needle: memchr::memmem::Finder<'l>,
    lower: Vec<u8>,
    found: Vec<SaidAt>,
    /// What stands of it, packed.
    event: Option<Event>,
}

impl Looking<'_> {
    fn look(&mut self, partition: u32, record: Handed<'_>, is_archived: bool) {
        let bytes = record.value.unwrap_or_default();
        self.lower.clear();
        self.lower.extend_from_slice(record.key.unwrap_or_default());
        self.lower.extend_from_slice(bytes);
        self.lower.make_ascii_lowercase();
        if self.needle.find(&self.lower).is_none() {
            return;
        }
        let key = self.spec.events.key;
        let became = match self.decoder.decode(bytes) {
            Ok(row) => {
                let of = self.spec.events.layout.get(row, key).map(json);
                if of.as_ref() != Some(&self.id) {
                    return;
                }
                match &self.event {
                    None => {
                        self.event = Some(row.into());
                        Became::Stands
                    }
                    Some(held) if **held == *row => Became::Repeats,
                    Some(_) => Became::Taken,
                }
            }
            // Of what is no event it is not known whose it is, but by its key.
            Err(refusal) => {
                let is_its = record.key.is_some_and(|key| {
                    let key = String::from_utf8_lossy(key).to_lowercase();
                    self.id.trim_matches('"').to_lowercase() == key
                });
                if !is_its {
                    return;
                }
                let name =
                    |column: ColumnId| self.spec.events.columns[usize::from(column.0)].name.clone();
                Became::Refused(refusal.reason.name(), refusal.column.map(name))
            }
        };
        let Handed { offset, time_ms, .. } = record;
        self.found.push(SaidAt { partition, offset, time_ms, is_archived, became });
    }
}

/// Finds out why the record of an event is as it is; `told` hears what is read.
///
/// # Errors
/// When brokers, the archive or ClickHouse fail, or the dataflow was never started.
pub fn why(places: &Places<'_>, id: &str, told: &mut dyn FnMut(&str)) -> Result<Why, HistoryError> {
    let Places { spec, kafka, .. } = *places;
    let known = Known::of(kafka, &spec.family, &spec.name, "does it run?")?;
    let mut why = Why { generation: known.lead.generation, ..Why::default() };
    why.is_other_spec = known.lead.spec != format!("{:016x}", spec.hash);
    why.spec.clone_from(&known.lead.spec);
    why.held.committed = known.standing()?.map_or(0, |standing| standing.epoch);
    told("looks for the event in the inputs");
    let id = &known_as(spec, id)?;
    let (said, event) = look_in_events(places, id, &known)?;
    why.said = said;
    let Some(event) = event else { return Ok(why) };
    let shard = spec.shard_of_event(&event, &mut Vec::new());
    told("reads its documents");
    for place in 0..spec.lookups.len() {
        let lookup = LookupId(place as u16);
        let found = look_up(places, lookup, &event)?;
        why.lookups.insert(spec.lookup(lookup).name.clone(), found);
    }
    told("reads its outputs");
    let key = spec.events.layout.get(&event, spec.events.key).map(json).unwrap_or_default();
    let topics = view_topics(spec, &spec.name);
    let asker = kafka.asker()?;
    for view in &spec.views {
        let Some(topic) = topics.get(&view.name) else { continue };
        let identity = asker.identities(std::slice::from_ref(topic))?;
        let Some((_, _, partitions)) = identity.into_iter().next() else { continue };
        let partition = u32::from(shard.0) % partitions;
        match &view.kind {
            ViewKind::Enriched => {
                why.enriched = versions(places, topic, partition, &key)?;
                why.held.topic.clone_from(topic);
                why.held.partition = partition;
            }
            ViewKind::Latest { key: of_key, order } => {
                let counts = counts(places, (topic, partition), &event, (of_key, order))?;
                why.latest.insert(view.name.clone(), counts);
            }
            ViewKind::Counts { .. } => {}
        }
    }
    for view in why.latest.keys().cloned().collect::<Vec<_>>() {
        let ViewKind::Latest { key: of_key, order } =
            &spec.views.iter().find(|of| of.name == view).expect("it was put there").kind
        else {
            continue;
        };
        let others = of_one_key(places, &why.held, &event, (of_key, order))?;
        let counts = why.latest.get_mut(&view).expect("it is there");
        counts.of_key = others;
        let first = counts.id.clone();
        counts.of_key.sort_by_key(|of| Some(&of.id) != first.as_ref());
    }
    if let Some(config) = places.clickhouse {
        told("asks ClickHouse");
        let server = Server::new(config).map_err(LoadError::from)?;
        let readers = Readers::of_tables(&server, config, spec);
        why.held.clickhouse_frontier = Some(readers.frontier(&spec.name, &known.views(spec))?);
        let column = &spec.events.columns[usize::from(spec.events.key.0)].name;
        let enriched = spec.views.iter().find(|view| matches!(view.kind, ViewKind::Enriched));
        if let Some(view) = enriched {
            let of = (&*view.name, &**column, key.trim_matches('"'));
            why.held.clickhouse = readers.newest_of(&spec.name, of)?;
        }
    }
    Ok(why)
}

/// All events of an ID, those that are archived first; and the one that stands.
fn look_in_events(
    places: &Places<'_>,
    id: &str,
    known: &Known,
) -> Result<(Vec<SaidAt>, Option<Event>), HistoryError> {
    let Places { spec, kafka, names, .. } = *places;
    let kind = spec.events.layout.kind(spec.events.key);
    // A text may be written with escapes.
    let needle = match kind {
        Kind::Text { .. } => String::new(),
        _ => id.trim_matches('"').to_ascii_lowercase(),
    };
    let mut looking = Looking {
        spec,
        decoder: Decoder::new(Arc::clone(spec)),
        id: id.to_owned(),
        needle: memchr::memmem::Finder::new(&needle),
        lower: Vec::new(),
        found: Vec::new(),
        event: None,
    };
    let asker = kafka.asker()?;
    let identity = asker.identities(std::slice::from_ref(&names.events))?;
    let partitions = identity.first().map_or(0, |(_, _, partitions)| *partitions);
    let manifest = match places.archive {
        Some(store) => Manifest::newest(store)?.map(|manifest| (store, manifest)),
        None => None,
    };
    // What stood before its state's begin is not a part of it.
    let state_from = |partition: u32| known.lead.events_from.get(partition as usize).copied();
    if let Some((store, manifest)) = &manifest {
        for (place, held) in (partitions..).zip(&manifest.events.history) {
            let to = held.bound().offset;
            let mut archived = Archived::new(Arc::clone(store), held, held.from, to);
            while let Some(record) = archived.next_record()? {
                looking.look(place, record, true);
            }
        }
    }
    for partition in 0..partitions {
        let (begin, _) = asker.extent(&names.events, partition)?;
        let from = state_from(partition).unwrap_or(0);
        if let Some((store, manifest)) = &manifest
            && let Some(held) = manifest.events.partitions.get(partition as usize)
            && held.from < begin
        {
            let to = held.bound().offset.min(begin);
            let mut archived = Archived::new(Arc::clone(store), held, held.from, to);
            while let Some(record) = archived.next_record()? {
                if (from..begin).contains(&record.offset) {
                    looking.look(partition, record, true);
                }
            }
        }
        kafka.scan(&names.events, partition, begin.max(from), &mut |taken: Taken<'_>| {
            let (offset, time_ms) = (taken.offset(), taken.time_ms());
            let (key, value) = (taken.key(), taken.value());
            looking.look(partition, Handed { offset, time_ms, key, value }, false);
            true
        })?;
    }
    Ok((looking.found, looking.event))
}

/// What the reference log says of a number of a lookup.
fn look_up(places: &Places<'_>, lookup: LookupId, event: &[u8]) -> Result<LookedUp, HistoryError> {
    let Places { spec, kafka, names, .. } = *places;
    let Some(key) = spec.lookup_key(lookup, event) else { return Ok(LookedUp::default()) };
    let shown = spec.events.layout.get(event, spec.lookup(lookup).matches).map(json);
    let projector = Projector::new(Arc::clone(spec));
    let mut found = LookedUp { key: shown, ..LookedUp::default() };
    let mut have = BTreeMap::<(usize, String), ()>::new();
    let from = &spec.lookup(lookup).from;
    kafka.scan(&names.reference, 0, 0, &mut |taken| {
        let (Some(record_key), value) = (taken.key(), taken.value()) else { return true };
        let Some(Said::Document(statement)) = read(record_key, value, &projector) else {
            return true;
        };
        let claims = match &statement.content {
            Content::Deleted => false,
            Content::Claims(claims) => {
                claims.iter().any(|claim| claim.lookup == lookup && claim.key == key)
            }
        };
        let id = statement.id.to_string();
        let source = id.split_once(':').map_or("", |(source, _)| source);
        let rank = from.iter().position(|named| named == source).unwrap_or(from.len());
        let had = have.contains_key(&(rank, id.clone()));
        if !claims && !had {
            return true;
        }
        match claims {
            true => drop(have.insert((rank, id.clone()), ())),
            false => drop(have.remove(&(rank, id.clone()))),
        }
        let version = value.and_then(parts).map_or(0, |(version, _)| version.0);
        let (offset, time_ms) = (taken.offset(), taken.time_ms());
        found.documents.push(Document { id, offset, time_ms, version, claims });
        true
    })?;
    found.has_it = have.into_keys().next().map(|(_, id)| id);
    Ok(found)
}

/// What the record of an event said, newest last.
fn versions(
    places: &Places<'_>,
    topic: &str,
    partition: u32,
    id: &str,
) -> Result<Vec<Version>, HistoryError> {
    let mut versions: Vec<Version> = Vec::new();
    let mut before = BTreeMap::<String, String>::new();
    let wanted = id.trim_matches('"').as_bytes();
    places.kafka.scan(topic, partition, 0, &mut |taken| {
        if taken.key() != Some(wanted) {
            return true;
        }
        let epoch = epoch_of(&taken).unwrap_or(0);
        let row = serde_json::from_slice::<Row<'_>>(taken.value().unwrap_or(b"{}"));
        let now: BTreeMap<String, String> = row
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| (name.into_owned(), value.get().to_owned()))
            .collect();
        let mut columns: BTreeMap<String, Option<String>> = now
            .iter()
            .filter(|(name, value)| before.get(*name) != Some(value))
            .map(|(name, value)| (name.clone(), Some(value.clone())))
            .collect();
        let gone = before.keys().filter(|name| !now.contains_key(*name));
        columns.extend(gone.map(|name| (name.clone(), None)));
        versions.push(Version { epoch, offset: taken.offset(), columns });
        before = now;
        true
    })?;
    Ok(versions)
}

/// Whether a row has the key of an event, in these columns.
fn has_key(spec: &Spec, row: &Row<'_>, event: &[u8], key: &[ColumnId]) -> bool {
    key.iter().all(|column| {
        let name = &*spec.events.columns[usize::from(column.0)].name;
        let value = spec.events.layout.get(event, *column).map(json);
        owned(row.get(name)) == value
    })
}

/// Which record counts of the key of an event.
fn counts(
    places: &Places<'_>,
    (topic, partition): (&str, u32),
    event: &[u8],
    (key, _): (&[ColumnId], &[ColumnId]),
) -> Result<Counts, HistoryError> {
    let spec = places.spec;
    let id = &spec.events.columns[usize::from(spec.events.key.0)].name;
    let mut counts = Counts::default();
    places.kafka.scan(topic, partition, 0, &mut |taken| {
        let Some(value) = taken.value() else { return true };
        if let Ok(row) = serde_json::from_slice::<Row<'_>>(value)
            && has_key(spec, &row, event, key)
        {
            counts.id = owned(row.get(&**id));
            counts.epoch = epoch_of(&taken).unwrap_or(0);
        }
        true
    })?;
    Ok(counts)
}

/// All records of the key of an event, with what decides among them.
fn of_one_key(
    places: &Places<'_>,
    held: &Held,
    event: &[u8],
    (key, order): (&[ColumnId], &[ColumnId]),
) -> Result<Vec<OfKey>, HistoryError> {
    let spec = places.spec;
    let id = &spec.events.columns[usize::from(spec.events.key.0)].name;
    let mut found = BTreeMap::new();
    if held.topic.is_empty() {
        return Ok(Vec::new());
    }
    places.kafka.scan(&held.topic, held.partition, 0, &mut |taken| {
        let Some(value) = taken.value() else { return true };
        if let Ok(row) = serde_json::from_slice::<Row<'_>>(value)
            && has_key(spec, &row, event, key)
        {
            let decides = order.iter().map(|column| {
                let name = spec.events.columns[usize::from(column.0)].name.clone();
                let value = owned(row.get(&Cow::Borrowed(&*name)));
                (name, value)
            });
            let decides: Vec<_> = decides.collect();
            found.insert(owned(row.get(&**id)).unwrap_or_default(), decides);
        }
        true
    })?;
    Ok(found.into_iter().map(|(id, decides)| OfKey { id, decides }).collect())
}
