//! `tributary run`: runs a dataflow.

mod asked;

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write,
    net::SocketAddr,
    num::NonZeroU64,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use indicatif::{HumanBytes, HumanCount};

pub(super) use self::asked::Asked;
use super::{
    Failure, bar::Bar, load, place::PlaceOptions, print, show, sources, supervise::supervise, tell,
    watch::Watch,
};
use crate::{
    archive,
    config::ArchiveConfig,
    engine::{
        self, Accept, ArchiveRun, Cluster, Following, Job, KafkaRun, Outcome, PROCESSES_MAX, Place,
        Progress, Span, Spread, WORKERS_MAX, Work, cluster::read_hosts,
    },
    http,
    sink::{UpdateLog, update_log::UPDATES},
    spec::Spec,
};
use tracing::info;

/// Run a dataflow over files, to their end or as they grow, or over Kafka.
///
/// With --once it reads the files to their end, then writes a file a view into the output folder,
/// named after it (enriched.ndjson, latest.ndjson, ...), one JSON object a row, sorted by the
/// view's key; and dead_letters.ndjson: of each line that is no event its file, its line (from 0),
/// the reason, the column at fault and the bytes in base64. Each file appears whole at the end, or
/// not at all; dead_letters.ndjson is the last: where it stands, all stand, and they are of one
/// run.
///
/// Without --once it follows the files as they grow and writes every change as it happens to
/// updates.ndjson in the output folder (or to standard output, --out -): {"epoch", "diff", "view",
/// "row"} a line, where "diff" is 1 for a row that comes and -1 for one that goes; then {"sealed",
/// "events", "documents", "changes", "waiting"}: all changes up to that epoch stand above it, it
/// holds that many lines of each file, and so many records still wait for corrections. SIGTERM or
/// Ctrl-C ends it cleanly. A start reads the files from their begin and begins the log anew.
///
/// With --kafka or --config it reads events and the reference log from topics and writes every
/// change to topics, exactly once; make them with `tributary init`, fill the log with `tributary
/// feed`. A later start takes over from this one, which then ends with exit code 4.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// The dataflow's TOML file.
    spec: PathBuf,

    /// End when the files do.
    #[arg(long, conflicts_with_all = ["kafka", "config"])]
    once: bool,

    /// Events, one JSON object a line. Each file is an input partition: events with equal keys must
    /// stand in one file, in the order in which they were made.
    #[arg(long, required_unless_present_any = ["kafka", "config"], num_args = 1..,
          conflicts_with_all = ["kafka", "config"], value_name = "FILE")]
    events: Vec<PathBuf>,

    /// Documents as they stand at the start: {"_id", "_source"} a line. Needed where the dataflow
    /// has lookups. Followed, it may grow: a line more says what its document now is, unless a
    /// change spoke of that document: changes count more, whenever they come.
    #[arg(long, conflicts_with_all = ["kafka", "config"], value_name = "FILE")]
    documents: Option<PathBuf>,

    /// What happens to the documents later: {"after", "op": "index" | "delete", "_id", "_source"} a
    /// line; "after" says how many lines of the first events file come before it; without --once
    /// each happens as it comes.
    #[arg(long, conflicts_with_all = ["kafka", "config"], value_name = "FILE")]
    changes: Option<PathBuf>,

    /// Folder for the results; made where there is none. Of a cluster each process writes the rows
    /// of its shards into a folder within it, part-PROCESS-of-PROCESSES. Without --once, - is
    /// standard output.
    #[arg(long, required_unless_present_any = ["kafka", "config"],
          conflicts_with_all = ["kafka", "config"], value_name = "DIR")]
    out: Option<PathBuf>,

    #[command(flatten)]
    place: PlaceOptions,

    /// Over Kafka: the shortest time from one commit of a worker to its next, in milliseconds. Less
    /// makes a record visible sooner, more makes fewer transactions.
    #[arg(long, value_name = "MS", default_value_t = COMMIT_INTERVAL_MS,
          conflicts_with = "events",
          value_parser = clap::value_parser!(u64).range(0..=1_000))]
    commit_interval: u64,

    /// Over Kafka: go on though records of an input are gone that were read, or were to be; a topic
    /// that was made again is read from its begin. A supervisor gives it to its first start alone.
    #[arg(long, conflicts_with = "events")]
    accept_loss: bool,

    /// Over Kafka: go on though the events have more partitions than before; from then on events
    /// with one key meet in their shard too. A supervisor gives it to its first start alone.
    #[arg(long, conflicts_with = "events")]
    accept_partitions: bool,

    /// Over Kafka: keep the events there beyond what their topic holds, and start from it: a
    /// folder, or s3://bucket/prefix; the short form of [archive] in the configuration; see
    /// docs/archive.md.
    #[arg(long, conflicts_with = "events", value_name = "PLACE")]
    archive: Option<String>,

    /// Over Kafka: what to do where a file of the archive is damaged or gone, or the archive cannot
    /// be reached: refuse the start and say so, or pass over it and read what it held from the
    /// topic, if that still has it.
    #[arg(long, conflicts_with = "events", value_enum, default_value_t = OnFault::Refuse)]
    archive_faults: OnFault,

    /// Over Kafka: leave the feeds of the configuration ([sources.NAME], see docs/feeds.md) to
    /// `tributary feed`; else the first process runs them inside.
    #[arg(long, conflicts_with = "events")]
    no_feeds: bool,

    /// Over Kafka: leave the tables of the configuration ([clickhouse], see docs/clickhouse.md) to
    /// `tributary load`; else the first process loads them inside.
    #[arg(long, conflicts_with = "events")]
    no_load: bool,

    /// Worker threads of each process; the results are the same for any number.
    #[arg(long, default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=WORKERS_MAX as i64))]
    workers: u16,

    /// Most lines that each events file, and without --once each worker, gives to one epoch. More
    /// is faster and holds more in memory; the results are the same for any number (with
    /// corrections = "never" only for one events file: what is known when an event arrives depends
    /// on how files are interleaved).
    #[arg(long, default_value_t = EPOCH_LINES, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    epoch_lines: u64,

    /// Processes of a cluster, each started with the same arguments but for --process. Each reads
    /// the files of its partitions (the first one also the documents), so those must be there.
    #[arg(long, value_name = "N", requires_all = ["process", "hosts"],
          value_parser = clap::value_parser!(u16).range(1..=PROCESSES_MAX as i64))]
    processes: Option<u16>,

    /// Which of the processes this is, from 0.
    #[arg(long, value_name = "I", requires = "processes")]
    process: Option<u16>,

    /// Where the processes find each other: host:port a line, in the order of the processes. What
    /// they say is not encrypted: use a network of your own.
    #[arg(long, value_name = "FILE", requires = "processes")]
    hosts: Option<PathBuf>,

    /// How many seconds to wait for the other processes to come.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "processes",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    patience: u64,

    /// How often an epoch is cut, in milliseconds: what happens within one is seen together. While
    /// records wait for corrections, epochs follow each other without a pause.
    #[arg(long, value_name = "MS", default_value_t = TICK_MS, conflicts_with = "once",
          value_parser = clap::value_parser!(u64).range(1..=60_000))]
    tick: u64,

    /// Where at most so many records (a worker) need corrections, in one epoch or in some within a
    /// second of each other, they are corrected at once, else --fuel an epoch, and fresh events
    /// come first. Without it 20,000, over Kafka 2,000: what is corrected at once is written at
    /// once, and fresh events wait for that.
    #[arg(long, value_name = "N", conflicts_with = "once")]
    atomic_max: Option<u64>,

    /// Records (a worker) that an epoch corrects where more wait than --atomic-max.
    #[arg(long, value_name = "N", default_value_t = FUEL, conflicts_with = "once",
          value_parser = clap::value_parser!(u64).range(1..))]
    fuel: u64,

    /// A file that is kept true with metrics in OpenMetrics text, replaced each second; for example
    /// in the folder of a node exporter's textfile collector. Of a cluster each process has its
    /// own, whose name begins with part-PROCESS-.
    #[arg(long, value_name = "FILE", conflicts_with = "once")]
    metrics: Option<PathBuf>,

    /// Serve /livez, /readyz and /metrics there, for example 127.0.0.1:9464. Where other machines
    /// can ask, --http-token is needed.
    #[arg(long, value_name = "IP:PORT", conflicts_with = "once")]
    http: Option<SocketAddr>,

    /// A file with the token that who asks for metrics over HTTP must show.
    #[arg(long, value_name = "FILE", requires = "http")]
    http_token: Option<PathBuf>,

    /// Start again what ends for a passing reason, as when another process of its cluster is lost;
    /// for places where nobody else does so.
    #[arg(long, conflicts_with = "once")]
    supervise: bool,

    /// Show some rows of each view at the end.
    #[arg(long, num_args = 0..=1, default_missing_value = "5", value_name = "ROWS",
          requires = "once")]
    show: Option<usize>,

    /// Compute in stock differential operators: the same results for many times the work.
    #[arg(long, hide = true, requires = "once")]
    stock: bool,

    /// Say nothing but errors.
    #[arg(long, short, conflicts_with = "show")]
    quiet: bool,

    /// Of a backfill.
    #[arg(skip)]
    span: Span,
    #[arg(skip)]
    rate: Option<NonZeroU64>,
}

