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
//! back more often than it was given. Lines are never torn but the last one, by a crash or by a
//! write that failed. Who reads slowly is waited for.
//!
//! Not here: when an epoch is sealed (`engine`), how a row looks (`sink::render`).

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use serde::Serialize;

use super::{Folder, Sealed, Sink, SinkError, contents, dead_letters, render::Renderer};
use crate::{
    dataflow::{After, Diff, RecordRef},
    row::json,
    source::{Input, PartitionId, Vector},
    spec::{Spec, ViewId, ViewKind, plan::View},
    time::{Epoch, Frontier},
};

/// The file's name within its folder.
pub const UPDATES: &str = "updates.ndjson";

/// Bytes that a worker gathers before it hands them to the system.
const CHUNK_BYTES: usize = 1 << 16;

/// Between two tries to write where there is no room for now.
const BETWEEN_TRIES: Duration = Duration::from_millis(1);

/// An update log that is being written.
pub struct UpdateLog {
    name: String,
    /// Held until the end, so that no other run writes there.
    folder: Option<Folder>,
    written: Mutex<Written>,
}

/// What stands in a log, and what the workers said that does not yet.
struct Written {
    out: Out,
    /// By worker, how far it has written.
    frontiers: Vec<Frontier>,
    /// Epochs that are not sealed for all workers: what each said of it.
    unsealed: BTreeMap<Epoch, Said>,
    /// The last sealed epoch: its label,
    sealed: Epoch,
    /// up to where it holds the inputs,
    vector: Vector,
    /// and by worker how many rows wait.
    waiting: Vec<u64>,
}

/// Where a log goes.
enum Out {
    /// To a file that is still to be made.
    Unbegun(PathBuf),
    Begun(File),
    /// Nowhere: a write failed so, perhaps in the middle of a line, and nothing may follow that.
    Broken(io::ErrorKind),
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
    /// A log in a folder, of so many workers. One of an earlier run stands there until the first
    /// epoch of this one is sealed; whoever still reads that one keeps it as it is.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn in_folder(path: &Path, workers: usize) -> Result<UpdateLog, SinkError> {
        let folder = Folder::claim(path, [UPDATES.to_owned()])?;
        let name = format!("\"{}\"", folder.path().join(UPDATES).display());
        let out = Out::Unbegun(folder.path().join(UPDATES));
        Ok(UpdateLog::new(name, Some(folder), out, workers))
    }

    /// A log on standard output.
    ///
    /// # Errors
    /// When there is none.
    pub fn on_standard_output(workers: usize) -> Result<UpdateLog, SinkError> {
        let name = "standard output".to_owned();
        match io::stdout().as_fd().try_clone_to_owned() {
            Ok(out) => Ok(UpdateLog::new(name, None, Out::Begun(out.into()), workers)),
            Err(source) => Err(SinkError::Log { name, source }),
        }
    }

    fn new(name: String, folder: Option<Folder>, out: Out, workers: usize) -> UpdateLog {
        let written = Written {
            out,
            frontiers: vec![Frontier::At(0); workers],
            unsealed: BTreeMap::new(),
            sealed: 0,
            vector: Vector::new(),
            waiting: vec![0; workers],
        };
        UpdateLog { name, folder, written: Mutex::new(written) }
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
        let synced = match &self.written().out {
            Out::Unbegun(_) | Out::Broken(_) => Ok(()),
            Out::Begun(file) => file.sync_all(),
        };
        synced.map_err(|source| self.unwritten(source))
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().expect("no worker panics while it writes, for a panic ends the process")
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
        let written = self.log.written().seal_so_far(self.files.len());
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
        let written = self.log.written().write(&self.buffer);
        self.buffer.clear();
        written.map_err(|source| self.log.unwritten(source))
    }
}

impl Sink for WorkerLog {
    fn write(&mut self, sealed: Sealed<'_>) -> Result<(), SinkError> {
        let Sealed { epoch, records, counts, dead_letters, after } = sealed;
        let enriched = Arc::clone(&self.enriched);
        for change in records.changes(epoch) {
            for view in change.views(&enriched) {
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
        let mut log = self.log.written();
        let said = log.unsealed.entry(epoch).or_default();
        if let Some(After { vector, waiting_rows, .. }) = after {
            said.vector = Some(vector.clone());
            said.waiting.push((self.worker, waiting_rows));
        }
        Ok(())
    }

    fn advance(&mut self, frontier: Frontier) -> Result<(), SinkError> {
        let mut log = self.log.written();
        if log.frontiers[self.worker] == frontier {
            return Ok(());
        }
        log.frontiers[self.worker] = frontier;
        let written = log.seal(self.files.len());
        drop(log);
        written.map_err(|source| self.log.unwritten(source))
    }
}

impl Written {
    /// How far all workers have written.
    fn frontier(&self) -> Frontier {
        self.frontiers.iter().min().copied().expect("there is a worker")
    }

    /// Seals the epochs that all workers have written.
    fn seal(&mut self, files: usize) -> io::Result<()> {
        let mut lines = Vec::new();
        let frontier = self.frontier();
        while let Some(first) = self.unsealed.first_entry() {
            let epoch = *first.key();
            if !frontier.has_sealed(epoch) {
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
        let Frontier::At(open) = self.frontier() else { return Ok(()) };
        let last = open.saturating_sub(1);
        if last <= self.sealed {
            return Ok(());
        }
        self.sealed = last;
        let mut line = Vec::new();
        self.render_seal(files, &mut line)?;
        self.write(&line)
    }

    fn render_seal(&self, files: usize, lines: &mut Vec<u8>) -> io::Result<()> {
        let of = |input| self.vector.get(&input).map(|bound| bound.offset);
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

    fn write(&mut self, mut lines: &[u8]) -> io::Result<()> {
        while !lines.is_empty() {
            match self.out.begun()?.write(lines) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => lines = &lines[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Standard output may be a pipe that whoever made it set not to wait.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(BETWEEN_TRIES);
                }
                Err(error) => {
                    self.out = Out::Broken(error.kind());
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl Out {
    fn begun(&mut self) -> io::Result<&mut File> {
        if let Out::Unbegun(path) = self {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => *self = Out::Begun(File::create_new(path)?),
            }
        }
        match self {
            Out::Begun(file) => Ok(file),
            Out::Unbegun(_) => unreachable!("it was just begun"),
            Out::Broken(kind) => Err((*kind).into()),
        }
    }
}
