//! The systems of record of a configuration: opened, fed from, and watched.
//!
//! Shape: a configuration in; feeds that run out.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tracing::{error, info, warn};

use super::Failure;
use crate::{
    config::{ConfigError, FeedConfig, SourceConfig},
    engine::{FeedNumbers, Metrics},
    feed::{
        Bitrix24, Elasticsearch, Feed, FeedError, Guard, Health, Log, OneC, SILENCE, System,
        await_silence, marks,
    },
    kafka::Kafka,
    spec::{Spec, is_source_name},
};

/// Systems that are to be fed from, by name, and how.
pub(super) type Sources = BTreeMap<String, (Box<dyn System + Send>, FeedConfig)>;

/// Between starts of a feed that the brokers have failed.
const BETWEEN_STARTS: Duration = Duration::from_secs(5);

/// Between looks whether the engine leads.
const BETWEEN_LOOKS_FOR_LEAD: Duration = Duration::from_millis(50);

/// Between looks how feeds are.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Opens the systems of a configuration.
pub(super) fn open(
    spec: &Arc<Spec>,
    configured: BTreeMap<String, SourceConfig>,
) -> Result<Sources, Failure> {
    let open = |(name, source): (String, SourceConfig)| {
        check_name(&name)?;
        let feed = source.feed().map_err(|error| of_source(&name, error))?;
        let system = system(spec, &name, &source).map_err(|error| of_source(&name, error))?;
        Ok((name, (system, feed)))
    };
    configured.into_iter().map(open).collect()
}

fn system(
    spec: &Arc<Spec>,
    name: &str,
    source: &SourceConfig,
) -> Result<Box<dyn System + Send>, ConfigError> {
    let spec = Arc::clone(spec);
    Ok(match source {
        SourceConfig::Elasticsearch(config) => Box::new(Elasticsearch::new(spec, name, config)?),
        SourceConfig::Bitrix24(config) => Box::new(Bitrix24::new(spec, name, config)?),
        SourceConfig::OneC(config) => Box::new(OneC::new(spec, name, config)?),
    })
}

/// What is wrong with a source's table of the configuration.
fn of_source(name: &str, error: ConfigError) -> Failure {
    Failure::config(match error {
        ConfigError::Unsound { option, cause } => {
            ConfigError::Unsound { option: format!("sources.{name}.{option}"), cause }
        }
        error => error,
    })
}

/// Whether keys of the log can begin with a source's name.
pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    if !is_source_name(name) {
        let what = format!("source \"{name}\": a name is 1 to 100 of a-z, 0-9 and _");
        return Err(Failure::Arguments(what));
    }
    Ok(())
}

/// A feed of a source.
pub(super) fn feed(spec: &Arc<Spec>, log: Log, config: &FeedConfig) -> Feed {
    Feed {
        spec: Arc::clone(spec),
        log,
        once: false,
        accepted: false,
        between_looks: config.look,
        between_comparisons: Some(config.compare),
        grace: config.delete_after,
        guard: Guard { share: config.max_deletes, ..Guard::default() },
    }
}

/// Feeds beside an engine, each in a thread of its own, from when the engine leads until it is
/// asked to end: a start that is refused takes no feed from the engine that goes on. What fails
/// them fails nothing else.
pub(super) fn feed_beside(
    spec: &Arc<Spec>,
    kafka: &Kafka,
    topic: &str,
    sources: Sources,
    end: &Arc<AtomicBool>,
    metrics: &Arc<Metrics>,
) {
    for (source, (mut system, config)) in sources {
        let log = Log { kafka: kafka.clone(), topic: topic.to_owned(), source: source.clone() };
        let feed = feed(spec, log, &config);
        let (end, metrics) = (Arc::clone(end), Arc::clone(metrics));
        thread::spawn(move || {
            while metrics.generation() == 0 {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                thread::sleep(BETWEEN_LOOKS_FOR_LEAD);
            }
            let health = Arc::new(Health::default());
            watch(source.clone(), Arc::clone(&health), Arc::clone(&end), metrics);
            while !end.load(Ordering::Relaxed) {
                let told = |_| info!(source, "snapshot complete");
                let failed = match feed.run(&mut *system, &end, &health, &told) {
                    Ok(_) => continue,
                    Err(why @ (FeedError::Unused { .. } | FeedError::OtherSpec { .. })) => {
                        error!(source, "is not fed, the engine goes on: {why}");
                        return;
                    }
                    Err(FeedError::Fenced { .. }) => await_other(&feed.log, &end).err(),
                    Err(failed) => Some(failed),
                };
                if let Some(failed) = failed {
                    error!(source, "the feed is started again, the engine goes on: {failed}");
                    thread::sleep(BETWEEN_STARTS);
                }
            }
        });
    }
}

/// Whether the feed that has taken a source over has ended already.
pub(super) fn has_other_ended(log: &Log) -> bool {
    let marks = marks(&log.kafka, &log.topic);
    marks.is_ok_and(|marks| marks.get(&log.source).is_some_and(|mark| mark.has_ended))
}

/// Waits until the feed that has taken a source over has ended, or this one is to.
pub(super) fn await_other(log: &Log, end: &AtomicBool) -> Result<(), FeedError> {
    warn!(
        source = log.source,
        "another feed of it has begun; all else goes on, and this one feeds it again once that one \
         has ended, or was silent for {} min",
        SILENCE.as_secs() / 60
    );
    Ok(await_silence(log, end)?)
}

/// Tells the metrics how a feed is.
fn watch(source: String, health: Arc<Health>, end: Arc<AtomicBool>, metrics: Arc<Metrics>) {
    thread::spawn(move || {
        while !end.load(Ordering::Relaxed) {
            let (state, hold) = health.now();
            let held = hold.as_ref().map_or(0, |hold| hold.upserts + hold.deletions);
            let numbers = FeedNumbers {
                answered: state.answered,
                compared: state.compared,
                documents: state.documents,
                pending: state.pending + held,
                refused: state.refused,
                fails: state.trouble.is_some(),
                waits: hold.is_some(),
            };
            metrics.feed(&source, numbers);
            thread::sleep(BETWEEN_LOOKS);
        }
    });
}
