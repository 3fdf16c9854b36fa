//! The file feed: keeps the reference log equal to what files of documents and changes say.
//!
//! Shape: files that grow in; of each document that is other than the log says, one record out.
//!
//! Invariants: the log says what the files say once nothing more comes; only true differences are
//! written, deletions included, so starting again writes nothing. What was said before the feed
//! began is one snapshot: the files are read as they are, compared with the log, and only then is
//! the snapshot called complete; a snapshot of which a line was refused deletes nothing. One feed
//! writes for a source: it takes the source's transactional id, which fences its elder, and then
//! marks the log as its own; an elder that finds that mark stops. That it was fenced is not enough
//! for that: brokers also fence who was silent for long.
//!
//! Not here: who reads the log (`reference::log`).

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher, Hasher, RandomState},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    kafka::{Kafka, KafkaError, Outgoing, WriteError, Writer, patiently},
    reference::{
        Projector,
        document::{self, Raw},
        log::{self, Mark, SEPARATOR},
    },
    source::{AtEnd, FileError, Lines},
    spec::Spec,
};

/// Most records and bytes of one transaction.
const RECORDS_MAX: usize = 1_000;
const BYTES_MAX: usize = 4 << 20;

/// Of what the log holds of a source, the share that a snapshot may delete without a word, one in
/// so many, and how many it may in any case.
const DELETED_SHARE: usize = 20;
const DELETED_MIN: usize = 20;

/// Between looks at whether a file has grown.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// What a feed over files is to do.
pub struct FileFeed {
    /// The dataflow whose lookups say what is kept of a document.
    pub spec: Arc<Spec>,
    /// The brokers.
    pub kafka: Kafka,
    /// The reference log.
    pub topic: String,
    /// What the source is called: keys begin with it.
    pub source: String,
    /// The documents as they stand.
    pub documents: PathBuf,
    /// What happened to them.
    pub changes: Option<PathBuf>,
    /// Whether it ends once the files are read.
    pub once: bool,
    /// Whether its snapshot may delete however much.
    pub accepts_deletes: bool,
}

/// What a feed did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fed {
    /// Lines read.
    pub lines: u64,
    /// Of these, refused.
    pub refused: u64,
    /// Documents written, and deletions.
    pub written: u64,
    /// See there.
    pub deleted: u64,
    /// Documents that the files did not name at the snapshot, and that were kept since a line was
    /// refused.
    pub kept: u64,
}

/// Why a feed cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// A file failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The brokers failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// What it wrote is not there.
    #[error(
        "topic \"{topic}\" does not hold what this feed wrote: it was deleted and made again; \
         start the feed again, which writes all anew"
    )]
    OtherLog {
        /// The topic.
        topic: String,
    },
    /// Much of what the log holds is not in the files.
    #[error(
        "the files of source \"{source_name}\" do not name {gone} of the {held} documents that the \
         log holds, and at most {most} are deleted without a word; are the files whole? give \
         --accept-deletes to delete them"
    )]
    Deletes {
        /// The source.
        source_name: String,
        /// How many are not named.
        gone: usize,
        /// How many the log holds.
        held: usize,
        /// How many may be.
        most: usize,
    },
    /// Another feed of this source has begun.
    #[error(
        "another feed of source \"{source_name}\" has begun; this one writes nothing more, and \
         must not be started again beside it"
    )]
    Fenced {
        /// The source.
        source_name: String,
    },
}

/// What the files say, and what the log does.
struct Feeding<'f> {
    feed: &'f FileFeed,
    projector: Projector,
    /// By key, what the files say.
    wanted: HashMap<Box<str>, Vec<u8>>,
    /// By key, a hash of what the log says.
    held: HashMap<Box<str>, u64>,
    /// Keys that were spoken of since they were compared.
    touched: BTreeSet<Box<str>>,
    /// The mark of this feed, and that of the one before it, until its own is written.
    mark: Mark,
    elder: Option<String>,
    fed: Fed,
    /// Whether it is asked to end.
    end: &'f AtomicBool,
}

/// What the log says of a source.
#[derive(Default)]
struct Log {
    /// By key, a hash of what it says of a document.
    held: HashMap<Box<str>, u64>,
    mark: Mark,
}

