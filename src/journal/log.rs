//! The embedded log: files of lines that survive the process and the power.
//!
//! Shape: lines in, many at once; each durable when `append` has returned.
//!
//! Invariants: a line that was said to be durable is whole and stays; one that was not may be there
//! or not, whole or as a part that is no event. Opening cuts a last line without its newline, which
//! nobody was told is durable. A write that failed in the middle of a line makes that line one that
//! is no event, whatever follows.
//!
//! Not here: what a line says; who reads it (the engine, as the file grows).

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Ends a part of a line so that it is no JSON, whatever the part is.
const SPOIL: &[u8] = b"\0\n";

const BUFFER_BYTES: usize = 1 << 20;

/// A file of lines.
pub struct LineLog {
    path: PathBuf,
    file: File,
    lines: u64,
    /// A write failed in the middle of a line.
    is_torn: bool,
}

/// Lines did not become durable.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened.
    #[error("cannot open log \"{path}\"; check that it exists and may be written to")]
    Unopened {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// They could not be written: none of them counts.
    #[error("cannot write to log \"{path}\"; make room, and try again")]
    Unwritten {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// They were written, and nobody knows whether they will survive.
    #[error(
        "cannot bring log \"{path}\" to disk; what was not confirmed may be there or not: mend the \
         disk and start again"
    )]
    Unsynced {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl LineLog {
    /// Opens a file, made where there is none, and cuts a last line that was never finished.
    ///
    /// # Errors
    /// When that fails.
    pub fn open(path: &Path) -> Result<LineLog, LogError> {
        let opened = || {
            let mut file = File::options().read(true).append(true).create(true).open(path)?;
            let (lines, whole) = count(&mut file)?;
            if whole < file.metadata()?.len() {
                file.set_len(whole)?;
            }
            file.sync_all()?;
            if let Some(folder) = path.parent() {
                // Else the file's name might not survive.
                let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                fs::File::open(folder)?.sync_all()?;
            }
            Ok((file, lines))
        };
        let unopened = |source| LogError::Unopened { path: path.to_owned(), source };
        let (file, lines) = opened().map_err(unopened)?;
        Ok(LineLog { path: path.to_owned(), file, lines, is_torn: false })
    }

    /// How many lines it has.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Appends lines, each with its newline, and waits until they are durable.
    ///
    /// # Errors
    /// When they are not, or nobody knows.
    pub fn append(&mut self, lines: &[u8], count: u64) -> Result<(), LogError> {
        failpoint!("log-append");
        let path = || self.path.clone();
        let written = match self.is_torn {
            true => self.file.write_all(SPOIL).and_then(|()| self.file.write_all(lines)),
            false => self.file.write_all(lines),
        };
        if let Err(source) = written {
            self.is_torn = true;
            return Err(LogError::Unwritten { path: path(), source });
        }
        self.lines += count + u64::from(std::mem::replace(&mut self.is_torn, false));
        failpoint!("log-sync");
        self.file.sync_data().map_err(|source| LogError::Unsynced { path: path(), source })
    }
}

/// How many whole lines there are, and how many bytes they have.
fn count(file: &mut File) -> io::Result<(u64, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let (mut buffer, mut lines, mut passed, mut whole) = (vec![0; BUFFER_BYTES], 0, 0, 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((lines, whole));
        }
        for newline in memchr::memchr_iter(b'\n', &buffer[..read]) {
            lines += 1;
            whole = passed + newline as u64 + 1;
        }
        passed += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_last_line_is_cut_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        fs::write(&path, "one\ntwo\nthr").unwrap();
        let mut log = LineLog::open(&path).unwrap();
        assert_eq!(log.lines(), 2);
        log.append(b"three\nfour\n", 2).unwrap();
        assert_eq!(log.lines(), 4);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\nfour\n");
        drop(log);
        assert_eq!(LineLog::open(&path).unwrap().lines(), 4);
    }

    #[test]
    fn part_of_a_line_never_becomes_an_event() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let mut log = LineLog::open(&path).unwrap();
        log.append(b"{}\n", 1).unwrap();
        // As after a write for which there was no room.
        log.file.write_all(b"{\"whole\":1}").unwrap();
        log.is_torn = true;
        log.append(b"{}\n", 1).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n{\"whole\":1}\0\n{}\n");
        assert_eq!(log.lines(), 3);
    }
}
