//! Files of events: newline-delimited, one partition a file.
//!
//! Shape: a path in; its lines without their newlines out, the offset being the line from 0.
//!
//! Invariants: a line is any bytes but a newline; the last one needs no newline; memory is bounded
//! by `LINE_BYTES_MAX` whatever the file holds.
//!
//! Not here: what a line means.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use super::{Limit, PartitionId, Reached, Source, SourceError};

/// Most bytes of a line that are kept. A longer one is too long for every spec (`bytes_max` ends at
/// 8 MiB) and its dead letter holds this much of it; the rest still stands in the file, at its
/// place.
pub const LINE_BYTES_MAX: usize = 64 << 20;

const BUFFER_BYTES: usize = 1 << 18;

/// A file of events.
pub struct FileSource {
    partition: PartitionId,
    path: PathBuf,
    reader: BufReader<File>,
    line: u64,
    buffer: Vec<u8>,
}

impl FileSource {
    /// Opens a file as a partition.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(partition: PartitionId, path: &Path) -> Result<FileSource, SourceError> {
        let file = File::open(path)
            .map_err(|source| SourceError::Unopened { path: path.to_owned(), source })?;
        let reader = BufReader::with_capacity(BUFFER_BYTES, file);
        Ok(FileSource { partition, path: path.to_owned(), reader, line: 0, buffer: Vec::new() })
    }
}

impl Source for FileSource {
    fn partition(&self) -> PartitionId {
        self.partition
    }

    fn read(
        &mut self,
        limit: Limit,
        take: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<Reached, SourceError> {
        let (mut records, mut bytes, mut ended) = (0, 0, false);
        while records < limit.records && bytes < limit.bytes {
            let read = read_line(&mut self.reader, &mut self.buffer).map_err(|source| {
                SourceError::Unreadable { path: self.path.clone(), line: self.line, source }
            })?;
            if read == 0 {
                ended = true;
                break;
            }
            take(self.line, &self.buffer);
            self.line += 1;
            records += 1;
            bytes += read;
        }
        Ok(Reached { offset: self.line, bytes, ended })
    }
}

/// Reads a line without its newline into `line`, at most `LINE_BYTES_MAX` of it; returns the bytes
/// passed, newline included, 0 at the end.
pub fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<u64> {
    line.clear();
    let mut passed = 0;
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Ok(passed);
        }
        let newline = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..newline.unwrap_or(available.len())];
        let room = LINE_BYTES_MAX - line.len();
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len() + usize::from(newline.is_some());
        reader.consume(used);
        passed += used as u64;
        if newline.is_some() {
            return Ok(passed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_any_bytes_but_newlines() {
        let mut reader = BufReader::with_capacity(3, &b"one\r\n\n\xff\0two\nlast"[..]);
        let (mut line, mut lines) = (Vec::new(), Vec::new());
        let mut passed = 0;
        loop {
            let read = read_line(&mut reader, &mut line).expect("memory");
            if read == 0 {
                break;
            }
            passed += read;
            lines.push(line.clone());
        }
        assert_eq!(lines, [&b"one\r"[..], b"", b"\xff\0two", b"last"]);
        assert_eq!(passed, 16);
    }
}
