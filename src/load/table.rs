//! A table, and how rows of a view are written into it.
//!
//! Shape: what the server says of the table's columns, and the view's columns as the spec has them,
//! in; rows in RowBinary, with names and types before them, out.
//!
//! Invariants: each value that a column of the view can have fits the column of the table, which
//! is checked once, before the first row; the server holds the types that stand before the rows
//! against its own, so a table that was changed meanwhile takes nothing that it would read
//! otherwise.

use serde::{Deserialize, de};
use serde_json::value::RawValue;

use super::server::named;
use crate::{
    row::{Kind, Value},
    spec::Spec,
    time::Epoch,
};

/// The column that says at which epoch a row was written.
pub const EPOCH: &str = "epoch";

/// A column of a table, as the server says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// Its type, as the server writes it.
    #[serde(rename = "type")]
    pub type_name: String,
}

/// What is wrong with a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It has no such column.
    #[error("it has no column {column}: {remedy}")]
    Missing {
        /// The view's column.
        column: String,
        /// What adds it.
        remedy: String,
    },
    /// A column does not take all that the view says there.
    #[error("its column {column} is {found}, and takes not all that {wanted} can be: {remedy}")]
    Narrow {
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// What the view has there.
        wanted: String,
        /// What mends it.
        remedy: String,
    },
}

/// How values of a column are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// An integer of so many bytes.
    Integer {
        bytes: u8,
        is_signed: bool,
    },
    Uuid,
    /// Days since 1970, of 16 or 32 bits.
    Day {
        is_wide: bool,
    },
    /// Units of 10^-scale s since 1970, UTC.
    Moment {
        scale: u8,
    },
    Text,
}

/// A type of ClickHouse, as far as it is written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Type {
    form: Form,
    is_nullable: bool,
}

impl Type {
    fn parse(text: &str) -> Option<Type> {
        let inner = |text: &str, name: &str| -> Option<String> {
            Some(text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?.to_owned())
        };
        let text = inner(text, "LowCardinality").unwrap_or_else(|| text.to_owned());
        let nullable = inner(&text, "Nullable");
        let is_nullable = nullable.is_some();
        let text = nullable.unwrap_or(text);
        let integer = |text: &str| {
            let (is_signed, bits) = match text.strip_prefix("UInt") {
                Some(bits) => (false, bits),
                None => (true, text.strip_prefix("Int")?),
            };
            let bits = bits.parse::<u8>().ok().filter(|bits| [8, 16, 32, 64].contains(bits))?;
            Some(Form::Integer { bytes: bits / 8, is_signed })
        };
        let form = match &*text {
            "UUID" => Form::Uuid,
            "Date" => Form::Day { is_wide: false },
            "Date32" => Form::Day { is_wide: true },
            "String" => Form::Text,
            other => match inner(other, "DateTime64") {
                Some(within) => {
                    let scale = within.split(',').next()?.trim().parse().ok()?;
                    Form::Moment { scale }
                }
                None => integer(other)?,
            },
        };
        Some(Type { form, is_nullable })
    }

    /// Whether it takes all values of a kind.
    fn takes(self, kind: &Kind, is_optional: bool) -> bool {
        let takes = match (self.form, kind) {
            (Form::Uuid, Kind::Uuid) | (Form::Text, Kind::Text { .. }) => true,
            (Form::Integer { bytes, is_signed }, Kind::Integer { low, high }) => {
                let bits = u32::from(bytes) * 8;
                let (least, most) = match is_signed {
                    true => (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1),
                    false => (0, (1_i128 << bits) - 1),
                };
                *low >= least && *high <= most
            }
            (Form::Day { is_wide }, Kind::Day { low, high }) => {
                let (first, last) = if is_wide { WIDE_DAYS } else { DAYS };
                low.since_1970() >= first && high.since_1970() <= last
            }
            // Beyond these years the server counts otherwise.
            (Form::Moment { scale: 6 }, Kind::Moment { low, high }) => {
                low.since_1970() > WIDE_DAYS.0 && high.since_1970() < WIDE_DAYS.1
            }
            _ => false,
        };
        takes && (self.is_nullable || !is_optional)
    }
}

/// Days since 1970 that `Date` and `Date32` take.
const DAYS: (i32, i32) = (0, 65_535);
const WIDE_DAYS: (i32, i32) = (-25_567, 120_529);

