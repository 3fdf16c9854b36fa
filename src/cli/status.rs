//! `tributary status`: how far a dataflow over Kafka is.

use std::{collections::BTreeMap, fmt::Write, path::PathBuf, time::Duration};

use clap::Args;
use comfy_table::{Table, presets::NOTHING};
use indicatif::{HumanBytes, HumanCount};
use jiff::Timestamp;
use serde::Serialize;

use super::{Failure, place::PlaceOptions, print};
use crate::{
    engine::{self, Status as Found, shown_dataflow},
    feed::{self, Mark},
};

/// Say how far a dataflow over Kafka is: which start is in force; up to which epoch each of its
/// writers has committed, how many records wait for corrections and what memory its process held
/// then; how far each input is held; how each feed was when it last said so; and how fast events
/// come and are taken.
///
/// It asks the brokers alone, so it works from any machine, whether or not the dataflow runs.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// The dataflow's TOML file.
    spec: PathBuf,

    #[command(flatten)]
    place: PlaceOptions,

    /// For so long it is looked how fast events come and are taken.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seconds: u16,

    /// Say it as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spec = self.place.spec(&self.spec)?;
        let (kafka, names) = self.place.resolve(&spec)?;
        kafka.connect().map_err(Failure::failed)?;
        let over = Duration::from_secs(self.seconds.into());
        let found = engine::status(&kafka, &spec, &names, over).map_err(Failure::failed)?;
        let feeds = match spec.lookups.is_empty() {
            true => BTreeMap::new(),
            false => feed::marks(&kafka, &names.reference).map_err(Failure::failed)?,
        };
        let readers = shown_dataflow(&kafka, &spec.family).map_err(Failure::failed)?;
        match self.json {
            true => {
                let all = Whole { found: &found, feeds: &feeds, readers: &readers };
                let text = serde_json::to_string(&all).expect("plain values have a JSON");
                print(&format!("{text}\n"))
            }
            false => {
                let readers = match readers == spec.name {
                    true => "readers are shown it\n".to_owned(),
                    false => format!("readers are shown \"{readers}\"\n"),
                };
                print(&(shown(&spec.name, &found) + &shown_feeds(&feeds) + &readers))
            }
        }
    }
}

/// All of it.
#[derive(Serialize)]
struct Whole<'f> {
    #[serde(flatten)]
    found: &'f Found,
    /// What feeds say of themselves, by source.
    feeds: &'f BTreeMap<String, Mark>,
    /// The dataflow that readers are shown.
    readers: &'f str,
}

fn shown_feeds(feeds: &BTreeMap<String, Mark>) -> String {
    if feeds.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    let head = ["feed", "documents", "refused", "answered", "compared", "state"];
    table.load_style(NOTHING).set_header(head);
    for (source, Mark { complete, state, hold, .. }) in feeds {
        let moment = |seconds: u64| match Timestamp::from_second(seconds as i64) {
            Ok(moment) if seconds > 0 => moment.to_string(),
            _ => "-".to_owned(),
        };
        let how = match (hold, &state.trouble) {
            (Some(hold), _) => format!("waits for `tributary accept`: {hold}"),
            (None, Some(trouble)) => trouble.clone(),
            (None, None) if *complete => "first snapshot complete".to_owned(),
            (None, None) => "first snapshot not complete".to_owned(),
        };
        table.add_row([
            source.clone(),
            HumanCount(state.documents).to_string(),
            HumanCount(state.refused).to_string(),
            moment(state.answered),
            moment(state.compared),
            how,
        ]);
    }
    let lines = table.to_string();
    let lines: Vec<&str> = lines.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n(feeds say so when something changes, and once a minute)\n"
}

fn shown(name: &str, found: &Found) -> String {
    let mut out = String::new();
    let mut line = |text: &str| writeln!(out, "{}", text.trim_end()).expect("writing to memory");
    match &found.lead {
        None => line(&format!("{name}: was never started")),
        Some(lead) => {
            line(&format!("{name}: start {}, spec {}", lead.generation, lead.spec));
            if found.writers.is_empty() {
                line("it has committed nothing yet");
            }
        }
    }
    let mut writers = Table::new();
    let head = ["writer", "committed up to", "epoch", "settled", "wait for corrections", "memory"];
    writers.load_style(NOTHING).set_header(head);
    for engine::WriterStatus { worker, epoch, settled, says } in &found.writers {
        let moment = Timestamp::from_millisecond(*epoch as i64).unwrap_or_default();
        writers.add_row([
            worker.to_string(),
            format!("{moment:.3}"),
            epoch.to_string(),
            settled.to_string(),
            HumanCount(says.waiting).to_string(),
            HumanBytes(says.resident_bytes).to_string(),
        ]);
    }
    if !found.writers.is_empty() {
        line(&writers.to_string());
    }
    let mut inputs = Table::new();
    inputs.load_style(NOTHING).set_header(["input", "begin", "end", "held", "lag"]);
    for engine::InputStatus { topic, partition, begin, end, held, lag } in &found.inputs {
        let count = |number: &u64| HumanCount(*number).to_string();
        let held = held.as_ref().map_or("-".to_owned(), count);
        let place = format!("{topic}/{partition}");
        inputs.add_row([place, count(begin), count(end), held, count(lag)]);
    }
    line(&inputs.to_string());
    if let Some(engine::Rates { seconds, came, held }) = found.rates {
        let a_second = |count: u64| HumanCount((count as f64 / seconds) as u64);
        line(&format!(
            "events a second: {} came, {} were taken (over {seconds:.1} s)",
            a_second(came),
            a_second(held)
        ));
    }
    line(&format!("dead letters: at most {}", HumanCount(found.dead_letters)));
    line("(offsets count the ends of transactions too, so a lag of 1 may stay)");
    out
}
