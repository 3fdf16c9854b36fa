//! `tributary load`: keeps tables of ClickHouse equal to what views say.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::HumanCount;
use tracing::error;

use super::{Failure, place::PlaceOptions, tell, watch};
use crate::{
    config::ClickHouseConfig,
    engine::Metrics,
    kafka::Kafka,
    load::{self, Loaded},
    spec::Spec,
    time::Epoch,
};

/// Keep the tables in ClickHouse equal to what the views of a dataflow say in their topics.
///
/// The server is that of the configuration ([clickhouse], see docs/clickhouse.md). A loader goes on
/// from where the tables are, whoever loaded them; it may be killed, run twice, and wait for
/// ClickHouse for as long as that is away: what is not loaded stands in the topics, and the engine
/// does not notice. What analysts read is right at any moment; `attendance_frontier` says up to
/// when it is complete.
#[derive(Debug, Args)]
pub(super) struct Load {
    /// The dataflow's TOML file.
    spec: PathBuf,

    #[command(flatten)]
    place: PlaceOptions,

    /// End once everything up to this epoch is loaded, and load nothing beyond it.
    #[arg(long, value_name = "EPOCH", value_parser = clap::value_parser!(u64).range(1..))]
    until_epoch: Option<Epoch>,

    /// Load the table of a view anew, beside the one that is read, and exchange both once the fresh
    /// one holds as much. Others may load meanwhile; one rebuild of a view at a time.
    #[arg(long, value_name = "VIEW", conflicts_with = "until_epoch")]
    rebuild: Option<String>,

    /// Leave out, counted, what stands in a topic and is no record of its view. Without this the
    /// frontier stands still before it, and with --until-epoch or --rebuild the loader ends.
    #[arg(long)]
    leave_out: bool,

    /// Say nothing but errors.
    #[arg(long, short)]
    quiet: bool,
}

/// Between words how far it is.
const BETWEEN_WORDS: Duration = Duration::from_secs(10);

/// Between looks whether it has ended.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

impl Load {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spec = Arc::new(Spec::load(&self.spec)?);
        let (kafka, _) = self.place.resolve(&spec)?;
        let config = self.place.clickhouse()?;
        kafka.connect().map_err(Failure::failed)?;
        let end = watch::end_when_asked()?;
        watch::end_at_last(
            &end,
            "a block that is on its way may be loaded; the next start goes on",
        );
        let loaded = load::Load::begin(&spec);
        let (until, leaves_out) = (self.until_epoch, self.leave_out);
        let task = load::Load { spec, kafka, config, until, leaves_out };
        let (is_over, none) = (AtomicBool::new(false), Loaded::default());
        let ended = thread::scope(|scope| {
            if !self.quiet {
                scope.spawn(|| say_now_and_then(&loaded, until, &is_over));
            }
            let ended = match &self.rebuild {
                Some(view) => task.rebuild(view, &end, loaded.get(view).unwrap_or(&none)),
                None => task.run(&end, &loaded),
            };
            is_over.store(true, Ordering::Relaxed);
            ended
        });
        if !self.quiet {
            say(&loaded, until, "ended");
        }
        ended.map_err(Failure::failed)
    }
}

/// Between starts of a loader that failed.
const BETWEEN_STARTS: Duration = Duration::from_secs(10);

/// Between looks how far a loader is.
const BETWEEN_NUMBERS: Duration = Duration::from_secs(1);

/// The loader of a configuration, where that names a server.
pub(super) fn beside(
    spec: &Arc<Spec>,
    kafka: &Kafka,
    config: Option<ClickHouseConfig>,
) -> Result<Option<load::Load>, Failure> {
    let Some(config) = config else { return Ok(None) };
    config.check().map_err(Failure::config)?;
    let (spec, kafka) = (Arc::clone(spec), kafka.clone());
    Ok(Some(load::Load { spec, kafka, config, until: None, leaves_out: false }))
}

/// Loads beside an engine, in threads of its own, until it is asked to end. What fails it fails
/// nothing else.
pub(super) fn run_beside(task: load::Load, end: &Arc<AtomicBool>, metrics: &Arc<Metrics>) {
    let loaded = Arc::new(load::Load::begin(&task.spec));
    let fails = Arc::new(AtomicBool::new(false));
    let watched = (Arc::clone(&loaded), Arc::clone(&fails), Arc::clone(end), Arc::clone(metrics));
    thread::spawn(move || {
        let (loaded, fails, end, metrics) = watched;
        while !end.load(Ordering::Relaxed) {
            for (view, Loaded { rows, frontier, refused, .. }) in &*loaded {
                let [rows, frontier, refused] =
                    [rows, frontier, refused].map(|number| number.load(Ordering::Relaxed));
                metrics.load(view, rows, frontier, refused, fails.load(Ordering::Relaxed));
            }
            thread::sleep(BETWEEN_NUMBERS);
        }
    });
    let end = Arc::clone(end);
    thread::spawn(move || {
        while !end.load(Ordering::Relaxed) {
            let begun = task.run(&end, &loaded);
            fails.store(begun.is_err(), Ordering::Relaxed);
            if let Err(failed) = begun {
                error!("the loader is started again, the engine goes on: {failed}");
                let until = Instant::now() + BETWEEN_STARTS;
                while Instant::now() < until && !end.load(Ordering::Relaxed) {
                    thread::sleep(BETWEEN_LOOKS);
                }
            }
        }
    });
}

fn say_now_and_then(loaded: &BTreeMap<String, Loaded>, until: Option<Epoch>, is_over: &AtomicBool) {
    let mut spoke = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        if spoke.elapsed() >= BETWEEN_WORDS {
            say(loaded, until, "loads");
            spoke = Instant::now();
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

fn say(loaded: &BTreeMap<String, Loaded>, until: Option<Epoch>, what: &str) {
    let until = until.map_or(String::new(), |until| {
        format!(" of {until} (it waits until the engine has committed that in all shards)")
    });
    for (view, Loaded { rows, blocks, frontier, .. }) in loaded {
        let [rows, blocks, frontier] =
            [rows, blocks, frontier].map(|number| number.load(Ordering::Relaxed));
        tell(&format!(
            "{view}: {what}: {} rows in {} blocks, complete up to epoch {frontier}{until}",
            HumanCount(rows),
            HumanCount(blocks),
        ));
    }
}
