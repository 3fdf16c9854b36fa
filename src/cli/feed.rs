//! `tributary feed`: keeps the reference log equal to what systems of record say.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};

use super::{
    Failure,
    place::PlaceOptions,
    sources::{self, Sources},
    tell, watch,
};
use crate::{
    config::FeedConfig,
    feed::{Comparison, Fed, Feed as Task, FeedError, Files, Health, Log, System},
    spec::Spec,
};

/// Keep the reference log in Kafka equal to what systems of record say, as they change.
///
/// The systems are those of the configuration ([sources.NAME], see docs/feeds.md), or files of
/// documents and changes, as they grow. Of each document only what the dataflow takes is written,
/// and only where the log says otherwise; a document that is not there any more is deleted. A
/// second feed of the same source takes over from the first, which then ends with exit code 4; one
/// that has other sources goes on with those, and comes back when that one has ended.
#[derive(Debug, Args)]
pub(super) struct Feed {
    /// The dataflow's TOML file.
    spec: PathBuf,

    #[command(flatten)]
    place: PlaceOptions,

    /// The source: of the configuration, all of them where it is not said; of files, what they are
    /// called. The keys of its documents in the log begin with it.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// Files instead of a system: documents as they stand, {"_id", "_source"} a line. It may grow.
    #[arg(long, value_name = "FILE")]
    documents: Option<PathBuf>,

    /// What happens to them: {"op": "index" | "delete", "_id", "_source"} a line. It may grow.
    #[arg(long, value_name = "FILE", requires = "documents")]
    changes: Option<PathBuf>,

    /// The share of the documents of files that may be deleted within a day without a word, 0 to 1;
    /// 20 in any case, and with 1 all. [default: 0.05]
    #[arg(long, value_name = "SHARE", requires = "documents", value_parser = share)]
    max_deletes: Option<f64>,

    /// End once all is compared, and written.
    #[arg(long)]
    once: bool,

    /// Go on as documents change; that is so where nothing is said.
    #[arg(long, conflicts_with = "once")]
    follow: bool,

    /// Write what the first comparison finds, whatever it is: without this a feed waits where
    /// another collection stands than the log is of, and where more documents are gone than one in
    /// twenty (and 20) within a day; with --once it ends with exit code 5 then.
    #[arg(long)]
    accept_difference: bool,

    /// Say nothing but errors.
    #[arg(long, short)]
    quiet: bool,
}

/// What files are called as a source where nothing is said.
const FILES: &str = "people";

impl Feed {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spec = Arc::new(self.place.spec(&self.spec)?);
        let (kafka, names) = self.place.resolve(&spec)?;
        let sources = self.sources(&spec)?;
        kafka.connect().map_err(Failure::failed)?;
        let end = watch::end_when_asked()?;
        watch::end_at_last(
            &end,
            "as when brokers do not answer; ended anyway: a transaction that is open comes to \
             nothing, and the next start writes what is missing",
        );
        let health = |name: &String| (name.clone(), Health::default());
        let healths: BTreeMap<String, Health> = sources.keys().map(health).collect();
        let (healths, is_over) = (&healths, AtomicBool::new(false));
        let at_work = AtomicUsize::new(sources.len());
        let fed = thread::scope(|scope| {
            if !self.quiet {
                scope.spawn(|| show_comparisons(healths, &is_over));
            }
            let feeds: Vec<_> = sources
                .into_iter()
                .map(|(name, (mut system, config))| {
                    let log = Log {
                        kafka: kafka.clone(),
                        topic: names.reference.clone(),
                        source: name.clone(),
                    };
                    let feed = self.task(&spec, log, &config);
                    let (end, quiet, at_work) = (&end, self.quiet, &at_work);
                    scope.spawn(move || {
                        let told = |fed| say(quiet, &name, "snapshot complete", fed);
                        let mut run = || feed.run(&mut *system, end, &healths[&name], &told);
                        let mut fed = run();
                        while let Err(FeedError::Fenced { .. }) = &fed {
                            // Somebody else feeds that source; others may still be ours.
                            let is_last = at_work.fetch_sub(1, Ordering::Relaxed) == 1;
                            if feed.once || is_last && !sources::has_other_ended(&feed.log) {
                                break;
                            }
                            if let Err(error) = sources::await_other(&feed.log, end) {
                                fed = Err(error);
                                break;
                            }
                            if end.load(Ordering::Relaxed) {
                                return None;
                            }
                            at_work.fetch_add(1, Ordering::Relaxed);
                            fed = run();
                        }
                        match fed {
                            Ok(fed) => {
                                say(quiet, &name, "ended", fed);
                                None
                            }
                            Err(cause) => {
                                // A feed that is missed is worse than all that begin anew.
                                end.fetch_or(!feed.once, Ordering::Relaxed);
                                Some(Failure::feed(Unfed { source_name: name, cause }).tell())
                            }
                        }
                    })
                })
                .collect();
            let ends = feeds.into_iter().map(|feed| feed.join().expect("a panic ends the process"));
            let gravest = ends.flatten().max_by_key(gravity);
            is_over.store(true, Ordering::Relaxed);
            gravest
        });
        fed.map_or(Ok(()), |code| Err(Failure::Told(code)))
    }

    fn task(&self, spec: &Arc<Spec>, log: Log, config: &FeedConfig) -> Task {
        let task = sources::feed(spec, log, config);
        let between_comparisons = task.between_comparisons.filter(|_| self.documents.is_none());
        Task { once: self.once, accepted: self.accept_difference, between_comparisons, ..task }
    }

    /// The systems that are to be fed from, by name.
    fn sources(&self, spec: &Arc<Spec>) -> Result<Sources, Failure> {
        if let Some(documents) = &self.documents {
            let name = self.source.clone().unwrap_or_else(|| FILES.to_owned());
            sources::check_name(&name)?;
            let mut files = Files::new(documents.clone(), self.changes.clone(), self.once);
            files.reopen().map_err(Failure::failed)?;
            let (look, delete_after) = (BETWEEN_LOOKS_AT_FILES, Duration::ZERO);
            let usual = FeedConfig::default();
            let max_deletes = self.max_deletes.unwrap_or(usual.max_deletes);
            let config = FeedConfig { look, delete_after, max_deletes, ..usual };
            let system: Box<dyn System + Send> = Box::new(files);
            return Ok(BTreeMap::from([(name, (system, config))]));
        }
        let mut configured = self.place.config()?.sources;
        if let Some(name) = &self.source {
            let known = configured.keys().cloned().collect::<Vec<_>>().join(", ");
            configured.retain(|other, _| other == name);
            if configured.is_empty() {
                let what = "names no source of the configuration";
                return wrong(format!("--source {name} {what}; it has: {known}"));
            }
        }
        if configured.is_empty() {
            let what = "there is no source: give --documents, or a --config with [sources.NAME]";
            return wrong(what.to_owned());
        }
        sources::open(spec, configured)
    }
}

