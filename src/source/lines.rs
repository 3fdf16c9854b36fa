//! Lines of a file: once to its end, or followed as it grows.
//!
//! Shape: a path in; its lines without their newlines out, in order.
//!
//! Invariants: a line is any bytes but a newline; memory is bounded by `LINE_BYTES_MAX` whatever
//! the file holds. A file that is read once may end without a newline; of one that is followed a
//! last line without its newline waits until that comes. A followed file only grows: one that
//! shrinks, is removed or replaced is an error as soon as its end is seen, never read anew in
//! silence.
//!
//! Not here: what a line means.

use std::{
    fs::{File, Metadata},
    io::{self, BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Most bytes of a line that are kept. A longer event is too long for every spec (`bytes_max` ends
/// at 8 MiB) and its dead letter holds this much of it; the rest still stands in the file, at its
/// place.
pub const LINE_BYTES_MAX: usize = 64 << 20;

const BUFFER_BYTES: usize = 1 << 18;

/// What the end of a file means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// It has ended.
    Stop,
    /// More may come.
    Follow,
}

/// A file, line by line.
pub struct Lines {
    what: &'static str,
    path: PathBuf,
    reader: BufReader<File>,
    at_end: AtEnd,
    line: Vec<u8>,
    /// Whether `line` was handed out.
    taken: bool,
    /// Bytes passed of a line that has not come to its newline.
    begun: u64,
    number: u64,
    bytes: u64,
}

/// Why a file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened.
    #[error("cannot open {what} \"{path}\"; check that it exists and may be read")]
    Unopened {
        /// What it was to be.
        what: &'static str,
        /// The file, as it was named.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was opened and cannot be read on.
    #[error("cannot read {what} \"{path}\" past line {line}")]
    Unreadable {
        /// What it was to be.
        what: &'static str,
        /// The file, as it was named.
        path: PathBuf,
        /// Lines read so far.
        line: u64,
        /// What the system said.
        source: io::Error,
    },
    /// It is a pipe, a terminal or the like.
    #[error(
        "cannot follow {what} \"{path}\": it is no regular file; give a file, or read it once, to \
         its end, with --once"
    )]
    NotRegular {
        /// What it was to be.
        what: &'static str,
        /// The file, as it was named.
        path: PathBuf,
    },
    /// It holds less than was read of it.
    #[error(
        "{what} \"{path}\" shrank from {read} to {left} bytes after line {line}; a followed file \
         may only grow: bring it back as it was, or start again with what it holds now"
    )]
    Shrunk {
        /// What it was to be.
        what: &'static str,
        /// The file, as it was named.
        path: PathBuf,
        /// Lines read so far.
        line: u64,
        /// Bytes read so far.
        read: u64,
        /// Bytes that it holds now.
        left: u64,
    },
    /// Under its name is another file, or none.
    #[error(
        "{what} \"{path}\" was removed or replaced after line {line}; a followed file may only \
         grow: start again with the file that is to be read"
    )]
    Replaced {
        /// What it was to be.
        what: &'static str,
        /// The file, as it was named.
        path: PathBuf,
        /// Lines read so far.
        line: u64,
    },
}

impl Lines {
    /// Opens a file; `what` is what people call it.
    ///
    /// # Errors
    /// When it cannot be opened, or is to be followed and is no regular file.
    pub fn open(what: &'static str, path: &Path, at_end: AtEnd) -> Result<Lines, FileError> {
        let opened = || {
            let file = File::open(path)?;
            let data = file.metadata()?;
            Ok((file, data))
        };
        let (file, data) = opened().map_err(|source| FileError::Unopened {
            what,
            path: path.to_owned(),
            source,
        })?;
        if at_end == AtEnd::Follow && !data.is_file() {
            return Err(FileError::NotRegular { what, path: path.to_owned() });
        }
        Ok(Lines {
            what,
            path: path.to_owned(),
            reader: BufReader::with_capacity(BUFFER_BYTES, file),
            at_end,
            line: Vec::new(),
            taken: false,
            begun: 0,
            number: 0,
            bytes: 0,
        })
    }