/// What to do where a file of the archive is not what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnFault {
    /// Refuse to start.
    Refuse,
    /// Read what it held from the topic.
    Pass,
}

/// What holds where nothing else is asked for.
const COMMIT_INTERVAL_MS: u64 = 5;
const EPOCH_LINES: u64 = 20_000;
const TICK_MS: u64 = 10;
const FUEL: u64 = 250;

/// How many corrections are made at once, where nothing else is asked for.
const ATOMIC_MAX: u64 = 20_000;
const ATOMIC_MAX_OF_KAFKA: u64 = 2_000;

/// What is said of an end that takes too long.
const AT_LAST_OF_FILES: &str = "as when nobody takes the output; ended anyway: what stands in the \
                                log up to its last \"sealed\" line is whole";
const AT_LAST_OF_KAFKA: &str = "as when brokers do not answer; ended anyway: what is committed \
                                stands, and the next start writes the rest";

impl Run {
    pub(super) fn run(mut self) -> Result<(), Failure> {
        if self.supervise {
            return supervise();
        }
        let spec = Arc::new(self.place.spec(&self.spec)?);
        let cluster = self.cluster()?;
        if let Some(Cluster { hosts, process, .. }) = &cluster {
            let is_to_standard_output = self.is_to_standard_output();
            if let Some(out) = self.out.as_mut().filter(|_| !is_to_standard_output) {
                out.push(format!("part-{process}-of-{}", hosts.len()));
            }
            // All are started with the same arguments, and each has numbers of its own.
            if let Some(name) = self.metrics.as_ref().and_then(|path| path.file_name()) {
                let name = format!("part-{process}-{}", name.display());
                self.metrics = self.metrics.take().map(|path| path.with_file_name(name));
            }
        }
        if self.place.is_given() {
            return self.stream(&spec, cluster);
        }
        self.check_files(&spec)?;
        match self.once {
            true => self.once(&spec, cluster),
            false => self.follow(&spec, cluster),
        }
    }

