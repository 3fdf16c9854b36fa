//! Staging: events of files, or of the rows that ClickHouse holds, for a dataflow that is made from
//! more than its topic and archive have.
//!
//! Shape: files or a table in; partitions in the dataflow's archive, behind those of the topic,
//! out.
//!
//! Invariants: an event whose ID the topic or the archive has is left out: those stand as they
//! came. Nothing counts before the manifest is created, and what was cut short is made anew.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Map, Value as Json};
use xxhash_rust::xxh3::xxh3_128;

use super::HistoryError;
use crate::{
    archive::{self, Archived, Manifest, Partition, Topic, copy, stage::Stage},
    config::ClickHouseConfig,
    engine::{Edge, Names, Span},
    kafka::Kafka,
    load::{LoadError, Readers, Server},
    row::Value,
    source::{AtEnd, Decoder, Lines, SourceError},
    spec::{Spec, ViewKind},
};

/// Rows that are asked of ClickHouse at a time.
const ROWS_AT_ONCE: usize = 100_000;

/// After how many events it is told how many there are.
const BETWEEN_WORDS: u64 = 10_000;

/// Where history comes from.
pub enum Origin<'o> {
    /// Files of events, a line each.
    Files(&'o [PathBuf]),
    /// The table of the view that shows all records, as the dataflow that is shown has it.
    ClickHouse(&'o ClickHouseConfig, &'o str),
}

/// What is to be made.
pub struct Staging<'s> {
    /// The dataflow, under its own name.
    pub spec: &'s Arc<Spec>,
    /// Its brokers.
    pub kafka: &'s Kafka,
    /// Its inputs.
    pub names: &'s Names,
    /// Its archive.
    pub store: &'s Arc<archive::Store>,
    /// What was copied to it.
    pub copied: Option<Manifest>,
    /// When events were made that are taken; of those of which it is not known none, where it is
    /// asked.
    pub span: Span,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Staged {
    /// Events that were staged.
    pub events: u64,
    /// Events that the topic or the archive has.
    pub known: u64,
    /// Events that were made at another time.
    pub other: u64,
    /// Of those that were staged, what is no event: dead letters.
    pub refused: u64,
}

impl Staging<'_> {
    /// Stages what an origin has; `told` hears what is done, and of how many events.
    ///
    /// # Errors
    /// When a file, a server or brokers fail.
    pub fn run(
        self,
        origin: &Origin<'_>,
        told: &mut dyn FnMut(&str, u64),
    ) -> Result<Staged, HistoryError> {
        let mut manifest = self.begin()?;
        let known = self.known(&manifest.events, told)?;
        let mut taking = Taking {
            spec: self.spec,
            decoder: Decoder::new(Arc::clone(self.spec)),
            known,
            span: self.span.clone(),
            staged: Staged::default(),
            key: Vec::new(),
        };
        let mut history: Vec<Partition> = std::mem::take(&mut manifest.events.history);
        match origin {
            Origin::Files(files) => {
                for file in *files {
                    let mut stage = Stage::new(self.store, self.spec, history.len());
                    read_file(file, &mut taking, &mut stage, told)?;
                    history.push(stage.finish()?);
                }
            }
            Origin::ClickHouse(config, shown) => {
                let mut stage = Stage::new(self.store, self.spec, history.len());
                read_table(config, shown, &mut taking, &mut stage, told)?;
                history.push(stage.finish()?);
            }
        }
        history.retain(|partition| !partition.segments.is_empty());
        manifest.events.history = history;
        match manifest.create(self.store).map_err(archive::ArchiveError::from)? {
            true => Ok(taking.staged),
            false => Err(HistoryError::Twice { dataflow: self.spec.name.clone() }),
        }
    }

    /// What was copied, with an empty partition for each of the topic that it has none of.
    fn begin(&self) -> Result<Manifest, HistoryError> {
        let (asker, topic) = (self.kafka.asker()?, &self.names.events);
        let found = asker.identities(std::slice::from_ref(topic))?;
        let (id, partitions) = found
            .into_iter()
            .next()
            .map(|(_, id, partitions)| (id, partitions))
            .ok_or_else(|| super::not_there(topic, "`tributary init` makes its topic"))?;
        let nothing = || copy::first(&self.spec.name, Topic::empty(topic, &id, std::iter::empty()));
        let mut manifest = self.copied.clone().unwrap_or_else(nothing);
        for partition in manifest.events.partitions.len() as u32..partitions {
            let begin = asker.extent(topic, partition)?.0;
            manifest.events.partitions.push(Partition::empty(begin));
        }
        Ok(manifest)
    }

    /// The IDs of events that the topic or the archive has.
    fn known(
        &self,
        archived: &Topic,
        told: &mut dyn FnMut(&str, u64),
    ) -> Result<HashSet<u128>, HistoryError> {
        let mut known = HashSet::new();
        let mut decoder = Decoder::new(Arc::clone(self.spec));
        let (mut key, mut count) = (Vec::new(), 0);
        let mut take = |value: Option<&[u8]>| {
            count += 1;
            if count % BETWEEN_WORDS == 0 {
                told("looks which events are known", count);
            }
            if let Ok(row) = decoder.decode(value.unwrap_or_default()) {
                known.insert(id_of(self.spec, row, &mut key));
            }
        };
        let asker = self.kafka.asker()?;
        for (number, held) in (0..).zip(archived.all()) {
            let to = held.bound().offset;
            let mut within = Archived::new(Arc::clone(self.store), held, held.from, to);
            while let Some(record) = within.next_record()? {
                take(record.value);
            }
            if number as usize >= archived.partitions.len() {
                continue;
            }
            let from = to.max(asker.extent(&self.names.events, number)?.0);
            self.kafka.scan(&self.names.events, number, from, &mut |taken| {
                take(taken.value());
                true
            })?;
        }
        Ok(known)
    }
}

