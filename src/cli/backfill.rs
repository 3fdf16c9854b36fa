//! `tributary backfill`: a dataflow made from history, beside the one that runs.

use std::{net::SocketAddr, num::NonZeroU64, path::PathBuf, sync::Arc};

use clap::{Args, ValueEnum};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use jiff::{Timestamp, civil, tz::TimeZone};

use super::{
    Failure, init,
    place::PlaceOptions,
    print,
    run::{Asked, Run},
};
use crate::{
    archive::{
        Manifest, Store,
        copy::{Copied, copy},
    },
    config::ArchiveConfig,
    engine::{Edge, Names, Span, WORKERS_MAX, shown_dataflow, view_topics},
    history::stage::{Origin, Staged, Staging},
    kafka::Kafka,
    spec::Spec,
};

/// Make a dataflow anew from history, beside the one that runs: under a name of its own, with
/// topics, progress, archive and tables of its own, over the same events and documents.
///
/// The spec is the changed one; it bears the name of the dataflow that runs. What there is of
/// events is read from the archive of that dataflow, which is copied first, and from their topic
/// where the archive ends; then it keeps up with what comes, as `tributary run` does, until it is
/// ended. Started again it goes on. Documents are those of the reference log as it is now; where
/// the spec takes more of them than the log holds, run the feeds with this spec first (`tributary
/// feed`).
///
/// Then `tributary diff` says what is other than in the dataflow that runs, `tributary promote` has
/// readers shown this one, and `promote --rollback` the other again. A run of it later, with feeds
/// and as many processes as needed, is `tributary run SPEC --as NAME`; what came of it that is not
/// wanted, `tributary retire SPEC --as NAME` takes away. See docs/history.md.
#[derive(Debug, Args)]
pub(super) struct Backfill {
    /// The changed dataflow's TOML file.
    spec: PathBuf,

    #[command(flatten)]
    place: PlaceOptions,

    /// Where history comes from; the archive, where one is named, else the topic of the events.
    #[arg(long, value_enum, value_name = "WHERE")]
    from: Option<From>,

    /// Files of events, one JSON object a line, as `tributary run` takes them.
    #[arg(long, num_args = 1.., required_if_eq("from", "files"), value_name = "FILE")]
    events: Vec<PathBuf>,

    /// The archive: a folder, or s3://bucket/prefix; the short form of [archive] in the
    /// configuration. The dataflow that runs has its part there, and this one gets one too.
    #[arg(long, value_name = "PLACE")]
    archive: Option<String>,

    /// Begin with events that were written to their topic at this moment or later: a day, a day and
    /// time in the zone of the events, or a moment with its offset. What is made then holds no
    /// more than that, also when it is started again.
    #[arg(long, value_name = "MOMENT")]
    since: Option<String>,

    /// Leave out events that were written to their topic at this moment or later, and end once all
    /// before is done. Without it, it keeps up with what comes.
    #[arg(long, value_name = "MOMENT")]
    until: Option<String>,

    /// Read at most so many events a second, so that the brokers have time for what else they do.
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU64>,

    /// Worker threads; the results are the same for any number.
    #[arg(long, default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=WORKERS_MAX as i64))]
    workers: u16,

    /// Leave the tables of the configuration ([clickhouse]) to `tributary load --as NAME`.
    #[arg(long)]
    no_load: bool,

    /// As in `tributary run`.
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,

    /// As in `tributary run`, on this machine alone.
    #[arg(long, value_name = "IP:PORT")]
    http: Option<SocketAddr>,

    /// Say nothing but errors.
    #[arg(long, short)]
    quiet: bool,
}

/// Where history comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    /// What the dataflow that runs has archived, and what its topic holds behind that.
    Archive,
    /// What the topic of the events holds.
    Topic,
    /// Files of events (--events), and what archive and topic hold.
    Files,
    /// What the dataflow that readers are shown has in ClickHouse, and what archive and topic hold.
    Clickhouse,
}