    fn once(&self, spec: &Arc<Spec>, cluster: Option<Cluster>) -> Result<(), Failure> {
        let begin = Instant::now();
        let bar = Arc::new(Bar::new(self.quiet, &self.events));
        let work = Work::Once { out: self.out().to_owned(), stock: self.stock };
        let job = self.job(spec, cluster, work);
        let outcome = engine::run(job, Arc::clone(&bar) as Arc<dyn Progress>);
        bar.bar.finish_and_clear();
        let outcome = outcome.map_err(Failure::failed)?;
        if self.quiet {
            return Ok(());
        }
        if let Some(rows) = self.show {
            self.show(spec, rows)?;
        }
        print(&self.summary(spec, &outcome, begin.elapsed()))
    }

    fn follow(&self, spec: &Arc<Spec>, cluster: Option<Cluster>) -> Result<(), Failure> {
        let workers = usize::from(self.workers);
        let log = match self.is_to_standard_output() {
            true => UpdateLog::on_standard_output(workers),
            false => UpdateLog::in_folder(self.out(), workers),
        };
        let log = Arc::new(log.map_err(Failure::failed)?);
        let place = Place::Files(Arc::clone(&log));
        self.keep_up(spec, cluster, place, log.name(), |_| {})
    }

    /// Runs over Kafka.
    fn stream(&self, spec: &Arc<Spec>, cluster: Option<Cluster>) -> Result<(), Failure> {
        let (kafka, names) = self.place.resolve(spec)?;
        kafka.connect().map_err(Failure::failed)?;
        let accept = Accept { loss: self.accept_loss, partitions: self.accept_partitions };
        let commit_interval = Duration::from_millis(self.commit_interval);
        // One process of a cluster feeds.
        let is_first = cluster.as_ref().is_none_or(|cluster| cluster.process == 0);
        let configured = match is_first && !self.no_feeds {
            true => self.place.config()?.sources,
            false => BTreeMap::new(),
        };
        let sources = sources::open(spec, configured)?;
        let (feeds, topic) = (kafka.clone(), names.reference.clone());
        let load = match is_first && !self.no_load {
            true => load::beside(spec, &kafka, self.place.config()?.clickhouse)?,
            false => None,
        };
        let archive = self.archive(spec)?;
        let (span, rate) = (self.span.clone(), self.rate);
        let run = KafkaRun { kafka, names, accept, commit_interval, archive, span, rate };
        self.keep_up(spec, cluster, Place::Kafka(Arc::new(run)), "Kafka", |watch| {
            sources::feed_beside(spec, &feeds, &topic, sources, &watch.end(), &watch.metrics());
            if let Some(load) = load {
                load::run_beside(load, &watch.end(), &watch.metrics());
            }
        })
    }

