//! `tributary load`: keeps tables of ClickHouse equal to what views say.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
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
        let spec = Arc::new(self.place.spec(&self.spec)?);
        let (kafka, _) = self.place.resolve(&spec)?;
        let config = self.place.clickhouse()?;
        kafka.connect().map_err(Failure::failed)?;
        let end = watch::end_when_asked()?;
        watch::end_at_last(
            &end,
            "a block that is on its way may be loaded; the next start goes on",
        );
        let mut loaded = load::Load::begin(&spec);
        if let Some(view) = &self.rebuild {
            loaded.retain(|of, _| of == view);
        }
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

/// For how long after a failure the metrics say that it fails: it may take a while to fail again.
const FAILS_FOR: Duration = Duration::from_secs(60);

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

/// Loads beside an engine, each view in a thread of its own, until it is asked to end. What fails
/// one fails nothing else.
pub(super) fn run_beside(task: load::Load, end: &Arc<AtomicBool>, metrics: &Arc<Metrics>) {
    let task = Arc::new(task);
    for view in load::Load::views(&task.spec) {
        let (task, view) = (Arc::clone(&task), view.to_owned());
        let (end, metrics) = (Arc::clone(end), Arc::clone(metrics));
        thread::spawn(move || load_view(&task, &view, &end, &metrics));
    }
}

/// Loads a view, again where that fails, and says in the metrics how it goes.
fn load_view(task: &load::Load, view: &str, end: &AtomicBool, metrics: &Metrics) {
    let (loaded, failed) = (Loaded::default(), Mutex::new(None::<Instant>));
    let failed_at = || failed.lock().expect("nobody panics while it is held");
    thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                let Loaded { rows, frontier, refused, .. } = &loaded;
                let [rows, frontier, refused] =
                    [rows, frontier, refused].map(|number| number.load(Ordering::Relaxed));
                let fails = failed_at().is_some_and(|at| at.elapsed() < FAILS_FOR);
                metrics.load(view, rows, frontier, refused, fails);
                thread::sleep(BETWEEN_NUMBERS);
            }
        });
        while !end.load(Ordering::Relaxed) {
            if let Err(error) = task.run_view(view, end, &loaded) {
                *failed_at() = Some(Instant::now());
                error!(view, "the loader is started again, all else goes on: {error}");
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