    /// The next line, at most `LINE_BYTES_MAX` of it; `None` where there is none, or none yet.
    ///
    /// # Errors
    /// When the file cannot be read on, or is followed and did something else than grow.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, FileError> {
        if std::mem::take(&mut self.taken) {
            self.line.clear();
        }
        let (passed, ended) = append_line(&mut self.reader, &mut self.line)
            .map_err(|source| self.unreadable(source))?;
        self.begun += passed;
        if !ended {
            if self.at_end == AtEnd::Follow {
                self.check_it_only_grew()?;
                return Ok(None);
            }
            if self.begun == 0 {
                return Ok(None);
            }
        }
        self.taken = true;
        self.number += 1;
        self.bytes += std::mem::take(&mut self.begun);
        Ok(Some(&self.line))
    }

    /// Whether a part of a line was read whose end has not come.
    pub fn has_part(&self) -> bool {
        self.begun > 0
    }

    /// How many lines were handed out.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many bytes they had, newlines included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether more may come once there is none.
    pub fn at_end(&self) -> AtEnd {
        self.at_end
    }

    fn check_it_only_grew(&self) -> Result<(), FileError> {
        let (what, line) = (self.what, self.number);
        let path = || self.path.clone();
        let opened = self.reader.get_ref().metadata().map_err(|error| self.unreadable(error))?;
        let identity = |data: &Metadata| (data.dev(), data.ino());
        match self.path.metadata() {
            Ok(named) if identity(&named) == identity(&opened) => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.unreadable(error));
            }
            _ => return Err(FileError::Replaced { what, path: path(), line }),
        }
        let (read, left) = (self.bytes + self.begun, opened.len());
        if left < read {
            return Err(FileError::Shrunk { what, path: path(), line, read, left });
        }
        Ok(())
    }

    fn unreadable(&self, source: io::Error) -> FileError {
        let Lines { what, path, number, .. } = self;
        FileError::Unreadable { what, path: path.clone(), line: *number, source }
    }
}

/// Reads on in a line, without its newline, until it has `LINE_BYTES_MAX`; returns the bytes
/// passed, newline included, and whether there was one.
fn append_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<(u64, bool)> {
    let mut passed = 0;
    loop {
        let available = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            available => available?,
        };
        if available.is_empty() {
            return Ok((passed, false));
        }
        let newline = memchr::memchr(b'\n', available);
        let part = &available[..newline.unwrap_or(available.len())];
        let room = LINE_BYTES_MAX - line.len();
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len() + usize::from(newline.is_some());
        reader.consume(used);
        passed += used as u64;
        if newline.is_some() {
            return Ok((passed, true));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    fn all(lines: &mut Lines) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            found.push(line.to_vec());
        }
        found
    }

    #[test]
    fn lines_are_any_bytes_but_newlines() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        fs::write(&path, b"one\r\n\n\xff\0two\nlast").unwrap();
        let mut lines = Lines::open("file", &path, AtEnd::Stop).unwrap();
        assert_eq!(all(&mut lines), [&b"one\r"[..], b"", b"\xff\0two", b"last"]);
        assert_eq!((lines.number(), lines.bytes()), (4, 16));
        assert!(lines.next_line().unwrap().is_none());
    }

    #[test]
    fn followed_file_hands_out_whole_lines_as_they_come() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        let mut file = File::create(&path).unwrap();
        let mut lines = Lines::open("file", &path, AtEnd::Follow).unwrap();
        assert!(all(&mut lines).is_empty());
        let mut found = Vec::new();
        for part in ["on", "e", "\ntwo\nth", "ree", "\n"] {
            file.write_all(part.as_bytes()).unwrap();
            found.push(all(&mut lines).len());
        }
        assert_eq!(found, [0, 0, 2, 0, 1]);
        assert_eq!((lines.number(), lines.bytes()), (3, 14));
    }

    #[test]
    fn followed_file_may_only_grow() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        let open = || {
            fs::write(&path, "one\ntwo\n").unwrap();
            let mut lines = Lines::open("file", &path, AtEnd::Follow).unwrap();
            assert_eq!(all(&mut lines).len(), 2);
            lines
        };
        let mut lines = open();
        File::options().write(true).open(&path).unwrap().set_len(4).unwrap();
        let error = lines.next_line().unwrap_err();
        assert!(matches!(error, FileError::Shrunk { line: 2, read: 8, left: 4, .. }), "{error}");

        let mut lines = open();
        fs::rename(&path, scratch.path().join("old")).unwrap();
        let error = lines.next_line().unwrap_err();
        assert!(matches!(error, FileError::Replaced { line: 2, .. }), "{error}");
        fs::write(&path, "another\n").unwrap();
        let error = lines.next_line().unwrap_err();
        assert!(matches!(error, FileError::Replaced { line: 2, .. }), "{error}");
    }
}
