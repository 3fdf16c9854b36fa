//! Dead letters on disk, until they are published.
//!
//! Shape: dead letters of one partition in, in order; JSON lines `{"file", "line", "reason",
//! "column", "bytes"}` out, the bytes in base64.
//!
//! Invariants: held on disk, not in memory, since hostile input can be nothing but dead letters;
//! the file has no name, so none is left behind whatever happens.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Seek, Write},
    path::PathBuf,
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;

use crate::{
    source::{DeadLetter, LINE_BYTES_MAX, PartitionId, Reason},
    spec::Spec,
};

/// A dead letter as people read it.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    file: &'a str,
    line: u64,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<&'a str>,
    bytes: String,
    /// Said where the line went on past what was kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

impl<'a> Line<'a> {
    /// `files` says by `PartitionId` what people call it.
    pub(super) fn of(letter: &DeadLetter, spec: &'a Spec, files: &'a [String]) -> Line<'a> {
        let DeadLetter { place, refusal, bytes, .. } = letter;
        let column = refusal.column.map(|id| spec.events.columns[usize::from(id.0)].name.as_str());
        Line {
            file: &files[place.partition.0 as usize],
            line: place.offset,
            reason: refusal.reason.name(),
            column,
            bytes: BASE64_STANDARD.encode(bytes),
            cut: bytes.len() == LINE_BYTES_MAX,
        }
    }
}

/// The dead letters of some partitions.
pub struct DeadLetters {
    spec: Arc<Spec>,
    /// By `PartitionId`: what people call it.
    files: Arc<Vec<String>>,
    folder: PathBuf,
    spools: BTreeMap<PartitionId, BufWriter<File>>,
    counts: BTreeMap<Reason, u64>,
}

impl DeadLetters {
    /// None yet; they will be held beside where they are published.
    pub fn new(spec: Arc<Spec>, files: Arc<Vec<String>>, folder: PathBuf) -> DeadLetters {
        DeadLetters { spec, files, folder, spools: BTreeMap::new(), counts: BTreeMap::new() }
    }

    /// Keeps a dead letter; those of a partition come in order.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&mut self, letter: &DeadLetter) -> io::Result<()> {
        let DeadLetter { place, refusal, .. } = letter;
        let line = Line::of(letter, &self.spec, &self.files);
        let spool = match self.spools.entry(place.partition) {
            std::collections::btree_map::Entry::Occupied(spool) => spool.into_mut(),
            std::collections::btree_map::Entry::Vacant(none) => {
                none.insert(BufWriter::new(tempfile::tempfile_in(&self.folder)?))
            }
        };
        serde_json::to_writer(&mut *spool, &line)?;
        spool.write_all(b"\n")?;
        *self.counts.entry(refusal.reason).or_default() += 1;
        Ok(())
    }

    /// How many there are, by reason.
    pub fn counts(&self) -> &BTreeMap<Reason, u64> {
        &self.counts
    }

    /// The held lines by partition, each to be read from its start.
    ///
    /// # Errors
    /// When they cannot be brought to disk.
    pub fn into_spools(self) -> io::Result<Vec<(PartitionId, File)>> {
        let rewound = |(partition, spool): (PartitionId, BufWriter<File>)| {
            let mut file = spool.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.rewind()?;
            Ok((partition, file))
        };
        self.spools.into_iter().map(rewound).collect()
    }
}
