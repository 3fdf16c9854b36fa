//! `tributary dead-letters`: what was no event, looked at and brought back.

use std::{
    collections::HashMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::{Args, Subcommand};
use comfy_table::{Table, presets::NOTHING};
use indicatif::HumanCount;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{Failure, place::PlaceOptions, print, tell};
use crate::engine::{Filter, Letter, Letters, Repaired};

/// Look at the dead letters of a dataflow over Kafka, and bring them back once they are repaired.
///
/// What is no event of the dataflow stands, byte for byte, in its topic of dead letters.
#[derive(Debug, Args)]
pub(super) struct DeadLetters {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    List(List),
    Show(Show),
    Replay(Replay),
}

/// Which letters.
#[derive(Debug, Args)]
struct FilterOptions {
    /// Only letters of this reason, such as missing or wrong_form; may be given several times.
    #[arg(long, value_name = "REASON")]
    reason: Vec<String>,

    /// Only letters of which this column is at fault; may be given several times.
    #[arg(long, value_name = "COLUMN")]
    column: Vec<String>,

    /// Only letters whose event stood in this partition.
    #[arg(long, value_name = "N")]
    event_partition: Option<u32>,
}

/// List dead letters: where each stands, why it is one, and where its event stood.
///
/// Without --values nothing of what events say is printed.
#[derive(Debug, Args)]
struct List {
    /// The dataflow's TOML file.
    spec: PathBuf,

    #[command(flatten)]
    place: PlaceOptions,

    #[command(flatten)]
    filter: FilterOptions,

    /// At most so many; 0 for all.
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,

    /// One JSON object a letter and line.
    #[arg(long)]
    json: bool,

    /// With --json, the event's key and value too: as "value" where it is text, else as
    /// "value_base64". Repaired, such lines are what `replay` takes.
    #[arg(long, requires = "json")]
    values: bool,
}

/// Print the bytes of one dead letter.
#[derive(Debug, Args)]
struct Show {
    /// The dataflow's TOML file.
    spec: PathBuf,

    /// Which: PARTITION/OFFSET, as `list` says it.
    letter: String,

    #[command(flatten)]
    place: PlaceOptions,
}

/// Bring dead letters back as events, each exactly once, however often this is run.
///
/// With a file, those of its lines: {"partition", "offset", "value"} (or "value_base64"), as `list
/// --json --values` prints them, the values repaired. With --all or a filter, those letters as they
/// came, as after a change of the spec. Each goes to the partition from which it came, under its
/// old key.
#[derive(Debug, Args)]
struct Replay {
    /// The dataflow's TOML file.
    spec: PathBuf,

    /// Repaired letters.
    repaired: Option<PathBuf>,

    #[command(flatten)]
    place: PlaceOptions,

    #[command(flatten)]
    filter: FilterOptions,

    /// All of them, as they came.
    #[arg(long, conflicts_with_all = ["repaired", "reason", "column", "event_partition"])]
    all: bool,
}

/// A line of repaired letters.
#[derive(Deserialize)]
struct Line {
    partition: u32,
    offset: u64,
    value: Option<String>,
    value_base64: Option<String>,
}

impl DeadLetters {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.what {
            What::List(list) => list.run(),
            What::Show(show) => show.run(),
            What::Replay(replay) => replay.run(),
        }
    }
}

