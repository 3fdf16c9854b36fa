//! The columns of a segment: four of the record, and of an event what the spec reads of it.
//!
//! Shape: records in; columns of a row group out.
//!
//! ```text
//! _offset   INT64                    where the record stands
//! _written  TIMESTAMP(ms, UTC)       when it was written there
//! _key      BYTE_ARRAY, optional     its key
//! _value    BYTE_ARRAY, optional     its value, byte for byte
//! _refused  STRING, optional         why it is no event; nothing where it is one
//! ...                                the event's columns; nothing where it is none
//! ```
//!
//! Invariants: whoever starts from an archive reads the first four alone; the others are for people
//! and other programs, by the spec that wrote them.
//!
//! Not here: whether an event repeats another, which is judged by who reads.

use std::sync::Arc;

use bytes::Bytes;
use parquet::{
    basic::{LogicalType, Repetition, TimeUnit, Type as Physical},
    column::writer::ColumnWriter,
    data_type::{ByteArray, FixedLenByteArray},
    errors::ParquetError,
    schema::types::{PrimitiveTypeBuilder, Type, TypePtr},
};

use crate::{
    row::{ColumnId, Kind, Value},
    source::Decoder,
    spec::Spec,
};

/// How the columns of the record are called, in their order.
pub(super) const OFFSET: usize = 0;
pub(super) const WRITTEN: usize = 1;
pub(super) const KEY: usize = 2;
pub(super) const VALUE: usize = 3;
const OF_RECORD: [&str; 4] = ["_offset", "_written", "_key", "_value"];

/// Names that no column of events may have.
pub const RESERVED: [&str; 5] = ["_offset", "_written", "_key", "_value", "_refused"];

/// Values of a column, with what says which rows have one.
struct Buffer<T> {
    has: Vec<i16>,
    values: Vec<T>,
}

impl<T> Default for Buffer<T> {
    fn default() -> Buffer<T> {
        Buffer { has: Vec::new(), values: Vec::new() }
    }
}

impl<T> Buffer<T> {
    fn push(&mut self, value: Option<T>) {
        self.has.push(value.is_some().into());
        self.values.extend(value);
    }

    fn clear(&mut self) {
        self.has.clear();
        self.values.clear();
    }
}

/// Keys or values of records: where they stand in bytes that are shared.
#[derive(Default)]
struct Blobs {
    bytes: Vec<u8>,
    ends: Buffer<usize>,
}

impl Blobs {
    fn push(&mut self, blob: Option<&[u8]>) {
        self.bytes.extend_from_slice(blob.unwrap_or_default());
        self.ends.push(blob.map(|_| self.bytes.len()));
    }

    /// Writes them, and forgets them.
    fn write(&mut self, column: &mut ColumnWriter<'_>) -> Result<(), ParquetError> {
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let mut begin = 0;
        let blob = |end: &usize| {
            let blob = bytes.slice(begin..*end);
            begin = *end;
            ByteArray::from(blob)
        };
        let blobs: Vec<ByteArray> = self.ends.values.iter().map(blob).collect();
        let ColumnWriter::ByteArrayColumnWriter(column) = column else { unreachable!("of bytes") };
        column.write_batch(&blobs, Some(&self.ends.has), None)?;
        self.ends.clear();
        Ok(())
    }
}

/// A column of an event.
struct Column {
    kind: Kind,
    values: Values,
}

/// Its values, as Parquet holds them.
enum Values {
    Short(Buffer<i32>),
    Long(Buffer<i64>),
    Fixed(Buffer<FixedLenByteArray>),
    Bytes(Buffer<ByteArray>),
}

/// What the spec reads of events.
struct EventColumns {
    spec: Arc<Spec>,
    decoder: Decoder,
    refused: Buffer<ByteArray>,
    columns: Vec<Column>,
}

/// The rows of a row group in the making.
pub(super) struct Columns {
    offsets: Vec<i64>,
    written: Vec<i64>,
    keys: Blobs,
    values: Blobs,
    event: EventColumns,
}

