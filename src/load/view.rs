//! Loading one view: from its topic into its table.
//!
//! Shape: committed records of a topic in; blocks of rows, and after each up to where the table
//! holds the topic, out.
//!
//! Invariants: what `tributary_loaded` says of a table is in it: the offset is written after the
//! block, and names the table by its UUID, which was the same before the block and after it. A
//! block of which nobody knows whether it was inserted is inserted again: rows of one key and epoch
//! are one row. The frontier of a table is moved only once all that the topic held after the
//! frontier was known is in the table. A record that is none of the view is not passed, unless it
//! is to be left out: rows behind it are loaded, but the frontier stands, and the next start finds
//! it again.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use tracing::{debug, info, warn};

use super::{
    LoadError,
    server::{Server, ServerError, named, quoted},
    table::{EPOCH, Encoder, TableColumn},
};
use crate::{
    kafka::{Asker, Kafka, Next, PartitionReader},
    progress::{PASSING_TIME_MAX, Passing, Read, epoch_of},
    spec::Spec,
    time::Epoch,
};

/// The tables in which it is kept how far loading is.
pub(super) const LOADED: &str = "tributary_loaded";
pub(super) const FRONTIERS: &str = "tributary_frontiers";
pub(super) const EXCHANGES: &str = "tributary_exchanges";

/// A block is inserted once it has so many rows or bytes, or its first row waits so long.
const BLOCK_ROWS: usize = 100_000;
const BLOCK_BYTES: usize = 64 << 20;
const BLOCK_AGE: Duration = Duration::from_millis(400);

/// Between looks at what comes.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Between looks whether the table still bears its name, also where nothing is inserted.
const BETWEEN_LOOKS_AT_TABLE: Duration = Duration::from_secs(2);

/// How often the client tells up to where it has fetched, in ms.
const BETWEEN_WORDS_MS: &str = "100";

/// Between moves of the frontier, and the time that the server has for one.
const BETWEEN_FRONTIERS: Duration = Duration::from_millis(500);
pub(super) const FRONTIER_SECONDS_MAX: u64 = 5;

/// Between tries of a server that fails: the first, and the longest.
const BETWEEN_TRIES_MIN: Duration = Duration::from_millis(250);
const BETWEEN_TRIES_MAX: Duration = Duration::from_secs(15);

/// Between words that a server still fails.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

/// A view that is loaded.
pub(super) struct Loading<'l> {
    pub(super) spec: &'l Spec,
    pub(super) kafka: &'l Kafka,
    pub(super) server: Server,
    pub(super) view: String,
    /// The topic, the table, and what that is called where it is shown.
    pub(super) topic: String,
    pub(super) table: String,
    pub(super) shown_as: String,
    /// Nothing beyond this epoch is loaded, and it ends once all up to there is.
    pub(super) until: Option<Epoch>,
    /// Whether what is no record of the view is left out.
    pub(super) leaves_out: bool,
    /// Up to which epoch all shards are committed.
    pub(super) committed: &'l AtomicU64,
    pub(super) end: &'l AtomicBool,
    /// What is told of it.
    pub(super) loaded: &'l Loaded,
}

/// How far the loading of a view is, for who watches.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Rows that were inserted.
    pub rows: AtomicU64,
    /// Blocks of rows.
    pub blocks: AtomicU64,
    /// The epoch up to which the table holds everything.
    pub frontier: AtomicU64,
    /// Records that are none of the view.
    pub refused: AtomicU64,
}

/// A table as it stands under its name now.
struct Table {
    uuid: String,
    encoder: Encoder,
}

/// A partition on its way.
struct Part {
    reader: PartitionReader,
    read: Read,
    /// From where on it is to be read again: a record beyond the epoch up to which is loaded, or
    /// one that is none of the view.
    held: Option<u64>,
    /// Whether it holds one that is none of the view.
    is_stuck: bool,
    /// Up to where the table holds it.
    loaded: u64,
}

/// Rows that are to be inserted.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    rows: usize,
    begun: Option<Instant>,
}

