//! The update log: every change of every view, as it happens.
//!
//! Shape: sealed epochs of the workers of one process in; JSON lines out, `{"epoch", "diff",
//! "view", "row"}` an update, and after the last update of an epoch one that seals it:
//!
//! ```text
//! {"sealed": 17, "events": [120, 80], "documents": 40, "changes": 3, "waiting": 0}
//! ```
//!
//! it holds that many lines of each input, and so many records of this process still wait for
//! corrections. Where other processes change something and this one does not, it says so now and
//! then by such a line alone: nothing more comes here up to that epoch.
//!
//! Invariants: a line that seals an epoch stands after all its updates and those of the epochs
//! before it, of all workers of the process. Adding up `diff` by view and row over the updates of
//! sealed epochs gives the views of exactly those lines, where none waits; no row is ever taken
//! back more often than it was given. Lines are never torn but by a crash, the last one. Who reads
//! slowly is waited for.
//!
//! Not here: when an epoch is sealed (`engine`), how a row looks (`sink::render`).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::fd::AsFd,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use serde::Serialize;

use super::{Folder, Sealed, Sink, SinkError, contents, dead_letters, render::Renderer};
use crate::{
    dataflow::{Diff, RecordRef},
    row::json,
    source::{Input, PartitionId, Vector},
    spec::{Spec, ViewId, ViewKind, plan::View},
    time::Epoch,
};

/// The file's name within its folder.
pub const UPDATES: &str = "updates.ndjson";

/// Bytes that a worker gathers before it hands them to the system.
const CHUNK_BYTES: usize = 1 << 16;

/// An update log that is being written.
pub struct UpdateLog {
    name: String,
    /// Held until the end, so that no other run writes there.
    folder: Option<Folder>,
    shared: Mutex<Shared>,
}

struct Shared {
    /// `None` until it has begun.
    out: Option<File>,
    /// By worker: the epoch before which it has written all; `None` once that is all there is.
    frontiers: Vec<Option<Epoch>>,
    /// Epochs that are not sealed for all workers: what each said of it.
    unsealed: BTreeMap<Epoch, Said>,
    /// The last sealed epoch: its label,
    sealed: Epoch,
    /// up to where it holds the inputs,
    vector: Vector,
    /// and by worker how many rows wait.
    waiting: Vec<u64>,
}

/// What the workers said of an epoch.
#[derive(Default)]
struct Said {
    vector: Option<Vector>,
    /// Worker and number.
    waiting: Vec<(usize, u64)>,
}

/// The line that seals an epoch.
#[derive(Serialize)]
struct Seal {
    sealed: Epoch,
    events: Vec<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    documents: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<u64>,
    waiting: u64,
}