    /// The archive, where there is one.
    fn archive(&self, spec: &Spec) -> Result<Option<ArchiveRun>, Failure> {
        let config = match &self.archive {
            Some(place) => Some(ArchiveConfig::in_folder(place)),
            None => self.place.config()?.archive,
        };
        let Some(config) = config else { return Ok(None) };
        let store = archive::Store::open(&config, &spec.name).map_err(Failure::failed)?;
        let taken = archive::columns::RESERVED;
        if let Some(column) = spec.events.columns.iter().find(|c| taken.contains(&&*c.name)) {
            return Err(Failure::Arguments(format!(
                "the events have a column \"{}\", which is the archive's own; run without an \
                 archive, or call the column otherwise",
                column.name
            )));
        }
        let passes_faults = self.archive_faults == OnFault::Pass;
        Ok(Some(ArchiveRun { store: Arc::new(store), every: config.every, passes_faults }))
    }

    /// Runs until it is asked to end; `beside` begins what runs beside it.
    fn keep_up(
        &self,
        spec: &Arc<Spec>,
        cluster: Option<Cluster>,
        place: Place,
        to: &str,
        beside: impl FnOnce(&Watch),
    ) -> Result<(), Failure> {
        let workers = usize::from(self.workers);
        let (atomic_max, at_last) = match place {
            Place::Files(_) | Place::Own(_) => (ATOMIC_MAX, AT_LAST_OF_FILES),
            Place::Kafka(_) => (ATOMIC_MAX_OF_KAFKA, AT_LAST_OF_KAFKA),
        };
        let watch = Watch::start(self.quiet, self.metrics.clone(), workers, at_last)?;
        if let Some(address) = self.http {
            let served = http::serve(address, self.http_token(address)?, watch.metrics());
            info!(address = %served.map_err(Failure::failed)?, "serves HTTP");
        }
        beside(&watch);
        let work = Work::Follow(Following {
            place,
            tick: Duration::from_millis(self.tick),
            spread: Spread { atomic_max: self.atomic_max.unwrap_or(atomic_max), fuel: self.fuel },
            end: watch.end(),
            metrics: watch.metrics(),
        });
        let outcome = engine::run(self.job(spec, cluster, work), watch.progress());
        let updates = watch.finish();
        let outcome = match outcome {
            Err(error) if error.is_end_before_begin() => {
                tell(&error.to_string());
                return Ok(());
            }
            outcome => outcome.map_err(Failure::engine)?,
        };
        if !self.quiet {
            let Outcome { lines, reference, epochs, .. } = outcome;
            tell(&format!(
                "{}: ended as asked, after {} event lines, {} documents and {} changes ({} \
                 refused) in {} epochs; {} updates to {}",
                spec.name,
                HumanCount(lines),
                HumanCount(reference.documents),
                HumanCount(reference.changes),
                HumanCount(reference.refused),
                HumanCount(epochs),
                HumanCount(updates),
                to,
            ));
        }
        Ok(())
    }

    /// The token that who asks over HTTP must show.
    fn http_token(&self, address: SocketAddr) -> Result<Option<String>, Failure> {
        let Some(path) = &self.http_token else {
            if address.ip().is_loopback() {
                return Ok(None);
            }
            let what = format!("--http {address} is open to other machines; give --http-token");
            return Err(Failure::Arguments(what));
        };
        let token = std::fs::read_to_string(path).map_err(|error| {
            Failure::Arguments(format!("cannot read --http-token \"{}\": {error}", path.display()))
        })?;
        match token.trim() {
            "" => Err(Failure::Arguments(format!("--http-token \"{}\" is empty", path.display()))),
            token => Ok(Some(token.to_owned())),
        }
    }

    /// This process's place in a cluster, where it is in one.
    fn cluster(&self) -> Result<Option<Cluster>, Failure> {
        let (Some(processes), Some(process), Some(path)) =
            (self.processes, self.process, &self.hosts)
        else {
            return Ok(None);
        };
        if process >= processes {
            let what = format!("--process {process} of --processes {processes}: they count from 0");
            return Err(Failure::Arguments(what));
        }
        let hosts = read_hosts(path, usize::from(processes));
        let hosts = hosts.map_err(|error| Failure::Arguments(error.to_string()))?;
        let patience = Duration::from_secs(self.patience);
        let process = usize::from(process);
        Ok((processes > 1).then_some(Cluster { hosts, process, patience }))
    }

