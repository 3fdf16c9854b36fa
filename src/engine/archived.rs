//! What of its events a start reads from the archive.
//!
//! Shape: the newest manifest and what the topics hold in; up to where each partition comes from
//! the archive out, the same for all processes.
//!
//! Invariants: a record is taken from the archive only where the topic is the one that it was
//! copied from, and where nothing is missing between the two.
//!
//! Not here: writing it (`archive::keeper`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{ArchiveRun, lead::StartError};
use crate::{
    archive::{self, ArchiveError, Archived, Manifest, Partition, reader},
    kafka::{Kafka, SmallRecord},
    sink::kafka::Topics,
    source::{Earlier, Handed, Last},
};

/// What a start takes from an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taken {
    /// The manifest, and what it is known by.
    number: u64,
    check: String,
    /// By partition of the events, from where and up to where; where nothing is taken, nothing.
    events: Vec<(u64, u64)>,
    /// By partition, up to where its files were found to be whole, where that was looked at.
    sound: Option<Vec<u64>>,
}

/// What an archive has for a start.
pub(super) struct Offer {
    store: Arc<archive::Store>,
    manifest: Manifest,
    /// What the manifest is known by, as it was written.
    check: String,
    /// Whether it ends where the first file is not whole.
    is_sound: bool,
}

/// An archive from which a start reads.
#[derive(Clone, Debug)]
pub(super) struct Taking {
    store: Arc<archive::Store>,
    manifest: Arc<Manifest>,
    taken: Taken,
}

impl Offer {
    /// Looks what there is; `None` where nothing was archived.
    ///
    /// # Errors
    /// When it cannot be used, and that is not to be passed over.
    pub(super) fn look(
        run: &ArchiveRun,
        kafka: &Kafka,
        topics: &Topics,
    ) -> Result<Option<Offer>, StartError> {
        let found = match run.passes_faults {
            true => newest_sound(&run.store).or_else(|error| match error {
                ArchiveError::Store(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(cause, "passed over, and all is read from the topic: {error}");
                    Ok(None)
                }
                error => Err(error),
            })?,
            false => Manifest::newest(&run.store)?.map(|found| (found.check(), found)),
        };
        let Some((check, manifest)) = found else {
            info!(archive = run.store.place(), "nothing is archived yet");
            return Ok(None);
        };
        let other = |topic: &str| ArchiveError::OtherTopic {
            archive: run.store.place().to_owned(),
            topic: topic.to_owned(),
        };
        let events = &manifest.events;
        if events.topic != topics.events.name || events.id != topics.events.id {
            return Err(other(&events.topic).into());
        }
        if !are_there(kafka, topics, &manifest)? {
            return Err(other(&events.topic).into());
        }
        let store = Arc::clone(&run.store);
        Ok(Some(Offer { store, manifest, check, is_sound: run.passes_faults }))
    }

    /// By partition of events that never stood in the topic, how many they are.
    pub(super) fn history(&self) -> impl ExactSizeIterator<Item = u64> {
        self.manifest.events.history.iter().map(|held| held.bound().offset)
    }

    /// Whether what never stood in the topic comes behind just the partitions that it has: numbers
    /// of partitions would be others else.
    pub(super) fn fits(&self, topics: &Topics) -> bool {
        let Manifest { events, .. } = &self.manifest;
        events.history.is_empty() || events.partitions.len() == topics.events.partitions as usize
    }

    /// Up to where it has a partition of the events.
    pub(super) fn bound(&self, partition: u32) -> Option<u64> {
        let held = self.manifest.events.partitions.get(partition as usize)?;
        Some(held.bound().offset)
    }

    /// What it has of a partition of the events.
    pub(super) fn events(&self, partition: u32) -> Option<(u64, u64)> {
        let held = self.manifest.events.get(partition)?;
        Some((held.from, held.bound().offset)).filter(|(from, to)| from < to)
    }

    /// The first offset of a partition that was written at or after a moment, in ms since 1970;
    /// `None` where none was.
    pub(super) fn written_since(
        &self,
        partition: u32,
        ms: i64,
    ) -> Result<Option<u64>, ArchiveError> {
        let Some(held) = self.manifest.events.partitions.get(partition as usize) else {
            return Ok(None);
        };
        for segment in held.segments.iter().filter(|segment| segment.last_ms >= ms) {
            if segment.first_ms >= ms {
                return Ok(Some(segment.from));
            }
            let mut within = Archived::new(Arc::clone(&self.store), held, segment.from, segment.to);
            while let Some(record) = within.next_record()? {
                if record.time_ms >= ms {
                    return Ok(Some(record.offset));
                }
            }
        }
        Ok(None)
    }

