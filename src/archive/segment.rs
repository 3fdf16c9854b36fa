//! Segments: one file of the records of a partition within a range of offsets.
//!
//! Shape: records in the partition's order in, the bytes of a Parquet file out, and back.
//!
//! Invariants: what is read is what was written, byte for byte; a file is read only once its bytes
//! are known to be those that the manifest names.
//!
//! Not here: where files lie (`store`), which of them count (`manifest`).

use std::sync::Arc;

use bytes::Bytes;
use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    column::reader::ColumnReader,
    data_type::ByteArray,
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties},
        reader::{FileReader, SerializedFileReader},
        writer::SerializedFileWriter,
    },
    schema::types::ColumnPath,
};

use super::{
    columns::{Columns, KEY, OFFSET, VALUE, WRITTEN},
    manifest::{Segment, check},
};
use crate::{
    source::{Bound, Handed, Last},
    spec::Spec,
};

/// Most rows of a row group, and most bytes of their keys and values before they are compressed:
/// whoever reads holds one at a time.
const GROUP_ROWS: usize = 16_384;
const GROUP_BYTES: usize = 4 << 20;

/// How hard records are compressed: the least effort. More saves little, as records are (see
/// docs/benchmarks.md).
const ZSTD_LEVEL: i32 = 1;

/// A segment in the making.
pub struct Writer {
    file: SerializedFileWriter<Vec<u8>>,
    columns: Columns,
    from: u64,
    /// Up to where it holds the partition, and the last record.
    bound: Bound,
    rows: u64,
    times: Option<(i64, i64)>,
}

/// A segment that is made, but for its name.
pub struct Made {
    /// The file.
    pub bytes: Bytes,
    /// What the manifest says of it; its name is still empty.
    pub segment: Segment,
    /// Up to where it holds the partition.
    pub bound: Bound,
}