fn id_of(spec: &Spec, row: &[u8], scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    crate::row::Key::append(spec.event_values(row, &[spec.events.key]), scratch);
    xxh3_128(scratch)
}

/// Which events are taken.
struct Taking<'t> {
    spec: &'t Spec,
    decoder: Decoder,
    known: HashSet<u128>,
    span: Span,
    staged: Staged,
    key: Vec<u8>,
}

impl Taking<'_> {
    fn take(&mut self, stage: &mut Stage<'_>, event: &[u8]) -> Result<(), HistoryError> {
        let Taking { spec, decoder, known, span, staged, key } = self;
        let moment = |edge: &Option<Edge>| edge.as_ref().and_then(Edge::moment);
        let (since_ms, until_ms) = (moment(&span.since), moment(&span.until));
        let made_ms = match decoder.decode(event) {
            Ok(row) => {
                if known.contains(&id_of(spec, row, key)) {
                    staged.known += 1;
                    return Ok(());
                }
                let made = spec.events.layout.get(row, spec.events.time);
                let Some(Value::Moment(made)) = made else {
                    unreachable!("every event says when it was made")
                };
                let ms = made.since_1970_us() / 1_000 - spec.events.ahead_ms;
                let is_within = since_ms.is_none_or(|since| ms >= since)
                    && until_ms.is_none_or(|until| ms < until);
                if !is_within {
                    staged.other += 1;
                    return Ok(());
                }
                ms
            }
            Err(_) if since_ms.is_some() || until_ms.is_some() => {
                staged.other += 1;
                return Ok(());
            }
            Err(_) => {
                staged.refused += 1;
                0
            }
        };
        staged.events += 1;
        Ok(stage.push(b"", event, made_ms)?)
    }
}

fn read_file(
    path: &Path,
    taking: &mut Taking<'_>,
    stage: &mut Stage<'_>,
    told: &mut dyn FnMut(&str, u64),
) -> Result<(), HistoryError> {
    let mut lines = Lines::open("events file", path, AtEnd::Stop).map_err(SourceError::from)?;
    while let Some(line) = lines.next_line().map_err(SourceError::from)? {
        taking.take(stage, line)?;
        if taking.staged.events.is_multiple_of(BETWEEN_WORDS) {
            told("stages events of files", taking.staged.events);
        }
    }
    Ok(())
}

fn read_table(
    config: &ClickHouseConfig,
    shown: &str,
    taking: &mut Taking<'_>,
    stage: &mut Stage<'_>,
    told: &mut dyn FnMut(&str, u64),
) -> Result<(), HistoryError> {
    let spec = taking.spec;
    let server = Server::new(config).map_err(LoadError::from)?;
    let readers = Readers::of_tables(&server, config, spec);
    let enriched = spec.views.iter().find(|view| matches!(view.kind, ViewKind::Enriched));
    let view = enriched.ok_or_else(|| super::not_there(shown, "it has no view of all"))?;
    let wanted: Vec<&str> = spec.events.columns.iter().map(|column| &*column.name).collect();
    let key = wanted[usize::from(spec.events.key.0)].to_owned();
    let mut last = None;
    loop {
        let page = (&*key, last.as_deref(), ROWS_AT_ONCE);
        let rows = readers.rows_of(shown, &view.name, &wanted, page)?;
        let count = rows.len();
        for row in rows {
            let row: Map<String, Json> =
                row.into_iter().filter(|(_, value)| !value.is_null()).collect();
            last = row.get(&key).map(|value| match value {
                Json::String(text) => text.clone(),
                other => other.to_string(),
            });
            let event = serde_json::to_vec(&row).expect("plain values have a JSON");
            taking.take(stage, &event)?;
        }
        told("stages rows of ClickHouse", taking.staged.events);
        if count < ROWS_AT_ONCE {
            return Ok(());
        }
    }
}