impl UpdateLog {
    /// A log in a folder, of so many workers. One of an earlier run stands there until `begin`.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn in_folder(path: &Path, workers: usize) -> Result<UpdateLog, SinkError> {
        let folder = Folder::claim(path, [UPDATES.to_owned()])?;
        let name = format!("\"{}\"", folder.path().join(UPDATES).display());
        Ok(UpdateLog::new(name, Some(folder), None, workers))
    }

    /// Begins to write. A log of an earlier run is replaced: whoever still reads that one keeps it
    /// as it is.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn begin(&self) -> Result<(), SinkError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let path = folder.path().join(UPDATES);
        let made = || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            File::create_new(&path)
        };
        self.shared().out = Some(made().map_err(|source| self.unwritten(source))?);
        Ok(())
    }

    /// A log on standard output.
    ///
    /// # Errors
    /// When there is none.
    pub fn on_standard_output(workers: usize) -> Result<UpdateLog, SinkError> {
        let name = "standard output".to_owned();
        match io::stdout().as_fd().try_clone_to_owned() {
            Ok(out) => Ok(UpdateLog::new(name, None, Some(out.into()), workers)),
            Err(source) => Err(SinkError::Log { name, source }),
        }
    }

    fn new(name: String, folder: Option<Folder>, out: Option<File>, workers: usize) -> UpdateLog {
        let shared = Shared {
            out,
            frontiers: vec![Some(0); workers],
            unsealed: BTreeMap::new(),
            sealed: 0,
            vector: Vector::new(),
            waiting: vec![0; workers],
        };
        UpdateLog { name, folder, shared: Mutex::new(shared) }
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One worker's hand in it; `files` says by `PartitionId` what people call an input.
    pub fn worker(
        self: &Arc<UpdateLog>,
        worker: usize,
        spec: &Arc<Spec>,
        files: Arc<Vec<String>>,
    ) -> WorkerLog {
        let label = |name: &str| {
            let mut label = br#","view":"#.to_vec();
            json::write_text(&mut label, name);
            label.extend_from_slice(br#","row":"#);
            label
        };
        let is_enriched = |(place, view): (usize, &View)| {
            matches!(view.kind, ViewKind::Enriched).then_some(ViewId(place as u16))
        };
        WorkerLog {
            labels: spec.views.iter().map(|view| label(&view.name)).collect(),
            dead_letters_label: label("dead_letters"),
            enriched: spec.views.iter().enumerate().filter_map(is_enriched).collect(),
            renderer: Renderer::new(Arc::clone(spec)),
            spec: Arc::clone(spec),
            files,
            log: Arc::clone(self),
            worker,
            buffer: Vec::with_capacity(CHUNK_BYTES),
            updates: 0,
        }
    }

    /// Brings to disk what was written; nothing where it goes to a pipe or a terminal.
    ///
    /// # Errors
    /// When that fails.
    pub fn sync(&self) -> Result<(), SinkError> {
        if self.folder.is_none() {
            return Ok(());
        }
        let synced = self.shared().out.as_ref().map_or(Ok(()), File::sync_all);
        synced.map_err(|source| self.unwritten(source))
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("no worker panics while it writes, for a panic ends the process")
    }

    fn unwritten(&self, source: io::Error) -> SinkError {
        SinkError::Log { name: self.name.clone(), source }
    }
}

/// One worker's hand in an update log.
pub struct WorkerLog {
    log: Arc<UpdateLog>,
    worker: usize,
    spec: Arc<Spec>,
    files: Arc<Vec<String>>,
    renderer: Renderer,
    /// By `ViewId`: `,"view":"NAME","row":`.
    labels: Vec<Vec<u8>>,
    dead_letters_label: Vec<u8>,
    /// The views that show every record.
    enriched: Arc<[ViewId]>,
    buffer: Vec<u8>,
    updates: u64,
}

impl WorkerLog {
    /// How many updates were written since this was asked last.
    pub fn take_updates(&mut self) -> u64 {
        std::mem::take(&mut self.updates)
    }

    /// Seals what came to its end in all workers of the process without a change.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn seal_so_far(&mut self) -> Result<(), SinkError> {
        let written = self.log.shared().seal_so_far(self.files.len());
        written.map_err(|source| self.log.unwritten(source))
    }

    /// Writes one update, whose row `row` renders.
    fn update(
        &mut self,
        epoch: Epoch,
        diff: Diff,
        label: impl Fn(&WorkerLog) -> &[u8],
        row: impl FnOnce(&WorkerLog, &mut Vec<u8>),
    ) -> Result<(), SinkError> {
        let mut line = std::mem::take(&mut self.buffer);
        line.extend_from_slice(br#"{"epoch":"#);
        line.extend_from_slice(itoa::Buffer::new().format(epoch).as_bytes());
        line.extend_from_slice(br#","diff":"#);
        line.extend_from_slice(itoa::Buffer::new().format(diff).as_bytes());
        line.extend_from_slice(label(self));
        row(self, &mut line);
        line.extend_from_slice(b"}\n");
        self.buffer = line;
        self.updates += 1;
        if self.buffer.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn record(
        &mut self,
        epoch: Epoch,
        diff: Diff,
        view: ViewId,
        record: &RecordRef<'_>,
    ) -> Result<(), SinkError> {
        self.update(
            epoch,
            diff,
            |log| &log.labels[usize::from(view.0)],
            |log, out| log.renderer.json(&contents::Row::Fused(record.clone()), out),
        )
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.log.shared().write(&self.buffer);
        self.buffer.clear();
        written.map_err(|source| self.log.unwritten(source))
    }
}

impl Sink for WorkerLog {
    fn write(&mut self, sealed: Sealed<'_>) -> Result<(), SinkError> {
        let Sealed { epoch, records, counts, dead_letters, vector, waiting } = sealed;
        let enriched = Arc::clone(&self.enriched);
        for change in records.changes(epoch) {
            let latest = change.latest.as_slice();
            for view in if latest.is_empty() { &enriched } else { latest } {
                if let Some(before) = &change.before {
                    self.record(epoch, -1, *view, before)?;
                }
                self.record(epoch, 1, *view, &change.after)?;
            }
        }
        for (row, diff) in counts {
            self.update(
                epoch,
                *diff,
                |log| &log.labels[usize::from(row.view.0)],
                |log, out| log.renderer.counts(row, out),
            )?;
        }
        for letter in dead_letters {
            self.update(
                epoch,
                1,
                |log| &log.dead_letters_label,
                |log, out| {
                    let line = dead_letters::Line::of(letter, &log.spec, &log.files);
                    serde_json::to_writer(out, &line).expect("a dead letter is plain data");
                },
            )?;
        }
        self.flush()?;
        let mut shared = self.log.shared();
        let said = shared.unsealed.entry(epoch).or_default();
        if let Some(vector) = vector {
            said.vector = Some(vector.clone());
            said.waiting.push((self.worker, waiting));
        }
        Ok(())
    }

    fn advance(&mut self, frontier: Option<Epoch>) -> Result<(), SinkError> {
        let mut shared = self.log.shared();
        if shared.frontiers[self.worker] == frontier {
            return Ok(());
        }
        shared.frontiers[self.worker] = frontier;
        let written = shared.seal(self.files.len());
        drop(shared);
        written.map_err(|source| self.log.unwritten(source))
    }
}

impl Shared {
    /// Seals the epochs that all workers have written.
    fn seal(&mut self, files: usize) -> io::Result<()> {
        let mut lines = Vec::new();
        while let Some(first) = self.unsealed.first_entry() {
            let epoch = *first.key();
            let is_behind = |frontier: &Option<Epoch>| frontier.is_some_and(|f| f <= epoch);
            if self.frontiers.iter().any(is_behind) {
                break;
            }
            let Said { vector, waiting } = first.remove();
            waiting.into_iter().for_each(|(worker, rows)| self.waiting[worker] = rows);
            // Every worker is told of each step; where none was told, there was none.
            self.vector = vector.unwrap_or(std::mem::take(&mut self.vector));
            self.sealed = epoch;
            self.render_seal(files, &mut lines)?;
        }
        self.write(&lines)
    }

    /// Seals the last epoch that all workers are done with, unless it is sealed.
    fn seal_so_far(&mut self, files: usize) -> io::Result<()> {
        let Some(frontier) = self.frontiers.iter().flatten().min() else { return Ok(()) };
        let last = frontier.saturating_sub(1);
        if last <= self.sealed {
            return Ok(());
        }
        self.sealed = last;
        let mut line = Vec::new();
        self.render_seal(files, &mut line)?;
        self.write(&line)
    }

    fn render_seal(&self, files: usize, lines: &mut Vec<u8>) -> io::Result<()> {
        let of = |input| self.vector.get(&input).copied();
        let partition = |place| Input::Events(PartitionId(place as u32));
        let seal = Seal {
            sealed: self.sealed,
            events: (0..files).map(|place| of(partition(place)).unwrap_or(0)).collect(),
            documents: of(Input::Documents),
            changes: of(Input::Changes),
            waiting: self.waiting.iter().sum(),
        };
        serde_json::to_writer(&mut *lines, &seal)?;
        lines.push(b'\n');
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let out = self.out.as_mut().expect("a log is written once it has begun");
        out.write_all(lines)
    }
}