impl Columns {
    /// None yet, with the columns of a spec's events.
    pub(super) fn new(spec: &Arc<Spec>) -> Columns {
        let event = EventColumns {
            spec: Arc::clone(spec),
            decoder: Decoder::new(Arc::clone(spec)),
            refused: Buffer::default(),
            columns: columns(spec).map(|kind| Column { values: Values::of(&kind), kind }).collect(),
        };
        let (offsets, written) = (Vec::new(), Vec::new());
        Columns { offsets, written, keys: Blobs::default(), values: Blobs::default(), event }
    }

    /// What a file of them is.
    pub(super) fn schema(&self) -> Result<TypePtr, ParquetError> {
        let of_record = OF_RECORD.iter().enumerate().map(|(place, name)| match place {
            OFFSET => primitive(name, Physical::INT64, Repetition::REQUIRED).build(),
            WRITTEN => primitive(name, Physical::INT64, Repetition::REQUIRED)
                .with_logical_type(Some(LogicalType::timestamp(true, TimeUnit::MILLIS)))
                .build(),
            _ => primitive(name, Physical::BYTE_ARRAY, Repetition::OPTIONAL).build(),
        });
        let mut fields = of_record.collect::<Result<Vec<Type>, _>>()?;
        let event = &self.event;
        {
            let refused = primitive("_refused", Physical::BYTE_ARRAY, Repetition::OPTIONAL);
            fields.push(refused.with_logical_type(Some(LogicalType::String)).build()?);
            for (column, name) in event.columns.iter().zip(&event.spec.events.columns) {
                let (physical, logical, length) = form(&column.kind);
                let column = primitive(&name.name, physical, Repetition::OPTIONAL);
                fields.push(column.with_logical_type(logical).with_length(length).build()?);
            }
        }
        let fields = fields.into_iter().map(Arc::new).collect();
        Ok(Arc::new(Type::group_type_builder("record").with_fields(fields).build()?))
    }

    /// Takes a record.
    pub(super) fn push(
        &mut self,
        offset: u64,
        time_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) {
        self.offsets.push(offset as i64);
        self.written.push(time_ms);
        self.keys.push(key);
        self.values.push(value);
        self.event.push(value.unwrap_or_default());
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.offsets.len()
    }

    /// Bytes of keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.keys.bytes.len() + self.values.bytes.len()
    }

    /// Writes them, a column after the other, and forgets them.
    pub(super) fn write(
        &mut self,
        mut next: impl FnMut(
            &mut dyn FnMut(&mut ColumnWriter<'_>) -> Result<(), ParquetError>,
        ) -> Result<(), ParquetError>,
    ) -> Result<(), ParquetError> {
        let Columns { offsets, written, keys, values, event } = self;
        for longs in [offsets, written] {
            next(&mut |column| {
                let ColumnWriter::Int64ColumnWriter(column) = column else {
                    unreachable!("of integers")
                };
                column.write_batch(longs, None, None).map(drop)
            })?;
            longs.clear();
        }
        for blobs in [keys, values] {
            next(&mut |column| blobs.write(column))?;
        }
        let EventColumns { refused, columns, .. } = event;
        next(&mut |column| {
            let ColumnWriter::ByteArrayColumnWriter(column) = column else {
                unreachable!("of bytes")
            };
            column.write_batch(&refused.values, Some(&refused.has), None).map(drop)
        })?;
        refused.clear();
        columns.iter_mut().try_for_each(|column| next(&mut |writer| column.values.write(writer)))
    }
}

impl EventColumns {
    fn push(&mut self, value: &[u8]) {
        let EventColumns { spec, decoder, refused, columns } = self;
        let layout = &spec.events.layout;
        let row = match decoder.decode(value) {
            Ok(row) => {
                refused.push(None);
                Some(row)
            }
            Err(refusal) => {
                let reason = Bytes::from_static(refusal.reason.name().as_bytes());
                refused.push(Some(reason.into()));
                None
            }
        };
        for (place, column) in columns.iter_mut().enumerate() {
            column.values.push(row.and_then(|row| layout.get(row, ColumnId(place as u16))));
        }
    }
}