/// The type that suits a column of a view.
fn suits(kind: &Kind, is_optional: bool, zone: &str) -> String {
    let name = match kind {
        Kind::Uuid => "UUID".to_owned(),
        Kind::Integer { low, high } => {
            let bits = [8, 16, 32, 64].into_iter().find(|bits| match *low < 0 {
                true => *low >= -(1 << (bits - 1)) && *high < 1 << (bits - 1),
                false => *high < 1 << bits,
            });
            format!("{}Int{}", if *low < 0 { "" } else { "U" }, bits.unwrap_or(64))
        }
        Kind::Day { low, high } if low.since_1970() >= DAYS.0 && high.since_1970() <= DAYS.1 => {
            "Date".to_owned()
        }
        Kind::Day { .. } => "Date32".to_owned(),
        Kind::Moment { .. } => format!("DateTime64(6, '{zone}')"),
        Kind::Text { .. } => "String".to_owned(),
    };
    if is_optional { format!("Nullable({name})") } else { name }
}

/// A column of a view as it stands in a row of the table.
struct Column {
    name: String,
    kind: Kind,
    is_nullable: bool,
    form: Form,
}

/// Writes rows of a view.
pub struct Encoder {
    /// In the order in which records show them.
    columns: Vec<Column>,
    /// How far wall clocks are ahead of UTC, in microseconds.
    ahead_us: i64,
    /// `INSERT INTO ... (...) FORMAT RowBinaryWithNamesAndTypes`, and what stands before the rows.
    insert: String,
    head: Vec<u8>,
}

/// A record that is none of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRecord;

impl Encoder {
    /// For records of a dataflow into a table of these columns.
    ///
    /// # Errors
    /// With all that is wrong with the table.
    pub fn new(spec: &Spec, table: &str, found: &[TableColumn]) -> Result<Encoder, Vec<Unfit>> {
        let (mut columns, mut unfit) = (Vec::new(), Vec::new());
        let (mut names, mut types) = (Vec::new(), Vec::new());
        let epoch = Kind::Integer { low: 0, high: u64::MAX.into() };
        let wanted =
            spec.columns.iter().map(|column| (&*column.name, &column.kind, spec.may_lack(column)));
        let mut previous = None;
        for (name, kind, is_optional) in wanted.chain([(EPOCH, &epoch, false)]) {
            let suits = suits(kind, is_optional, &spec.events.zone);
            let after =
                previous.map_or("FIRST".to_owned(), |p: &str| format!("AFTER {}", named(p)));
            previous = Some(name);
            let Some(column) = found.iter().find(|column| column.name == name) else {
                let remedy = format!(
                    "ALTER TABLE {} ADD COLUMN {} {suits} {after}",
                    named(table),
                    named(name)
                );
                unfit.push(Unfit::Missing { column: name.to_owned(), remedy });
                continue;
            };
            let parsed = Type::parse(&column.type_name);
            let Some(parsed) = parsed.filter(|parsed| parsed.takes(kind, is_optional)) else {
                let remedy =
                    format!("ALTER TABLE {} MODIFY COLUMN {} {suits}", named(table), named(name));
                unfit.push(Unfit::Narrow {
                    column: name.to_owned(),
                    found: column.type_name.clone(),
                    wanted: suits,
                    remedy,
                });
                continue;
            };
            names.push(name);
            types.push(&*column.type_name);
            let (name, kind) = (name.to_owned(), kind.clone());
            columns.push(Column { name, kind, is_nullable: parsed.is_nullable, form: parsed.form });
        }
        if !unfit.is_empty() {
            return Err(unfit);
        }
        columns.pop();
        let mut head = Vec::new();
        length(&mut head, names.len());
        names.iter().chain(&types).for_each(|text| write_text(&mut head, text));
        let names: Vec<String> = names.into_iter().map(named).collect();
        let insert = format!(
            "INSERT INTO {} ({}) FORMAT RowBinaryWithNamesAndTypes",
            named(table),
            names.join(", ")
        );
        Ok(Encoder { columns, ahead_us: spec.events.ahead_ms * 1_000, insert, head })
    }

    /// The statement that inserts rows.
    pub fn insert(&self) -> &str {
        &self.insert
    }

