//! `tributary why`: how a record came to its values.

use std::{fmt::Write, path::PathBuf, sync::Arc};

use clap::Args;
use comfy_table::{Table, presets::NOTHING};
use indicatif::ProgressBar;
use jiff::Timestamp;

use super::{Failure, place::PlaceOptions, print};
use crate::{
    archive::Store,
    config::ArchiveConfig,
    history::why::{Became, Counts, Document, LookedUp, OfKey, Places, SaidAt, Version, Why, why},
};

/// Say why the record of an event has its values: where and when the event was said, and what
/// became of others with its ID; which documents were looked up for it, in which versions, and
/// which of several has the number; what the record said at which epoch; which mark counts of its
/// key, and by what it wins; and where all that stands.
///
/// It reads the inputs and outputs as they are, so it takes as long as reading the events does, and
/// works whether or not the dataflow runs. It shows what stands in records, of people too.
#[derive(Debug, Args)]
pub(super) struct WhyOf {
    /// The dataflow's TOML file.
    spec: PathBuf,

    /// The event's ID.
    id: String,

    #[command(flatten)]
    place: PlaceOptions,

    /// The archive, for events that their topic does not hold any more: a folder, or
    /// s3://bucket/prefix; archive.place where it is not given.
    #[arg(long, value_name = "PLACE")]
    archive: Option<String>,

    /// Say it as one JSON object.
    #[arg(long)]
    json: bool,
}

impl WhyOf {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spec = Arc::new(self.place.spec(&self.spec)?);
        let (kafka, names) = self.place.resolve(&spec)?;
        kafka.connect().map_err(Failure::failed)?;
        let config = self.place.config()?;
        let archive = match &self.archive {
            Some(place) => Some(ArchiveConfig::in_folder(place)),
            None => config.archive,
        };
        let archive = archive.map(|config| Store::open(&config, &spec.name)).transpose();
        let archive = archive.map_err(Failure::failed)?.map(Arc::new);
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
        let places = Places {
            spec: &spec,
            kafka: &kafka,
            names: &names,
            archive: archive.as_ref(),
            clickhouse: config.clickhouse.as_ref(),
        };
        let found = why(&places, &self.id, &mut |what| bar.set_message(what.to_owned()));
        bar.finish_and_clear();
        let found = found.map_err(Failure::history)?;
        match self.json {
            true => {
                let text = serde_json::to_string(&found).expect("plain values have a JSON");
                print(&format!("{text}\n"))
            }
            false => print(&text(&self.id, &found)),
        }
    }
}

fn moment(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |moment| format!("{moment:.3}"))
}

fn epoch(epoch: u64) -> String {
    format!("epoch {epoch} ({})", moment(epoch as i64))
}

fn table(rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    rows.for_each(|row| {
        table.add_row(row);
    });
    let lines = table.to_string();
    lines.lines().map(|line| format!("  {}\n", line.trim_end())).collect()
}

fn text(id: &str, why: &Why) -> String {
    let mut out = String::new();
    let Why { generation, spec, is_other_spec, said, enriched, lookups, latest, held } = why;
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to memory");
    line(format!("event {id}, as start {generation} of spec {spec} takes it"));
    if *is_other_spec {
        line("its spec is another one than the file that was named, which this goes by".to_owned());
    }
    if said.is_empty() {
        line(
            "it was never said; or the topic does not hold it any more: name the archive"
                .to_owned(),
        );
        return out;
    }
    line("\nsaid".to_owned());
    let said = said.iter().map(|SaidAt { partition, offset, time_ms, is_archived, became }| {
        let became = match became {
            Became::Stands => "stands".to_owned(),
            Became::Repeats => "says what was said before".to_owned(),
            Became::Taken => "another event had the ID before: a dead letter".to_owned(),
            Became::Refused(reason, column) => {
                let column =
                    column.as_ref().map_or(String::new(), |column| format!(" in {column}"));
                format!("is no event: {reason}{column}: a dead letter")
            }
        };
        let place = if *is_archived { "archive" } else { "topic" };
        vec![
            format!("partition {partition}, offset {offset}"),
            moment(*time_ms),
            place.into(),
            became,
        ]
    });
    out.push_str(&table(said));
    for (name, LookedUp { key, documents, has_it }) in lookups {
        let Some(key) = key else {
            writeln!(out, "\n{name}: asked for nobody").expect("writing to memory");
            continue;
        };
        let whose = has_it.as_ref().map_or("nobody has it".to_owned(), |id| format!("{id} has it"));
        writeln!(out, "\n{name} {key}: {whose}").expect("writing to memory");
        let documents =
            documents.iter().map(|Document { id, offset, time_ms, version, claims }| {
                let what = if *claims { "has the number" } else { "has it no more" };
                let version =
                    if *version == 0 { "-".to_owned() } else { format!("version {version}") };
                vec![
                    id.clone(),
                    version,
                    format!("offset {offset}"),
                    moment(*time_ms),
                    what.to_owned(),
                ]
            });
        out.push_str(&table(documents));
    }
    out.push_str("\nits record\n");
    for Version { epoch: at, offset, columns } in enriched {
        writeln!(out, "  {}, offset {offset}", epoch(*at)).expect("writing to memory");
        let columns = columns.iter().map(|(name, value)| {
            vec![format!("  {name}"), value.clone().unwrap_or_else(|| "-".to_owned())]
        });
        out.push_str(&table(columns));
    }
    for (view, Counts { id: winner, epoch: at, of_key }) in latest {
        let Some(winner) = winner else { continue };
        let is_it = winner.trim_matches('"').eq_ignore_ascii_case(id);
        let what = if is_it { "it counts" } else { "another one counts" };
        writeln!(out, "\n{view}: {what}, since {}", epoch(*at)).expect("writing to memory");
        let marks = of_key.iter().map(|OfKey { id: of, decides }| {
            let mark = if of == winner { "counts" } else { "" };
            let decides = decides
                .iter()
                .map(|(name, value)| format!("{name} {}", value.as_deref().unwrap_or("-")));
            vec![of.clone(), decides.collect::<Vec<_>>().join(", "), mark.to_owned()]
        });
        out.push_str(&table(marks));
    }
    let newest = enriched.last().map_or(0, |version| version.epoch);
    writeln!(
        out,
        "\nheld\n  topic {}, partition {}; all is committed up to {}",
        held.topic,
        held.partition,
        epoch(held.committed)
    )
    .expect("writing to memory");
    match (held.clickhouse, held.clickhouse_frontier) {
        (Some(at), _) if at >= newest => {
            writeln!(out, "  ClickHouse: as of {}", epoch(at)).expect("writing to memory");
        }
        (Some(at), _) => {
            writeln!(out, "  ClickHouse: behind, as of {}", epoch(at)).expect("writing to memory")
        }
        (None, Some(frontier)) => {
            writeln!(out, "  ClickHouse: not there; complete up to {}", epoch(frontier))
                .expect("writing to memory");
        }
        (None, None) => {}
    }
    out
}