impl Writer {
    /// A segment from an offset on, with the columns of a spec's events.
    ///
    /// # Errors
    /// When the columns are none that Parquet can hold.
    pub fn new(from: u64, spec: &Arc<Spec>) -> Result<Writer, ParquetError> {
        let columns = Columns::new(spec);
        let schema = columns.schema()?;
        let properties = WriterProperties::builder()
            .set_created_by(concat!("tributary ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true)
            .set_column_encoding(ColumnPath::from("_offset"), Encoding::DELTA_BINARY_PACKED)
            .set_column_encoding(ColumnPath::from("_written"), Encoding::DELTA_BINARY_PACKED)
            .build();
        let file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
        let bound = Bound::from(from);
        Ok(Writer { file, columns, from, bound, rows: 0, times: None })
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// When it cannot be written: this is a fault of the library.
    pub fn push(&mut self, record: Handed<'_>) -> Result<(), ParquetError> {
        let Handed { offset, time_ms, key, value } = record;
        self.columns.push(offset, time_ms, key, value);
        self.bound = Bound { offset: offset + 1, last: Some(Last::of(&record)) };
        self.rows += 1;
        let (first, last) = self.times.unwrap_or((time_ms, time_ms));
        self.times = Some((first.min(time_ms), last.max(time_ms)));
        match self.columns.rows() >= GROUP_ROWS || self.columns.bytes() >= GROUP_BYTES {
            true => self.write_group(),
            false => Ok(()),
        }
    }

    /// That it holds the partition up to there, though no record stands before that.
    pub fn reach(&mut self, offset: u64) {
        self.bound.offset = self.bound.offset.max(offset);
    }

    /// Up to where it holds the partition.
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// How many records it has.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// About how large the file is so far.
    pub fn bytes(&self) -> usize {
        self.file.bytes_written() + self.columns.bytes()
    }

    /// Ends it.
    ///
    /// # Errors
    /// As `push`.
    pub fn finish(mut self) -> Result<Made, ParquetError> {
        if self.columns.rows() > 0 {
            self.write_group()?;
        }
        let Writer { file, from, bound, rows, times, .. } = self;
        let bytes = Bytes::from(file.into_inner()?);
        let (first_ms, last_ms) = times.unwrap_or_default();
        let segment = Segment {
            path: String::new(),
            from,
            to: bound.offset,
            rows,
            bytes: bytes.len() as u64,
            first_ms,
            last_ms,
            check: check(&bytes),
        };
        Ok(Made { bytes, segment, bound })
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.file.next_row_group()?;
        self.columns.write(|write| {
            let mut column = group.next_column()?.expect("a column of the schema");
            write(column.untyped())?;
            column.close()
        })?;
        group.close().map(drop)
    }
}

/// The records of a segment, in order.
pub struct Reader {
    file: SerializedFileReader<Bytes>,
    next_group: usize,
    group: Group,
    at: usize,
}

/// A row group that was read.
#[derive(Default)]
struct Group {
    offsets: Vec<i64>,
    written: Vec<i64>,
    keys: Blobs,
    values: Blobs,
}

/// Keys or values: which rows have one, and those.
#[derive(Default)]
struct Blobs {
    has: Vec<i16>,
    blobs: Vec<ByteArray>,
    /// How many of them stand before the row at hand.
    at: usize,
}

impl Blobs {
    /// That of a row; rows are asked for in their order, each once.
    fn next(&mut self, row: usize) -> Option<&[u8]> {
        if self.has.get(row) != Some(&1) {
            return None;
        }
        self.at += 1;
        self.blobs.get(self.at - 1).map(ByteArray::data)
    }
}

impl Reader {
    /// The records of a file that was checked.
    ///
    /// # Errors
    /// When it is none that was written here.
    pub fn new(bytes: Bytes) -> Result<Reader, ParquetError> {
        let file = SerializedFileReader::new(bytes)?;
        Ok(Reader { file, next_group: 0, group: Group::default(), at: 0 })
    }

    /// Where the next record stands; `None` behind the last.
    ///
    /// # Errors
    /// When the file is none that was written here.
    pub fn look(&mut self) -> Result<Option<u64>, ParquetError> {
        while self.at >= self.group.offsets.len() {
            if self.next_group >= self.file.num_row_groups() {
                return Ok(None);
            }
            self.group = self.read_group()?;
            self.next_group += 1;
            self.at = 0;
        }
        Ok(Some(self.group.offsets[self.at] as u64))
    }

    /// Takes the record that was looked at.
    pub fn take(&mut self) -> Option<Handed<'_>> {
        let (row, Group { offsets, written, keys, values }) = (self.at, &mut self.group);
        let (offset, time_ms) = (*offsets.get(row)? as u64, written[row]);
        self.at += 1;
        Some(Handed { offset, time_ms, key: keys.next(row), value: values.next(row) })
    }

    fn read_group(&self) -> Result<Group, ParquetError> {
        let group = self.file.get_row_group(self.next_group)?;
        let rows = group.metadata().num_rows() as usize;
        let longs = |place| {
            let ColumnReader::Int64ColumnReader(mut column) = group.get_column_reader(place)?
            else {
                return Err(ParquetError::General("a column is of another type".to_owned()));
            };
            let mut longs = Vec::with_capacity(rows);
            column.read_records(rows, None, None, &mut longs)?;
            Ok(longs)
        };
        let blobs = |place| {
            let ColumnReader::ByteArrayColumnReader(mut column) = group.get_column_reader(place)?
            else {
                return Err(ParquetError::General("a column is of another type".to_owned()));
            };
            let (mut has, mut blobs) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
            column.read_records(rows, Some(&mut has), None, &mut blobs)?;
            Ok(Blobs { has, blobs, at: 0 })
        };
        let read = Group {
            offsets: longs(OFFSET)?,
            written: longs(WRITTEN)?,
            keys: blobs(KEY)?,
            values: blobs(VALUE)?,
        };
        let is_whole = [read.offsets.len(), read.written.len(), read.keys.has.len()];
        match is_whole.iter().all(|found| *found == rows) && read.values.has.len() == rows {
            true => Ok(read),
            false => Err(ParquetError::General("a column is shorter than the others".to_owned())),
        }
    }
}
