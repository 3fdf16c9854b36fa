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
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::desk::{Appended, ClickLog, Failed, Set, event};

/// Ends a part of a line so that it is no JSON, whatever the part is.
const SPOIL: &[u8] = b"\0\n";

const BUFFER_BYTES: usize = 1 << 20;

/// A file of lines.
pub struct LineLog {
    path: PathBuf,
    file: File,
    /// How many whole lines it has, for who watches too.
    lines: Arc<AtomicU64>,
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
    /// They could not all be written. The first ones are durable; none of the others counts.
    #[error("cannot write to log \"{path}\"; make room, and try again")]
    Unwritten {
        /// The file.
        path: PathBuf,
        /// How many of the lines are durable all the same.
        durable: usize,
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
        let lines = Arc::new(AtomicU64::new(lines));
        Ok(LineLog { path: path.to_owned(), file, lines, is_torn: false })
    }

    /// How many lines it has.
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Says how many lines it has, wherever it is.
    pub fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lines)
    }

    /// Appends lines, each with its newline, and waits until they are durable.
    ///
    /// # Errors
    /// When they are not all, or nobody knows.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), LogError> {
        failpoint!("log-append");
        let file = &mut self.file;
        let (spoiled, failed) = match self.is_torn {
            true => write_on(file, SPOIL),
            false => (SPOIL.len(), None),
        };
        let (written, failed) = match failed {
            None => write_on(file, lines),
            failed => (0, failed),
        };
        // Whole lines are read by whoever follows the file: what is there is to stay there.
        let whole = memchr::memchr_iter(b'\n', &lines[..written]).count();
        let more = whole as u64 + u64::from(self.is_torn && spoiled == SPOIL.len());
        self.lines.fetch_add(more, Ordering::Relaxed);
        self.is_torn = match written {
            0 => self.is_torn && spoiled < SPOIL.len(),
            written => lines[written - 1] != b'\n',
        };
        let path = || self.path.clone();
        failpoint!("log-sync");
        self.file.sync_data().map_err(|source| LogError::Unsynced { path: path(), source })?;
        match failed {
            Some(source) => Err(LogError::Unwritten { path: path(), durable: whole, source }),
            None => Ok(()),
        }
    }
}

impl ClickLog for LineLog {
    fn append(&mut self, clicks: &[Set]) -> Appended {
        let line = |click| [event(click), b"\n".to_vec()].concat();
        let lines: Vec<u8> = clicks.iter().flat_map(line).collect();
        match self.append(&lines) {
            Ok(()) => Appended { durable: clicks.len(), failed: None },
            Err(LogError::Unwritten { path, durable, source }) => {
                let error = LogError::Unwritten { path, durable, source };
                Appended { durable, failed: Some(Failed::Once(error.into())) }
            }
            Err(error) => Appended { durable: 0, failed: Some(Failed::ForGood(error.into())) },
        }
    }
}

/// Writes as much as goes; returns how much that was, and why it was not all.
fn write_on(file: &mut impl Write, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
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
        log.append(b"three\nfour\n").unwrap();
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
        log.append(b"{}\n").unwrap();
        // As after a write for which there was no room.
        log.file.write_all(b"{\"whole\":1}").unwrap();
        log.is_torn = true;
        log.append(b"{}\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n{\"whole\":1}\0\n{}\n");
        assert_eq!(log.lines(), 3);
    }

    #[test]
    fn of_what_is_written_in_part_it_is_known_how_much() {
        /// Takes so many bytes.
        struct Room(Vec<u8>, usize);

        impl Write for Room {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                match bytes.len().min(self.1 - self.0.len()) {
                    0 => Err(io::ErrorKind::StorageFull.into()),
                    more => self.0.write(&bytes[..more]),
                }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let (written, failed) = write_on(&mut Room(Vec::new(), 6), b"one\ntwo\n");
        assert_eq!((written, failed.map(|e| e.kind())), (6, Some(io::ErrorKind::StorageFull)));
        assert!(write_on(&mut Room(Vec::new(), 8), b"one\ntwo\n").1.is_none());
    }
}