impl Loading<'_> {
    /// Loads until it is to end, or all up to the epoch is loaded.
    pub(super) fn run(&self) -> Result<(), LoadError> {
        while !self.is_to_end() {
            let Some(table) = self.patiently(|| self.look_at_table())? else { break };
            let table = table?;
            if let Some(until) = self.until
                && let Some(found) = self.patiently(|| self.newest())?
                && found > until
            {
                return Err(LoadError::Beyond { table: self.table.clone(), found, until });
            }
            if self.load_into(&table)? || self.table != self.shown_as {
                break;
            }
            info!(table = self.table, "is another table now; goes on with that one");
        }
        Ok(())
    }

    fn is_to_end(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// Loads into a table until another one bears its name; returns whether it is done.
    fn load_into(&self, table: &Table) -> Result<bool, LoadError> {
        // That of another table says nothing of this one.
        self.loaded.frontier.store(0, Ordering::Relaxed);
        let asker = self.kafka.asker()?;
        let identity = asker.identities(std::slice::from_ref(&self.topic))?;
        let Some((_, topic_id, partitions)) = identity.into_iter().next() else {
            return Err(LoadError::NoTopic { topic: self.topic.clone() });
        };
        let Some(from) = self.patiently(|| self.loaded(&table.uuid, &topic_id))? else {
            return Ok(true);
        };
        let Some(from) = self.what_is_there(from?, table)? else { return Ok(true) };
        // A table without a row is not said to be loaded: it would pass for one that was emptied.
        let mut has_rows = !from.is_empty();
        let begin = |partition: u32| -> Result<u64, LoadError> {
            let known = from.get(&partition).copied();
            known.map_or_else(|| Ok(asker.extent(&self.topic, partition)?.0), Ok)
        };
        let from: Vec<u64> = (0..partitions).map(begin).collect::<Result<_, _>>()?;
        let places: Vec<(String, u32, u64)> = (0..partitions)
            .zip(&from)
            .map(|(partition, offset)| (self.topic.clone(), partition, *offset))
            .collect();
        let words = Some(BETWEEN_WORDS_MS);
        let (readers, partitions) = self.kafka.read_and_tell(&places, words, || {})?;
        let parts = partitions.into_iter().zip(from);
        let part = |(reader, from)| Part {
            reader,
            read: Read { next: from, is_drained: false },
            held: None,
            is_stuck: false,
            loaded: from,
        };
        let mut parts: Vec<Part> = parts.map(part).collect();
        let (mut block, mut filled) = (Block::default(), Instant::now());
        let (mut next_move, mut next_look) = (Instant::now(), Instant::now());
        let mut moving = None::<Passing>;
        loop {
            readers.serve()?;
            let of_parts = || parts.iter().map(|part| &part.reader);
            let fetched = moving.as_ref().map(|moving| moving.fetched(&readers, of_parts()));
            // What came while a block was inserted has waited since then.
            let is_empty = self.fill(&mut block, &mut parts, table, filled)?;
            filled = Instant::now();
            if let (Some(moving), Some(fetched)) = (&mut moving, fetched) {
                moving.took(&fetched, parts.iter().map(|part| part.read));
            }
            let is_to_end = self.is_to_end();
            has_rows |= block.rows > 0;
            let is_news = has_rows && is_empty && block.rows == 0;
            if block.is_due() || (is_to_end && block.rows > 0) || is_news {
                if !self.insert(&mut block, &mut parts, table, &topic_id)? {
                    return Ok(self.is_to_end());
                }
                if is_to_end {
                    return Ok(true);
                }
            }
            // One that has nothing to insert is to notice too that another table is read now.
            if Instant::now() >= next_look {
                next_look = Instant::now() + BETWEEN_LOOKS_AT_TABLE;
                if self.patiently(|| self.uuid())?.is_some_and(|uuid| uuid != table.uuid) {
                    return Ok(false);
                }
            }
            if moving.is_none() && Instant::now() >= next_move {
                let asked = Instant::now();
                moving = self.begin_move(&asker, &parts);
                // Brokers that do not say it keep nobody from loading.
                let pause = if moving.is_none() { 10 * asked.elapsed() } else { Duration::ZERO };
                next_move = Instant::now() + pause.clamp(BETWEEN_FRONTIERS, PASSING_TIME_MAX);
            }
            moving = moving.filter(|moving| !moving.is_over());
            if let Some(epoch) = moving.as_ref().filter(|m| m.is_passed()).map(Passing::epoch)
                && block.rows == 0
                && !parts.iter().any(|part| part.is_stuck)
            {
                let is_moved = self.move_frontier(epoch, table)?;
                let is_done = is_moved && self.until.is_some_and(|until| epoch >= until);
                moving = None;
                if is_done {
                    return Ok(true);
                }
            }
            if is_to_end {
                return Ok(true);
            }
            if is_empty {
                thread::sleep(BETWEEN_LOOKS);
            }
        }
    }

    /// Takes what has come since a moment into the block; returns whether nothing had.
    fn fill(
        &self,
        block: &mut Block,
        parts: &mut [Part],
        table: &Table,
        since: Instant,
    ) -> Result<bool, LoadError> {
        let mut is_empty = true;
        for part in parts {
            part.read.is_drained = false;
            while !block.is_full() {
                let Part { reader, read, held, is_stuck, .. } = part;
                match reader.look()? {
                    Next::Nothing => {
                        read.is_drained = true;
                        break;
                    }
                    Next::End => {}
                    Next::Record(taken) => {
                        is_empty = false;
                        let offset = taken.offset();
                        read.next = offset + 1;
                        let epoch = epoch_of(&taken);
                        let record = taken.value().zip(epoch);
                        if let Some((_, epoch)) = record
                            && self.until.is_some_and(|until| epoch > until)
                        {
                            held.get_or_insert(offset);
                            continue;
                        }
                        let appended = record.is_some_and(|(value, epoch)| {
                            table.encoder.append(value, epoch, &mut block.bytes).is_ok()
                        });
                        match appended {
                            true => {
                                block.rows += 1;
                                block.begun.get_or_insert(since);
                            }
                            false => {
                                self.refuse(reader.partition(), offset)?;
                                if !self.leaves_out {
                                    held.get_or_insert(offset);
                                    *is_stuck = true;
                                }
                            }
                        }
                    }
                }
            }
        }
        Ok(is_empty)
    }

    /// Says what is no record of the view: nobody but the engine is to write there.
    fn refuse(&self, partition: u32, offset: u64) -> Result<(), LoadError> {
        let refused = self.loaded.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let topic = &self.topic;
        // What is to come to an end cannot stand before it for ever.
        if (self.until.is_some() || self.table != self.shown_as) && !self.leaves_out {
            return Err(LoadError::NoRecord { topic: topic.clone(), partition, offset });
        }
        if refused.is_power_of_two() {
            match self.leaves_out {
                true => warn!(topic, partition, offset, refused, "left out: no record of the view"),
                false => warn!(
                    topic,
                    partition,
                    offset,
                    refused,
                    "no record of the view: what comes behind it is loaded, but the frontier \
                     stands still; look who writes there: `tributary load --leave-out` passes it"
                ),
            }
        }
        Ok(())
    }

    /// Inserts a block and says how far the table is; returns whether the table bears its name
    /// still.
    fn insert(
        &self,
        block: &mut Block,
        parts: &mut [Part],
        table: &Table,
        topic_id: &str,
    ) -> Result<bool, LoadError> {
        let is_news = |part: &Part| part.next() > part.loaded;
        if block.rows == 0 && !parts.iter().any(is_news) {
            return Ok(true);
        }
        if block.rows > 0 {
            let tried = format!("insert {} rows into {}", block.rows, self.table);
            let mut rows = table.encoder.head().to_vec();
            rows.append(&mut block.bytes);
            let begun = Instant::now();
            let statement = table.encoder.insert();
            // A row may lie on any day: see the table's partitions.
            let settings = [("max_partitions_per_insert_block", "0")];
            let insert = || self.server.insert(&tried, statement, &settings, rows.clone());
            if self.patiently(insert)?.is_none() {
                return Ok(false);
            }
            failpoint!("load-inserted");
            debug!(rows = block.rows, ms = begun.elapsed().as_millis() as u64, "inserted");
            self.loaded.rows.fetch_add(block.rows as u64, Ordering::Relaxed);
            self.loaded.blocks.fetch_add(1, Ordering::Relaxed);
        }
        *block = Block { bytes: std::mem::take(&mut block.bytes), ..Block::default() };
        block.bytes.clear();
        // Where another table has taken the name meanwhile, the block may be in either.
        if self.patiently(|| self.uuid())? != Some(table.uuid.clone()) {
            return Ok(false);
        }
        let rows: Vec<String> = parts
            .iter()
            .filter(|part| is_news(part))
            .map(|part| {
                let (topic, id) = (quoted(&self.topic), quoted(topic_id));
                let (uuid, partition, next) =
                    (quoted(&table.uuid), part.reader.partition(), part.next());
                format!("({uuid}, {topic}, {id}, {partition}, {next})")
            })
            .collect();
        let statement = format!(
            "INSERT INTO {LOADED} (table_uuid, topic, topic_id, partition, next) VALUES {}",
            rows.join(", ")
        );
        let tried = format!("say how far {} is loaded", self.table);
        if self.patiently(|| self.server.execute(&tried, &statement))?.is_none() {
            return Ok(false);
        }
        failpoint!("load-said");
        parts.iter_mut().for_each(|part| part.loaded = part.next());
        Ok(true)
    }

    /// Asks where the partitions end, once more is committed than the frontier says.
    fn begin_move(&self, asker: &Asker, parts: &[Part]) -> Option<Passing> {
        let committed = self.committed.load(Ordering::Relaxed);
        let epoch = self.until.map_or(committed, |until| until.min(committed));
        let is_done = self.until.is_some_and(|until| epoch >= until);
        if parts.iter().any(|part| part.is_stuck) {
            return None;
        }
        if epoch <= self.loaded.frontier.load(Ordering::Relaxed) && !is_done || epoch == 0 {
            return None;
        }
        Passing::begin(epoch, asker, parts.iter().map(|part| &part.reader))
    }

    /// Says that the table holds everything up to an epoch, unless it is about to be exchanged;
    /// returns whether that is said.
    fn move_frontier(&self, epoch: Epoch, table: &Table) -> Result<bool, LoadError> {
        let uuid = quoted(&table.uuid);
        // The server decides, and within a time after which nobody need fear it any more.
        let statement = format!(
            "INSERT INTO {FRONTIERS} (table_name, table_uuid, epoch) SELECT {}, {uuid}, {epoch} \
             WHERE (SELECT count() FROM {EXCHANGES} WHERE table_uuid = {uuid} AND \
             until > now64(3)) = 0 SETTINGS max_execution_time = {FRONTIER_SECONDS_MAX}",
            quoted(&self.shown_as)
        );
        let tried = format!("move the frontier of {}", self.table);
        if self.patiently(|| self.server.execute(&tried, &statement))?.is_none() {
            return Ok(false);
        }
        failpoint!("load-moved");
        let said = self.patiently(|| self.server.frontier(&table.uuid))?.unwrap_or_default();
        self.loaded.frontier.fetch_max(said, Ordering::Relaxed);
        Ok(said >= epoch)
    }

    /// The UUID of the table that bears the name now; empty where there is none.
    fn uuid(&self) -> Result<String, ServerError> {
        self.server.uuid(&self.table)
    }

    /// The table as it stands; what is wrong with it is an error that does not pass.
    fn look_at_table(&self) -> Result<Result<Table, LoadError>, ServerError> {
        let uuid = self.uuid()?;
        if uuid.is_empty() {
            let (table, database) = (self.table.clone(), self.server.database.clone());
            return Ok(Err(LoadError::NoTable { table, database }));
        }
        let question = format!("DESCRIBE TABLE {}", named(&self.table));
        let tried = format!("ask for the columns of {}", self.table);
        let columns: Vec<TableColumn> = self.server.rows(&tried, &question)?;
        Ok(match Encoder::new(self.spec, &self.table, &columns) {
            Ok(encoder) => Ok(Table { uuid, encoder }),
            Err(unfit) => Err(LoadError::Unfit { table: self.table.clone(), unfit }),
        })
    }

    /// The newest epoch of a row in the table; 0 where there is none.
    fn newest(&self) -> Result<Epoch, ServerError> {
        #[derive(Deserialize)]
        struct Row {
            newest: Epoch,
        }
        let question = format!("SELECT max({EPOCH}) AS newest FROM {}", named(&self.table));
        let tried = format!("ask for the newest row of {}", self.table);
        let rows: Vec<Row> = self.server.rows(&tried, &question)?;
        Ok(rows.first().map_or(0, |row| row.newest))
    }

    /// Up to where a table holds the partitions of a topic.
    fn loaded(
        &self,
        uuid: &str,
        topic_id: &str,
    ) -> Result<Result<BTreeMap<u32, u64>, LoadError>, ServerError> {
        #[derive(Deserialize)]
        struct Row {
            topic: String,
            topic_id: String,
            partition: u32,
            next: u64,
        }
        let question = format!(
            "SELECT topic, topic_id, partition, max(next) AS next FROM {LOADED} WHERE table_uuid = \
             {} GROUP BY topic, topic_id, partition",
            quoted(uuid),
        );
        let tried = format!("ask how far {} is loaded", self.table);
        let rows: Vec<Row> = self.server.rows(&tried, &question)?;
        let is_other = |row: &&Row| row.topic_id != topic_id || row.topic != self.topic;
        if let Some(other) = rows.iter().find(is_other) {
            let Loading { table, view, .. } = self;
            let (table, topic, view) = (table.clone(), other.topic.clone(), view.clone());
            return Ok(Err(LoadError::OtherTopic { table, topic, view }));
        }
        Ok(Ok(rows.into_iter().map(|Row { partition, next, .. }| (partition, next)).collect()))
    }

    /// The same, if the table holds anything: one that was emptied keeps its UUID.
    fn what_is_there(
        &self,
        loaded: BTreeMap<u32, u64>,
        table: &Table,
    ) -> Result<Option<BTreeMap<u32, u64>>, LoadError> {
        if loaded.values().any(|next| *next > 0) {
            let Some(newest) = self.patiently(|| self.newest())? else { return Ok(None) };
            if newest == 0 && self.patiently(|| self.uuid())?.as_ref() == Some(&table.uuid) {
                let (table, view) = (self.table.clone(), self.view.clone());
                return Err(LoadError::Emptied { table, view });
            }
        }
        Ok(Some(loaded))
    }

    /// Asks the server until it answers; `None` where it is to end before that.
    fn patiently<T>(
        &self,
        mut ask: impl FnMut() -> Result<T, ServerError>,
    ) -> Result<Option<T>, LoadError> {
        let (mut pause, mut warned) = (BETWEEN_TRIES_MIN, None::<(Instant, ServerError)>);
        loop {
            match ask() {
                Ok(answer) => {
                    if warned.is_some() {
                        info!(table = self.table, "ClickHouse answers again");
                    }
                    return Ok(Some(answer));
                }
                Err(error) if !error.said.may_pass() => return Err(error.into()),
                Err(error) => {
                    let is_news = warned.as_ref().is_none_or(|(at, before)| {
                        before.said != error.said || at.elapsed() >= BETWEEN_WARNINGS
                    });
                    if is_news {
                        warn!("what is not loaded waits in Kafka: {error}");
                        warned = Some((Instant::now(), error));
                    }
                }
            }
            let until = Instant::now() + pause;
            while Instant::now() < until {
                if self.is_to_end() {
                    return Ok(None);
                }
                thread::sleep(BETWEEN_LOOKS);
            }
            pause = (pause * 2).min(BETWEEN_TRIES_MAX);
        }
    }
}

impl Block {
    fn is_full(&self) -> bool {
        self.rows >= BLOCK_ROWS || self.bytes.len() >= BLOCK_BYTES
    }

    fn is_due(&self) -> bool {
        self.is_full() || self.begun.is_some_and(|begun| begun.elapsed() >= BLOCK_AGE)
    }
}

impl Part {
    /// Up to where the table holds it once the block is inserted.
    fn next(&self) -> u64 {
        self.held.unwrap_or(self.read.next)
    }
}