impl Values {
    fn of(kind: &Kind) -> Values {
        match kind {
            Kind::Uuid => Values::Fixed(Buffer::default()),
            Kind::Day { .. } => Values::Short(Buffer::default()),
            Kind::Text { .. } => Values::Bytes(Buffer::default()),
            Kind::Integer { .. } if is_wide(kind) => Values::Bytes(Buffer::default()),
            Kind::Integer { .. } | Kind::Moment { .. } => Values::Long(Buffer::default()),
        }
    }

    fn push(&mut self, value: Option<Value<&str>>) {
        match self {
            Values::Short(values) => values.push(value.map(|value| match value {
                Value::Day(day) => day.since_1970(),
                _ => unreachable!("a day"),
            })),
            // Beyond 2^63 it is unsigned, as its type says.
            Values::Long(values) => values.push(value.map(|value| match value {
                Value::Integer(number) => number as i64,
                Value::Moment(moment) => moment.since_1970_us(),
                _ => unreachable!("a number or a moment"),
            })),
            Values::Fixed(values) => values.push(value.map(|value| match value {
                Value::Uuid(uuid) => ByteArray::from(uuid.to_vec()).into(),
                _ => unreachable!("a UUID"),
            })),
            Values::Bytes(values) => values.push(value.map(|value| match value {
                Value::Text(text) => text.into(),
                Value::Integer(number) => number.to_string().into_bytes().into(),
                _ => unreachable!("a text or a wide number"),
            })),
        }
    }

    fn write(&mut self, column: &mut ColumnWriter<'_>) -> Result<(), ParquetError> {
        match (self, column) {
            (Values::Short(values), ColumnWriter::Int32ColumnWriter(column)) => {
                column.write_batch(&values.values, Some(&values.has), None)?;
                values.clear();
            }
            (Values::Long(values), ColumnWriter::Int64ColumnWriter(column)) => {
                column.write_batch(&values.values, Some(&values.has), None)?;
                values.clear();
            }
            (Values::Fixed(values), ColumnWriter::FixedLenByteArrayColumnWriter(column)) => {
                column.write_batch(&values.values, Some(&values.has), None)?;
                values.clear();
            }
            (Values::Bytes(values), ColumnWriter::ByteArrayColumnWriter(column)) => {
                column.write_batch(&values.values, Some(&values.has), None)?;
                values.clear();
            }
            _ => unreachable!("the schema is of these columns"),
        }
        Ok(())
    }
}

fn columns(spec: &Spec) -> impl Iterator<Item = Kind> {
    let layout = &spec.events.layout;
    (0..spec.events.columns.len()).map(|place| layout.kind(ColumnId(place as u16)).clone())
}

/// Whether an integer has no 64 bits of its own: it may be negative, and beyond 2^63.
fn is_wide(kind: &Kind) -> bool {
    matches!(kind, Kind::Integer { low, high } if *low < 0 && *high > i64::MAX.into())
}

/// A column of a file.
fn primitive(name: &str, physical: Physical, repetition: Repetition) -> PrimitiveTypeBuilder<'_> {
    Type::primitive_type_builder(name, physical).with_repetition(repetition)
}

/// How Parquet holds a kind: as what, meaning what, and of how many bytes.
fn form(kind: &Kind) -> (Physical, Option<LogicalType>, i32) {
    match kind {
        Kind::Uuid => (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid), 16),
        Kind::Day { .. } => (Physical::INT32, Some(LogicalType::Date), 0),
        // A moment of the spec's zone, as its clocks show it.
        Kind::Moment { .. } => {
            (Physical::INT64, Some(LogicalType::timestamp(false, TimeUnit::MICROS)), 0)
        }
        Kind::Text { .. } => (Physical::BYTE_ARRAY, Some(LogicalType::String), 0),
        Kind::Integer { .. } if is_wide(kind) => {
            (Physical::BYTE_ARRAY, Some(LogicalType::String), 0)
        }
        Kind::Integer { low, .. } => (Physical::INT64, Some(LogicalType::integer(64, *low < 0)), 0),
    }
}