/// A record of the log: its key, and what it says; `None` that the document is gone.
type Said = (Box<str>, Option<Vec<u8>>);

impl FileFeed {
    /// Feeds until `end` is set, or the files are read; `told` is called when the snapshot is
    /// complete.
    ///
    /// # Errors
    /// When files or brokers fail, or another feed has begun.
    pub fn run(&self, end: &AtomicBool, told: &dyn Fn(Fed)) -> Result<Fed, FeedError> {
        let at_end = if self.once { AtEnd::Stop } else { AtEnd::Follow };
        let mut documents = Lines::open("documents file", &self.documents, at_end)?;
        let changes = self.changes.as_deref();
        let mut changes =
            changes.map(|path| Lines::open("changes file", path, at_end)).transpose()?;
        let mut feeding = Feeding {
            feed: self,
            projector: Projector::new(Arc::clone(&self.spec)),
            wanted: HashMap::new(),
            held: HashMap::new(),
            touched: BTreeSet::new(),
            mark: Mark {
                complete: false,
                feed: format!("{:016x}", RandomState::new().build_hasher().finish()),
            },
            elder: None,
            fed: Fed::default(),
            end,
        };
        let mut writer = feeding.take_over()?;
        let mut is_complete = false;
        while !end.load(Ordering::Relaxed) {
            let before = feeding.fed.lines;
            feeding.take(&mut documents)?;
            if let Some(changes) = &mut changes {
                feeding.take(changes)?;
            }
            if !is_complete {
                feeding.miss(documents.has_part())?;
            }
            writer = feeding.write(writer)?;
            if !is_complete {
                feeding.mark.complete = true;
                writer = feeding.write_mark(writer)?;
                is_complete = true;
                told(feeding.fed);
            }
            if feeding.fed.lines == before {
                if self.once {
                    break;
                }
                writer.hear();
                thread::sleep(BETWEEN_LOOKS);
            }
        }
        Ok(feeding.fed)
    }
}

