//! Output files: written under temporary names, named at the end.
//!
//! Shape: lines in; five files in one folder out.
//!
//! Invariants: under its own name a file is whole or it is not there (or it is the one of an
//! earlier run). Temporary files vanish when the generator fails.
//!
//! Not here: surviving a power cut. Files are not synced: what is lost is made again by the seed.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::{fs, io};

use tempfile::NamedTempFile;

use super::GenerateError;

/// Bytes that a file gathers before it goes to the system: about 4 000 lines.
const BUFFER_BYTES: usize = 1 << 20;

/// The five files of a university.
#[derive(Debug)]
pub(super) struct Output {
    /// `people.ndjson`: the documents at the start.
    pub(super) people: OutputFile,
    /// `changes.ndjson`: what happens to them later.
    pub(super) changes: OutputFile,
    /// `events.ndjson`: what the broker delivers.
    pub(super) events: OutputFile,
    /// `keys.txt`: under which keys.
    pub(super) keys: OutputFile,
    /// `lessons.ndjson`: the timetable.
    pub(super) lessons: OutputFile,
}

impl Output {
    /// Opens the five files in `folder`, which is made where it is missing.
    pub(super) fn create(folder: &Path) -> Result<Self, GenerateError> {
        fs::create_dir_all(folder)
            .map_err(|source| GenerateError::Folder { path: folder.to_owned(), source })?;
        Ok(Self {
            people: OutputFile::create(folder, "people.ndjson")?,
            changes: OutputFile::create(folder, "changes.ndjson")?,
            events: OutputFile::create(folder, "events.ndjson")?,
            keys: OutputFile::create(folder, "keys.txt")?,
            lessons: OutputFile::create(folder, "lessons.ndjson")?,
        })
    }

    /// Gives the files their names, the events last: where they stand, the others stand too.
    pub(super) fn keep(self) -> Result<(), GenerateError> {
        // All bytes are out before the first name is given: a full disk names nothing.
        let files = [self.people, self.changes, self.lessons, self.keys, self.events]
            .into_iter()
            .map(OutputFile::finish)
            .collect::<Result<Vec<_>, _>>()?;
        for (path, file) in files {
            if let Err(error) = file.persist(&path) {
                return Err(GenerateError::Write { path, source: error.error });
            }
        }
        Ok(())
    }
}

/// One file under a temporary name.
#[derive(Debug)]
pub(super) struct OutputFile {
    path: PathBuf,
    writer: BufWriter<NamedTempFile>,
}

impl OutputFile {
    fn create(folder: &Path, name: &str) -> Result<Self, GenerateError> {
        let path = folder.join(name);
        match temporary(folder, name) {
            Ok(file) => Ok(Self { path, writer: BufWriter::with_capacity(BUFFER_BYTES, file) }),
            Err(source) => Err(GenerateError::Write { path, source }),
        }
    }

    /// Writes one line: `line` holds no newline, this adds it.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), GenerateError> {
        let written = self.writer.write_all(line).and_then(|()| self.writer.write_all(b"\n"));
        written.map_err(|source| GenerateError::Write { path: self.path.clone(), source })
    }

    fn finish(self) -> Result<(PathBuf, NamedTempFile), GenerateError> {
        match self.writer.into_inner() {
            Ok(file) => Ok((self.path, file)),
            Err(error) => Err(GenerateError::Write { path: self.path, source: error.into_error() }),
        }
    }
}

/// A hidden file beside the final one: renaming is whole only within one file system.
fn temporary(folder: &Path, name: &str) -> io::Result<NamedTempFile> {
    // So called as a run calls them, which takes away what one that was killed left.
    let prefix = format!(".tributary-unfinished-{name}.");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    // Temporary files are their owner's alone by default; these are to be ordinary files at last.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn files_appear_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = Output::create(folder.path()).unwrap();
        output.people.line(b"{}").unwrap();
        assert!(names(folder.path()).iter().all(|name| name.starts_with('.')));
        drop(output);
        assert!(names(folder.path()).is_empty());

        let mut output = Output::create(folder.path()).unwrap();
        output.people.line(b"{}").unwrap();
        output.keep().unwrap();
        assert_eq!(names(folder.path()).len(), 5);
        assert_eq!(fs::read(folder.path().join("people.ndjson")).unwrap(), b"{}\n");
    }

    #[test]
    fn folder_that_cannot_be_made_is_named() {
        let file = NamedTempFile::new().unwrap();
        let error = Output::create(&file.path().join("out")).unwrap_err();
        assert!(matches!(error, GenerateError::Folder { .. }));
    }
}