    /// What stands before the rows.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Appends a record, which changed in an epoch, as a row.
    ///
    /// # Errors
    /// When it is no record of the view; what was appended is taken back.
    pub fn append(&self, record: &[u8], epoch: Epoch, rows: &mut Vec<u8>) -> Result<(), NoRecord> {
        let before = rows.len();
        let mut reader = serde_json::Deserializer::from_slice(record);
        let mut row = Row { encoder: self, rows, next: 0, scratch: String::new() };
        let read = de::Deserializer::deserialize_map(&mut reader, &mut row).ok();
        let is_whole = read.and_then(|()| reader.end().ok()).and_then(|()| row.skip_to(None));
        if is_whole.is_none() {
            rows.truncate(before);
            return Err(NoRecord);
        }
        rows.extend_from_slice(&epoch.to_le_bytes());
        Ok(())
    }

    fn write(&self, column: &Column, value: Value<&str>, rows: &mut Vec<u8>) {
        match (column.form, value) {
            (Form::Uuid, Value::Uuid(bytes)) => {
                // Two halves, each from its end.
                rows.extend(bytes[..8].iter().rev());
                rows.extend(bytes[8..].iter().rev());
            }
            (Form::Integer { bytes, .. }, Value::Integer(number)) => {
                rows.extend_from_slice(&number.to_le_bytes()[..usize::from(bytes)]);
            }
            (Form::Day { is_wide: false }, Value::Day(day)) => {
                rows.extend_from_slice(&(day.since_1970() as u16).to_le_bytes());
            }
            (Form::Day { is_wide: true }, Value::Day(day)) => {
                rows.extend_from_slice(&day.since_1970().to_le_bytes());
            }
            (Form::Moment { .. }, Value::Moment(moment)) => {
                rows.extend_from_slice(&(moment.since_1970_us() - self.ahead_us).to_le_bytes());
            }
            (Form::Text, Value::Text(text)) => write_text(rows, text),
            _ => unreachable!("a column takes values of the kind that it was checked for"),
        }
    }
}

/// A row on its way.
struct Row<'r> {
    encoder: &'r Encoder,
    rows: &'r mut Vec<u8>,
    /// The column that comes next.
    next: usize,
    scratch: String,
}

impl<'r> Row<'r> {
    /// Leaves columns empty up to one of a name, or up to the end; returns that one.
    fn skip_to(&mut self, name: Option<&str>) -> Option<Option<&'r Column>> {
        let columns = &self.encoder.columns;
        while let Some(column) = columns.get(self.next) {
            self.next += 1;
            if name == Some(&column.name) {
                return Some(Some(column));
            }
            if !column.is_nullable {
                return None;
            }
            self.rows.push(1);
        }
        name.is_none().then_some(None)
    }

    fn take(&mut self, name: &str, token: &RawValue) -> Option<()> {
        let column = self.skip_to(Some(name))??;
        let value = column.kind.read(token, &mut self.scratch).ok()?;
        if column.is_nullable {
            self.rows.push(0);
        }
        self.encoder.write(column, value, self.rows);
        Some(())
    }
}

impl<'de> de::Visitor<'de> for &mut Row<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(name) = entries.next_key::<Name>()? {
            let token: &RawValue = entries.next_value()?;
            self.take(&name.0, token).ok_or_else(|| de::Error::custom("no record of the view"))?;
        }
        Ok(())
    }
}