impl Feeding<'_> {
    /// Fences an elder feed of the source, learns what the log says, and marks it.
    fn take_over(&mut self) -> Result<Writer, FeedError> {
        let (writer, Log { held, mark }) = self.take_id()?;
        self.held = held;
        self.mark.complete = mark.complete;
        self.elder = Some(mark.feed);
        let writer = self.write_mark(writer)?;
        self.elder = None;
        // Nothing was compared with what the log said before.
        self.touched.clear();
        Ok(writer)
    }

    /// Takes the source's transactional id; then reads the log.
    fn take_id(&self) -> Result<(Writer, Log), KafkaError> {
        let FileFeed { kafka, topic, source, .. } = self.feed;
        // Logs of several dataflows may be fed from one source.
        let writer = kafka.writer(&format!("{topic}-{source}-feed"))?;
        let prefix = format!("{source}{SEPARATOR}");
        let mut log = Log::default();
        kafka.scan(topic, 0, 0, &mut |taken| {
            let key = taken.key().and_then(|key| str::from_utf8(key).ok());
            match (key, taken.value()) {
                (Some(key), Some(value)) if key == prefix => log.mark = Mark::parse(value),
                (Some(key), Some(value)) if key.starts_with(&prefix) => {
                    log.held.insert(key.into(), xxh3_64(value));
                }
                (Some(key), None) => drop(log.held.remove(key)),
                _ => {}
            }
            true
        })?;
        Ok((writer, log))
    }

    /// Takes the id again after a transaction whose outcome is not known, however long brokers are
    /// gone; what the log says otherwise than was known is compared again.
    fn take_again(&mut self) -> Result<Writer, FeedError> {
        let is_to_stop = || self.end.load(Ordering::Relaxed);
        let taken =
            patiently(&self.feed.source, is_to_stop, KafkaError::may_pass, || self.take_id());
        let (writer, Log { held, mark }) = taken?;
        if mark.feed.is_empty() && self.elder.is_none() {
            return Err(FeedError::OtherLog { topic: self.feed.topic.clone() });
        }
        if mark.feed != self.mark.feed && self.elder.as_ref() != Some(&mark.feed) {
            let source_name = self.feed.source.clone();
            return Err(FeedError::Fenced { source_name });
        }
        let keys = held.keys().chain(self.held.keys());
        let others = keys.filter(|key| held.get(*key) != self.held.get(*key));
        let others: Vec<_> = others.cloned().collect();
        self.touched.extend(others);
        self.held = held;
        Ok(writer)
    }

    /// What the files do not name any more is gone; unless a line was refused, or has no end yet,
    /// which may be the one that names it: then what was known stands.
    fn miss(&mut self, has_part: bool) -> Result<(), FeedError> {
        let gone = self.held.keys().filter(|key| !self.wanted.contains_key(*key));
        let gone: Vec<_> = gone.filter(|key| !self.touched.contains(*key)).cloned().collect();
        if has_part || self.fed.refused > 0 {
            self.fed.kept = gone.len() as u64;
            return Ok(());
        }
        let (held, source_name) = (self.held.len(), self.feed.source.clone());
        let most = (held / DELETED_SHARE).max(DELETED_MIN);
        if gone.len() > most && !self.feed.accepts_deletes {
            return Err(FeedError::Deletes { source_name, gone: gone.len(), held, most });
        }
        self.touched.extend(gone);
        Ok(())
    }

    /// Takes what came to a file.
    fn take(&mut self, lines: &mut Lines) -> Result<(), FeedError> {
        while let Some(line) = lines.next_line()? {
            self.fed.lines += 1;
            let Ok(Raw { id, source }) = document::raw(line) else {
                self.fed.refused += 1;
                continue;
            };
            let key: Box<str> = format!("{}{SEPARATOR}{id}", self.feed.source).into();
            match source {
                None => drop(self.wanted.remove(&key)),
                Some(source) if self.projector.claims(&key, source).is_none() => {
                    self.fed.refused += 1;
                    continue;
                }
                Some(source) => {
                    let value = log::value(&self.projector.pruned(source));
                    self.wanted.insert(key.clone(), value);
                }
            }
            self.touched.insert(key);
        }
        Ok(())
    }

    /// Writes what the log says otherwise, of the keys that were spoken of.
    fn write(&mut self, mut writer: Writer) -> Result<Writer, FeedError> {
        while !self.touched.is_empty() {
            let mut batch = Vec::new();
            let mut bytes = 0;
            while batch.len() < RECORDS_MAX && bytes < BYTES_MAX {
                let Some(key) = self.touched.pop_first() else { break };
                let wanted = self.wanted.get(&key);
                if wanted.map(|value| xxh3_64(value)) != self.held.get(&key).copied() {
                    bytes += wanted.map_or(0, Vec::len);
                    batch.push((key, wanted.cloned()));
                }
            }
            if batch.is_empty() {
                continue;
            }
            writer = self.commit(writer, &batch)?;
            for (key, value) in batch {
                match value {
                    Some(value) => {
                        self.fed.written += 1;
                        self.held.insert(key, xxh3_64(&value));
                    }
                    None => {
                        self.fed.deleted += 1;
                        self.held.remove(&key);
                    }
                }
            }
        }
        Ok(writer)
    }

    /// Writes the mark of this feed.
    fn write_mark(&mut self, writer: Writer) -> Result<Writer, FeedError> {
        let key = format!("{}{SEPARATOR}", self.feed.source).into();
        self.commit(writer, &[(key, Some(self.mark.to_json()))])
    }

    /// Writes records in a transaction, with as many writers as it takes. Saying again what was
    /// said is no harm, so one whose outcome is not known is written again, unless another feed has
    /// begun.
    fn commit(&mut self, mut writer: Writer, batch: &[Said]) -> Result<Writer, FeedError> {
        let topic = &self.feed.topic;
        loop {
            let written = writer.write(|send| {
                batch.iter().try_for_each(|(key, value)| {
                    send(Outgoing {
                        topic,
                        partition: 0,
                        key: Some(key.as_bytes()),
                        value: value.as_deref(),
                        headers: &[],
                    })
                })
            });
            match written {
                Ok(()) => return Ok(writer),
                Err(WriteError::Unknown { .. } | WriteError::Fenced { .. }) => {
                    drop(writer);
                    writer = self.take_again()?;
                }
                Err(WriteError::Hopeless(error)) => return Err(error.into()),
            }
        }
    }
}