/// Opens the letters of a dataflow and does something with them.
fn with<T>(
    spec: &Path,
    place: &PlaceOptions,
    what: impl FnOnce(&Letters<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let spec = place.spec(spec)?;
    let (kafka, names) = place.resolve(&spec)?;
    kafka.connect().map_err(Failure::failed)?;
    what(&Letters::open(&kafka, &spec, &names).map_err(Failure::failed)?)
}

impl FilterOptions {
    fn filter(&self) -> Filter {
        Filter {
            reasons: self.reason.clone(),
            columns: self.column.clone(),
            event_partition: self.event_partition,
        }
    }

    fn is_none(&self) -> bool {
        self.reason.is_empty() && self.column.is_empty() && self.event_partition.is_none()
    }
}

impl List {
    fn run(self) -> Result<(), Failure> {
        let filter = self.filter.filter();
        let mut table = Table::new();
        let header = ["letter", "reason", "column", "event", "written", "bytes"];
        table.load_style(NOTHING).set_header(header);
        let (mut found, mut printed) = (0, Ok(()));
        with(&self.spec, &self.place, |letters| {
            let each = letters.each(|letter| {
                if !filter.takes(&letter) {
                    return true;
                }
                found += 1;
                match self.json {
                    true => printed = print(&format!("{}\n", json_of(&letter, self.values))),
                    false => drop(table.add_row(row(&letter))),
                }
                printed.is_ok() && (self.limit == 0 || found < self.limit)
            });
            each.map_err(Failure::failed)
        })?;
        printed?;
        if self.json {
            return Ok(());
        }
        print(&format!("{table}\n{} letter(s)\n", HumanCount(found as u64)))?;
        if found == self.limit {
            print("there may be more: --limit\n")?;
        }
        Ok(())
    }
}

fn row(letter: &Letter) -> [String; 6] {
    let Letter { partition, offset, reason, column, time_ms, value, .. } = letter;
    [
        format!("{partition}/{offset}"),
        reason.clone(),
        column.clone(),
        format!("{}/{}/{}", letter.event_topic, letter.event_partition, letter.event_offset),
        Timestamp::from_millisecond(*time_ms).unwrap_or_default().to_string(),
        value.len().to_string(),
    ]
}

fn json_of(letter: &Letter, with_values: bool) -> serde_json::Value {
    let Letter { partition, offset, reason, column, time_ms, key, value, .. } = letter;
    let mut json = json!({
        "partition": partition,
        "offset": offset,
        "reason": reason,
        "column": column,
        "event": {
            "topic": letter.event_topic,
            "partition": letter.event_partition,
            "offset": letter.event_offset,
            "time": Timestamp::from_millisecond(*time_ms).unwrap_or_default().to_string(),
        },
        "bytes": value.len(),
    });
    if let Some(cut) = letter.cut {
        json["cut"] = cut.into();
    }
    if with_values {
        json["key"] = key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned()).into();
        match str::from_utf8(value) {
            Ok(text) => json["value"] = text.into(),
            Err(_) => json["value_base64"] = BASE64_STANDARD.encode(value).into(),
        }
    }
    json
}

impl Show {
    fn run(self) -> Result<(), Failure> {
        let place = self
            .letter
            .split_once('/')
            .and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
        let Some((partition, offset)) = place else {
            let what = format!("\"{}\" names no letter; give PARTITION/OFFSET", self.letter);
            return Err(Failure::Arguments(what));
        };
        let found = with(&self.spec, &self.place, |letters| {
            letters.one(partition, offset).map_err(Failure::failed)
        })?;
        let Some(letter) = found else {
            let what = format!("no dead letter stands at {partition}/{offset}; see `list`");
            return Err(Failure::Arguments(what));
        };
        tell(&json_of(&letter, false).to_string());
        let mut out = std::io::stdout().lock();
        let written = out.write_all(&letter.value).and_then(|()| out.flush());
        written.map_err(|error| Failure::failed(super::Unprinted(error)))
    }
}

impl Replay {
    fn run(self) -> Result<(), Failure> {
        let repaired = match &self.repaired {
            Some(path) => Repaired::Values(read(path)?),
            None if self.all || !self.filter.is_none() => {
                Repaired::AsTheyCame(self.filter.filter())
            }
            None => {
                let what = "say which letters: a file of repaired ones, a filter, or --all";
                return Err(Failure::Arguments(what.to_owned()));
            }
        };
        let done = with(&self.spec, &self.place, |letters| {
            letters.replay(&repaired).map_err(Failure::failed)
        })?;
        print(&format!(
            "{} letter(s) are events again; {} were so before; {} are not there\n",
            HumanCount(done.replayed),
            HumanCount(done.before),
            HumanCount(done.missing),
        ))?;
        match done.cut {
            0 => Ok(()),
            cut => print(&format!(
                "{} letter(s) were too large and hold only the begin of their event: they are left \
                 as they are; give them back whole in a file of repaired ones\n",
                HumanCount(cut),
            )),
        }
    }
}

/// Reads repaired letters.
fn read(path: &Path) -> Result<HashMap<(u32, u64), Vec<u8>>, Failure> {
    let wrong = |what: String| Failure::Arguments(format!("\"{}\": {what}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let mut values = HashMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = number + 1;
        // What the line says is not shown: it may name people.
        let line: Line = serde_json::from_str(line).map_err(|error| {
            wrong(format!("line {number} is no letter, at column {}", error.column()))
        })?;
        let value = match (line.value, line.value_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(coded)) => {
                let decoded = BASE64_STANDARD.decode(coded);
                decoded.map_err(|_| wrong(format!("line {number}: value_base64 is no base64")))?
            }
            _ => return Err(wrong(format!("line {number}: give either value or value_base64"))),
        };
        values.insert((line.partition, line.offset), value);
    }
    Ok(values)
}