/// A key, as it is written where it has no escapes.
struct Name(Box<str>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: de::Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
        <Box<str>>::deserialize(from).map(Name)
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// A length, seven bits a byte.
fn length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = "name = \"d\"\nshards = 4\n[events]\nkey = \"ID\"\nshard_key = \"N\"\n\
                        time = \"AT\"\nzone = \"Europe/Moscow\"\n[events.columns]\n\
                        ID = { type = \"uuid\" }\nN = { type = \"integer\", range = \"-5..300\" }\n\
                        ON = { type = \"date\", range = \"1970-01-01..2149-06-06\" }\n\
                        AT = { type = \"datetime\", range = \"2015-01-01..2149-12-31\" }\n\
                        NOTE = { type = \"text\", bytes_max = 100, optional = true }\n\
                        [views.all]\nkind = \"enriched\"\n";

    fn spec() -> Spec {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("spec.toml");
        std::fs::write(&path, SPEC).expect("a file");
        Spec::load(&path).expect("it is sound")
    }

    fn columns(types: &[(&str, &str)]) -> Vec<TableColumn> {
        let column = |(name, type_name): &(&str, &str)| TableColumn {
            name: (*name).to_owned(),
            type_name: (*type_name).to_owned(),
        };
        types.iter().map(column).collect()
    }

    const TABLE: [(&str, &str); 6] = [
        ("ID", "UUID"),
        ("N", "Int16"),
        ("ON", "Date"),
        ("AT", "DateTime64(6, 'Europe/Moscow')"),
        ("NOTE", "LowCardinality(Nullable(String))"),
        ("epoch", "UInt64"),
    ];

    #[test]
    fn rows_are_written_as_the_server_reads_them() {
        let encoder = Encoder::new(&spec(), "d_all_rows", &columns(&TABLE)).expect("it fits");
        assert_eq!(
            encoder.insert(),
            "INSERT INTO `d_all_rows` (`ID`, `N`, `ON`, `AT`, `NOTE`, `epoch`) FORMAT \
             RowBinaryWithNamesAndTypes"
        );
        assert!(
            encoder.head().starts_with(b"\x06\x02ID\x01N\x02ON\x02AT\x04NOTE\x05epoch\x04UUID")
        );
        let mut rows = Vec::new();
        let record = r#"{"ID":"00112233-4455-6677-8899-aabbccddeeff","N":-2,"ON":"1970-01-03",
                         "AT":"2025-08-13 22:55:51.008465"}"#;
        encoder.append(record.as_bytes(), 7, &mut rows).expect("a record");
        let mut wanted = vec![0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00];
        wanted.extend([0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x88]);
        wanted.extend([0xfe, 0xff, 2, 0]);
        // Three hours behind Moscow.
        wanted.extend((1_755_125_751_008_465_i64 - 3 * 3_600_000_000).to_le_bytes());
        wanted.push(1);
        wanted.extend(7_u64.to_le_bytes());
        assert_eq!(rows, wanted);
        let noted = record.replace("}", ",\"NOTE\":\"я\"}");
        rows.clear();
        encoder.append(noted.as_bytes(), 7, &mut rows).expect("a record");
        assert_eq!(rows[28..32], [0, 2, 0xd1, 0x8f]);
    }

    #[test]
    fn what_is_no_record_leaves_nothing_behind() {
        let encoder = Encoder::new(&spec(), "t", &columns(&TABLE)).expect("it fits");
        let good = "{\"ID\":\"00112233-4455-6677-8899-aabbccddeeff\",\"N\":1,\
                    \"ON\":\"2025-01-01\",\"AT\":\"2025-01-01 00:00:00\"}";
        let mut rows = vec![9];
        for bad in [
            "",
            "null",
            "[]",
            "{}",
            &good[..good.len() - 1],
            &format!("{good}x"),
            &good.replace("\"N\":1", "\"N\":301"),
            &good.replace("\"N\":1,", ""),
            &good.replace("\"N\":1", "\"M\":1"),
            &good.replace("2025-01-01\"", "2025-02-30\""),
        ] {
            assert_eq!(encoder.append(bad.as_bytes(), 1, &mut rows), Err(NoRecord), "{bad}");
            assert_eq!(rows, [9]);
        }
        assert_eq!(encoder.append(good.as_bytes(), 1, &mut rows), Ok(()));
    }

    #[test]
    fn tables_that_do_not_fit_are_named_with_what_mends_them() {
        let said = |name: &str, type_name: Option<&str>| {
            let mut table = columns(&TABLE);
            match type_name {
                Some(type_name) => {
                    let column = table.iter_mut().find(|column| column.name == name);
                    column.expect("one of them").type_name = type_name.to_owned();
                }
                None => table.retain(|column| column.name != name),
            }
            let unfit = Encoder::new(&spec(), "t", &table).err().unwrap_or_default();
            unfit.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(
            said("NOTE", None),
            "it has no column NOTE: ALTER TABLE `t` ADD COLUMN `NOTE` Nullable(String) AFTER `AT`"
        );
        assert_eq!(
            said("N", Some("UInt16")),
            "its column N is UInt16, and takes not all that Int16 can be: ALTER TABLE `t` MODIFY \
             COLUMN `N` Int16"
        );
        for (name, narrow) in [
            ("N", "Int8"),
            ("NOTE", "String"),
            ("ID", "String"),
            ("ON", "DateTime"),
            ("AT", "DateTime64(3, 'Europe/Moscow')"),
            ("epoch", "UInt32"),
        ] {
            assert!(said(name, Some(narrow)).contains("MODIFY COLUMN"), "{name} {narrow}");
        }
        for (name, wide) in
            [("N", "Nullable(Int64)"), ("ON", "Date32"), ("NOTE", "Nullable(String)")]
        {
            assert_eq!(said(name, Some(wide)), "", "{name} {wide}");
        }
    }
}