/// A source that is fed no more.
#[derive(Debug, thiserror::Error)]
#[error("source \"{source_name}\" is fed no more")]
pub(super) struct Unfed {
    source_name: String,
    #[source]
    pub(super) cause: FeedError,
}

/// Of several exit codes the one that counts: somebody else's work is none of ours, a failure may
/// pass, and the operator's word does not come by itself.
fn gravity(code: &u8) -> Option<usize> {
    [4, 1, 5].iter().position(|known| known == code)
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "it is a number from 0 to 1".to_owned())
}

fn wrong<T>(what: String) -> Result<T, Failure> {
    Err(Failure::Arguments(what))
}

/// Between looks whether a file has grown.
const BETWEEN_LOOKS_AT_FILES: Duration = Duration::from_millis(20);

/// Between pictures of comparisons, and between words where nobody looks at pictures.
const BETWEEN_PICTURES: Duration = Duration::from_millis(100);
const BETWEEN_WORDS: Duration = Duration::from_secs(10);

/// Shows how far comparisons are: as bars on a terminal, else as a line now and then.
fn show_comparisons(healths: &BTreeMap<String, Health>, is_over: &AtomicBool) {
    let is_seen = io::stderr().is_terminal();
    let bars = MultiProgress::new();
    let mut shown: BTreeMap<&str, ProgressBar> = BTreeMap::new();
    let mut spoke = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        let is_to_speak = !is_seen && spoke.elapsed() >= BETWEEN_WORDS;
        if is_to_speak {
            spoke = Instant::now();
        }
        for (name, health) in healths {
            match health.comparison() {
                Some(comparison) if is_seen => {
                    let bar = shown.entry(name).or_insert_with(|| bars.add(bar(name, comparison)));
                    bar.set_position(comparison.passed);
                }
                Some(Comparison { passed, of }) if is_to_speak => {
                    let of = of.map(|of| format!(" of {}", HumanCount(of))).unwrap_or_default();
                    tell(&format!("{name}: compared {}{of} documents", HumanCount(passed)));
                }
                Some(_) => {}
                None => {
                    shown.remove(&**name).inspect(ProgressBar::finish_and_clear);
                }
            }
        }
        thread::sleep(BETWEEN_PICTURES);
    }
    shown.values().for_each(ProgressBar::finish_and_clear);
}

fn bar(name: &str, comparison: Comparison) -> ProgressBar {
    let (bar, template) = match comparison.of {
        Some(of) => {
            let what = "{prefix} {wide_bar} {human_pos} of {human_len} documents, {per_sec}, {eta}";
            (ProgressBar::new(of), what)
        }
        None => (ProgressBar::new_spinner(), "{prefix} {spinner} {human_pos} documents, {per_sec}"),
    };
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    bar.with_style(style).with_prefix(format!("{name}: compares"))
}

fn say(quiet: bool, source: &str, what: &str, fed: Fed) {
    let Fed { read, refused, written, deleted, kept } = fed;
    if quiet {
        return;
    }
    tell(&format!(
        "{source}: {what}: {} documents read ({} refused), {} written, {} deleted",
        HumanCount(read),
        HumanCount(refused),
        HumanCount(written),
        HumanCount(deleted),
    ));
    if kept > 0 {
        tell(&format!(
            "{source}: {} documents that are not named are kept, since something was refused that \
             may have named them: mend that, and start the feed again",
            HumanCount(kept)
        ));
    }
}