    fn is_to_standard_output(&self) -> bool {
        !self.once && self.out().as_os_str() == "-"
    }

    /// The folder for results; of a run over files.
    fn out(&self) -> &Path {
        self.out.as_deref().unwrap_or(Path::new(""))
    }

    fn job(&self, spec: &Arc<Spec>, cluster: Option<Cluster>, work: Work) -> Job {
        Job {
            spec: Arc::clone(spec),
            events: self.events.clone(),
            documents: self.documents.clone(),
            changes: self.changes.clone(),
            workers: usize::from(self.workers),
            epoch_lines: self.epoch_lines,
            cluster,
            work,
        }
    }

    /// Lookups need documents; a file that is read twice would double its events; one that is
    /// written would be lost.
    fn check_files(&self, spec: &Spec) -> Result<(), Failure> {
        if self.documents.is_none() && !spec.lookups.is_empty() {
            let what = format!("dataflow \"{}\" has lookups; give their --documents", spec.name);
            return Err(Failure::Arguments(what));
        }
        let mut seen = HashSet::new();
        for path in &self.events {
            if let Ok(file) = path.metadata()
                && file.is_file()
                && !seen.insert((file.dev(), file.ino()))
            {
                let what =
                    format!("events file \"{}\" is given twice; name it once", path.display());
                return Err(Failure::Arguments(what));
            }
        }
        let names: Vec<String> = match self.once {
            true => engine::output_names(spec).collect(),
            false => vec![UPDATES.to_owned()],
        };
        let outputs =
            names.into_iter().map(|name| self.out().join(name)).chain(self.metrics.clone());
        let written: Vec<PathBuf> = outputs.filter_map(|path| path.canonicalize().ok()).collect();
        let read = self.events.iter().chain(&self.documents).chain(&self.changes);
        for path in read {
            if path.canonicalize().is_ok_and(|real| written.contains(&real)) {
                let path = path.display();
                let what = format!(
                    "\"{path}\" is read and would be written; give another --out or --metrics"
                );
                return Err(Failure::Arguments(what));
            }
        }
        Ok(())
    }

    fn show(&self, spec: &Spec, rows: usize) -> Result<(), Failure> {
        for view in &spec.views {
            let path = self.out().join(format!("{}.ndjson", view.name));
            let table = show::table(&path, rows).map_err(Failure::failed)?;
            let table = table.unwrap_or_else(|| "(no rows)".to_owned());
            print(&format!("{}\n{table}\n\n", view.name))?;
        }
        Ok(())
    }

    fn summary(&self, spec: &Spec, outcome: &Outcome, elapsed: Duration) -> String {
        let mut out = String::new();
        let mut line = |text: String| writeln!(out, "{text}").expect("writing to memory");
        let Outcome { reference, published, .. } = outcome;
        line(format!(
            "{}: {} event lines of {} file(s); {} documents and {} changes, {} refused",
            spec.name,
            HumanCount(outcome.lines),
            self.events.len(),
            HumanCount(reference.documents),
            HumanCount(reference.changes),
            HumanCount(reference.refused),
        ));
        for (view, shown) in spec.views.iter().zip(&published.views) {
            let rows = HumanCount(shown.rows).to_string();
            line(format!("  {:<24} {rows:>12}  {}", view.name, self.file(&view.name)));
            if shown.doubled > 0 {
                let doubled = HumanCount(shown.doubled);
                line(format!(
                    "    {doubled} keys stand there twice: equal keys must come in one file"
                ));
            }
        }
        let letters = HumanCount(published.dead_letters.values().sum()).to_string();
        line(format!("  {:<24} {letters:>12}  {}", "dead letters", self.file("dead_letters")));
        for (reason, count) in &published.dead_letters {
            line(format!("    {:<22} {:>12}", reason.name(), HumanCount(*count).to_string()));
        }
        for (lookup, count) in spec.lookups.iter().zip(&published.unmatched) {
            let label = format!("without {}", lookup.name);
            line(format!("  {label:<24} {:>12}", HumanCount(*count).to_string()));
        }
        let rate = outcome.lines as f64 / elapsed.as_secs_f64();
        line(format!(
            "  {:.2} s, {} lines/s, {}, {} epochs, workers: {}",
            elapsed.as_secs_f64(),
            HumanCount(rate as u64),
            HumanBytes(outcome.bytes),
            HumanCount(outcome.epochs),
            self.workers,
        ));
        out
    }

    fn file(&self, name: &str) -> String {
        self.out().join(format!("{name}.ndjson")).display().to_string()
    }
}