    /// Nothing of it is taken yet.
    pub(super) fn taken(&self, partitions: u32) -> Taken {
        let events = vec![(0, 0); partitions as usize];
        let Offer { manifest, check, is_sound, .. } = self;
        let bounds = manifest.events.partitions.iter().map(|held| held.bound().offset);
        let sound = is_sound.then(|| bounds.collect());
        Taken { number: manifest.number, check: check.clone(), events, sound }
    }
}

impl Taken {
    /// Takes a partition of the events.
    pub(super) fn take_events(&mut self, partition: u32, from: u64, to: u64) {
        self.events[partition as usize] = (from, to);
    }
}

impl Taking {
    /// Opens what a start takes, as the process that leads has said.
    ///
    /// # Errors
    /// When the archive is not the one that process sees.
    pub(super) fn open(run: &ArchiveRun, taken: Taken) -> Result<Taking, StartError> {
        let manifest = Manifest::read(&run.store, taken.number)?;
        if manifest.check() != taken.check {
            return Err(StartError::OtherArchive { archive: run.store.place().to_owned() });
        }
        let store = Arc::clone(&run.store);
        Ok(Taking { store, manifest: Arc::new(manifest), taken })
    }

    /// By partition, up to where its files were found to be whole, where that was looked at.
    pub(super) fn sound(&self) -> Option<Vec<u64>> {
        self.taken.sound.clone()
    }

    /// Of a partition of the events what is read before the topic itself.
    pub(super) fn events(&self, partition: u32) -> Option<Box<dyn Earlier>> {
        let (from, to) = *self.taken.events.get(partition as usize)?;
        let held = self.manifest.events.get(partition)?;
        let archived = || Archived::new(Arc::clone(&self.store), held, from, to);
        (from < to).then(|| Box::new(archived()) as Box<dyn Earlier>)
    }
}

/// The newest manifest of which all can be read; of the first partition of which something cannot,
/// what stands before that.
fn newest_sound(store: &archive::Store) -> Result<Option<(String, Manifest)>, ArchiveError> {
    for number in Manifest::numbers(store)?.into_iter().rev() {
        let mut manifest = match Manifest::read(store, number) {
            Ok(manifest) => manifest,
            Err(fault @ ArchiveError::Fault { .. }) => {
                warn!("passed over, and the manifest before it is taken: {fault}");
                continue;
            }
            Err(error) => return Err(error),
        };
        let check = manifest.check();
        for partition in &mut manifest.events.partitions {
            cut_at_fault(store, partition)?;
        }
        // No topic has what these held.
        for segment in manifest.events.history.iter().flat_map(|partition| &partition.segments) {
            reader::read(store, segment)?;
        }
        return Ok(Some((check, manifest)));
    }
    Ok(None)
}

/// Has a partition end before the first segment that is not what the manifest says.
fn cut_at_fault(store: &archive::Store, partition: &mut Partition) -> Result<(), ArchiveError> {
    for (place, segment) in partition.segments.iter().enumerate() {
        match reader::read(store, segment) {
            Ok(_) => {}
            Err(fault @ ArchiveError::Fault { .. }) => {
                let from = segment.from;
                warn!(from, "passed over, and what follows is read from the topic: {fault}");
                partition.end_before(place);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the topic of events still has, where it has anything there, the records that were
/// archived last.
fn are_there(kafka: &Kafka, topics: &Topics, manifest: &Manifest) -> Result<bool, StartError> {
    let asker = kafka.asker()?;
    let (name, mut known) = (&topics.events.name, Vec::new());
    for (partition, held) in (0..topics.events.partitions).zip(&manifest.events.partitions) {
        let bound = held.bound();
        let (begin, end) = asker.extent(name, partition)?;
        if end < bound.offset {
            return Ok(false);
        }
        if let Some(last) = bound.last.filter(|last| (begin..end).contains(&last.offset)) {
            known.push((partition, last));
        }
    }
    let places: Vec<(String, u32, u64)> =
        known.iter().map(|(partition, last)| (name.clone(), *partition, last.offset)).collect();
    let found = kafka.first_at(&places)?;
    let is_it = |(found, (_, last)): (&Option<SmallRecord>, &(u32, Last))| {
        found.as_ref().is_some_and(|SmallRecord { offset, key, value, time_ms }| {
            let (key, value) = (Some(&key[..]), value.as_deref());
            Last::of(&Handed { offset: *offset, time_ms: *time_ms, key, value }) == *last
        })
    };
    let are_there = found.iter().zip(&known).all(is_it);
    if are_there {
        info!(manifest = manifest.number, "reads what is archived");
    }
    Ok(are_there)
}