impl Backfill {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spec = self.place.own_spec(&self.spec)?;
        if !self.events.is_empty() && self.from != Some(From::Files) {
            let what = "--events goes with --from files".to_owned();
            return Err(Failure::Arguments(what));
        }
        let edge = |given: &Option<String>, option| {
            given.as_ref().map(|text| edge(text, &spec, option)).transpose()
        };
        let span = Span { since: edge(&self.since, "since")?, until: edge(&self.until, "until")? };
        let moment = |edge: &Option<Edge>| edge.as_ref().and_then(Edge::moment);
        let moments = moment(&span.since).zip(moment(&span.until));
        if moments.is_some_and(|(since, until)| since >= until) {
            return Err(Failure::Arguments("--since lies before --until".to_owned()));
        }
        let (kafka, names) = self.place.resolve(&spec)?;
        kafka.connect().map_err(Failure::failed)?;
        let shown = shown_dataflow(&kafka, &spec.family).map_err(Failure::failed)?;
        let partitions = self.partitions(&kafka, &spec, &shown)?;
        init::make(&spec, &self.place, (&kafka, &names), partitions, None)?;
        let config = match &self.archive {
            Some(place) => Some(ArchiveConfig::in_folder(place)),
            None => self.place.config()?.archive,
        };
        match (self.from, &config) {
            (Some(From::Archive | From::Files | From::Clickhouse), None) => {
                let what = "name the archive: --archive PLACE, or [archive] in the file of \
                            --config; it keeps what the dataflow is made from";
                return Err(Failure::Arguments(what.to_owned()));
            }
            (None | Some(From::Archive | From::Files | From::Clickhouse), Some(config)) => {
                self.make_archive(config, &shown, &spec, (&kafka, &names), span.clone())?;
            }
            (Some(From::Topic), _) | (None, None) => {}
        }
        let Backfill { spec, place, archive, rate, workers, no_load, metrics, http, quiet, .. } =
            self;
        let asked =
            Asked { spec, place, archive, no_load, workers, metrics, http, quiet, span, rate };
        Run::from(asked).run()
    }

    /// How many partitions its outputs are to have: as many as those of the dataflow that is
    /// shown, or both could not be compared, nor readers be switched without a word.
    fn partitions(&self, kafka: &Kafka, spec: &Spec, shown: &str) -> Result<(u32, u32), Failure> {
        let topics: Vec<String> = view_topics(spec, shown).into_values().collect();
        let found = kafka.topics(&topics).map_err(Failure::failed)?;
        let outputs = found.iter().map(|topic| topic.partitions).max();
        let outputs = outputs.ok_or_else(|| {
            Failure::Arguments(format!(
                "dataflow \"{shown}\" has no outputs there: a backfill is made beside one that \
                 has; the first one is made by `tributary init` and `tributary run`"
            ))
        })?;
        Ok((1, outputs))
    }

    /// Makes its archive: of what the dataflow that is shown has archived, and of files or
    /// ClickHouse.
    fn make_archive(
        &self,
        config: &ArchiveConfig,
        shown: &str,
        spec: &Spec,
        (kafka, names): (&Kafka, &Names),
        span: Span,
    ) -> Result<(), Failure> {
        let open = |dataflow: &str| Store::open(config, dataflow).map_err(Failure::failed);
        let (from, to) = (open(shown)?, Arc::new(open(&spec.name)?));
        let bar = if self.quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
        let style = "copies the archive {wide_bar} {bytes} of {total_bytes}, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is well formed"));
        let copied = copy(&from, (&to, &spec.name), &mut |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        let copied = match copied.map_err(super::archive::failure)? {
            Copied::WasThere => return self.look_at_history(&to),
            Copied::Nothing if self.from == Some(From::Archive) => {
                return Err(Failure::Arguments(format!(
                    "archive \"{}\" holds nothing of \"{shown}\": run that with it first, or read \
                     what the topic of the events holds, --from topic",
                    from.place()
                )));
            }
            Copied::Nothing => None,
            Copied::All { files, bytes, manifest } => {
                let (files, bytes) = (HumanCount(files), HumanBytes(bytes));
                print(&format!("copied the archive of \"{shown}\": {files} file(s), {bytes}\n"))?;
                Some(*manifest)
            }
        };
        failpoint!("archive-copied");
        let clickhouse = self.place.config()?.clickhouse;
        let origin = match (self.from, &clickhouse) {
            (Some(From::Files), _) => Origin::Files(&self.events),
            (Some(From::Clickhouse), Some(config)) => Origin::ClickHouse(config, shown),
            (Some(From::Clickhouse), None) => {
                return Err(self.place.clickhouse().expect_err("there is none"));
            }
            _ => {
                let created = copied.map(|manifest| manifest.create(&to)).transpose();
                return created.map(drop).map_err(Failure::failed);
            }
        };
        let spinner = ProgressBar::new_spinner();
        let spec = Arc::new(spec.clone());
        let staging = Staging { spec: &spec, kafka, names, store: &to, copied, span };
        let staged = staging.run(&origin, &mut |what, events| {
            spinner.set_message(format!("{what}: {}", HumanCount(events)));
            spinner.tick();
        });
        spinner.finish_and_clear();
        let Staged { events, known, other, refused } = staged.map_err(Failure::history)?;
        let [events, known, other, refused] = [events, known, other, refused].map(HumanCount);
        print(&format!(
            "staged {events} event(s), {refused} of them no events; left out {known} that topic or \
             archive have, {other} of another time\n"
        ))
    }
}

impl Backfill {
    /// That an archive which was there already is of what is asked for.
    fn look_at_history(&self, store: &Store) -> Result<(), Failure> {
        let manifest = Manifest::newest(store).map_err(super::archive::failure)?;
        let has_history = manifest.is_some_and(|manifest| !manifest.events.history.is_empty());
        match (self.from, has_history) {
            (Some(From::Files | From::Clickhouse), false) => {
                let what = "its archive is there already, and holds no events of files or \
                            ClickHouse: take it away first (`tributary retire`), or give another \
                            name";
                Err(Failure::Arguments(what.to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// Where to begin or end, as it is given as an option: a moment, or offsets.
fn edge(text: &str, spec: &Spec, option: &str) -> Result<Edge, Failure> {
    if let Some(offsets) = text.strip_prefix("offsets:") {
        let offsets: Option<Vec<u64>> =
            offsets.split(',').map(|offset| offset.trim().parse().ok()).collect();
        return offsets.map(Edge::Offsets).ok_or_else(|| {
            Failure::Arguments(format!(
                "--{option} \"{text}\" names no offsets: write one for each partition, as \
                 offsets:120,33,0"
            ))
        });
    }
    moment(text, spec, option).map(Edge::Moment)
}

/// A moment that is given as an option, in ms since 1970.
fn moment(text: &str, spec: &Spec, option: &str) -> Result<i64, Failure> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment.as_millisecond());
    }
    let zone = TimeZone::get(&spec.events.zone).ok();
    let wall = text.parse::<civil::DateTime>().ok();
    let moment = wall.zip(zone).and_then(|(wall, zone)| wall.to_zoned(zone).ok());
    moment.map(|moment| moment.timestamp().as_millisecond()).ok_or_else(|| {
        Failure::Arguments(format!(
            "--{option} \"{text}\" is no moment: write 2026-09-01, 2026-09-01T08:00 (in the \
             zone of the events, {}) or 2026-09-01T08:00:00+03:00",
            spec.events.zone
        ))
    })
}
