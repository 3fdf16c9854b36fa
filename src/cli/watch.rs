//! Watching a run that follows its files: signals, a status line, the metrics file.
//!
//! Shape: signals in; a word to the engine to end, what people and scrapers look at out.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing::info;

use super::{Failure, tell};
use crate::engine::{Connecting, Metrics, Progress, Replay};

/// How often the status line is told and the metrics file is looked after.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
const BETWEEN_METRICS: Duration = Duration::from_secs(1);

/// Between words in the log how far a start is.
const BETWEEN_WORDS: Duration = Duration::from_secs(5);

/// How long an end may take, after which it is made.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Since when it is asked to end: what is not done in time is ended.
#[derive(Default)]
struct Asked(Option<Instant>);

/// Watches one run.
pub(super) struct Watch {
    end: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    quiet: bool,
    /// Dropped to end the thread.
    running: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

/// The signals could not be asked for, or the metrics file not be written.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error(
        "cannot write metrics file \"{path}\"; give one whose folder is there and may be written to"
    )]
    Metrics { path: PathBuf, source: io::Error },
}

/// What is set once a signal asks for the end.
pub(super) fn end_when_asked() -> Result<Arc<AtomicBool>, Failure> {
    let end = Arc::new(AtomicBool::new(false));
    let signals = || {
        for signal in [SIGTERM, SIGINT] {
            // Asked a second time, it ends at once.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&end))?;
            signal_hook::flag::register(signal, Arc::clone(&end))?;
        }
        Ok(())
    };
    signals().map_err(|error| Failure::failed(WatchError::Signals(error)))?;
    Ok(end)
}

/// Ends the program with a word when it is asked to end and that takes too long.
pub(super) fn end_at_last(end: &Arc<AtomicBool>, word: &'static str) {
    let (end, mut asked) = (Arc::clone(end), Asked::default());
    thread::spawn(move || {
        loop {
            thread::sleep(BETWEEN_LOOKS);
            asked.look(&end, word);
        }
    });
}

impl Asked {
    fn look(&mut self, end: &AtomicBool, word: &str) {
        if !end.load(Ordering::Relaxed) {
            return;
        }
        if self.0.get_or_insert_with(Instant::now).elapsed() > END_PATIENCE {
            tell(&format!("error: asked to end, and not done after 10 s, {word}"));
            signal_hook::low_level::exit(1);
        }
    }
}

impl Watch {
    /// Begins to watch a run with so many workers; `at_last` is said where its end takes too long.
    pub(super) fn start(
        quiet: bool,
        metrics_file: Option<PathBuf>,
        workers: usize,
        at_last: &'static str,
    ) -> Result<Watch, Failure> {
        let end = end_when_asked()?;
        let metrics = Arc::new(Metrics::default());
        if let Some(path) = &metrics_file {
            write_metrics(path, &metrics).map_err(Failure::failed)?;
        }
        let (running, over) = mpsc::channel();
        let watched = Watched {
            bar: status_line(quiet),
            metrics_file,
            metrics: Arc::clone(&metrics),
            workers,
            at_last,
            end: Arc::clone(&end),
        };
        let thread = thread::spawn(move || watched.watch(&over));
        Ok(Watch { end, metrics, quiet, running, thread })
    }

    /// What the engine looks at to see whether it is to end.
    pub(super) fn end(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.end)
    }

    /// What the engine says its numbers to.
    pub(super) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// What the engine tells its progress to.
    pub(super) fn progress(&self) -> Arc<dyn Progress> {
        Arc::new(Words { quiet: self.quiet })
    }

    /// Stops watching; returns how many updates were written.
    pub(super) fn finish(self) -> u64 {
        drop(self.running);
        self.thread.join().expect("watching does not panic");
        self.metrics.updates()
    }
}

struct Watched {
    bar: ProgressBar,
    metrics_file: Option<PathBuf>,
    metrics: Arc<Metrics>,
    workers: usize,
    /// What is said where the end takes too long.
    at_last: &'static str,
    end: Arc<AtomicBool>,
}

impl Watched {
    fn watch(self, over: &mpsc::Receiver<()>) {
        let (mut asked, mut wrote) = (Asked::default(), Instant::now());
        let (mut told, mut replay_told) = (false, Instant::now());
        let mut is_backlog_told = false;
        while over.recv_timeout(BETWEEN_LOOKS) == Err(RecvTimeoutError::Timeout) {
            let (replay, backlog) = (self.metrics.replay(), self.metrics.backlog());
            self.bar.set_message(match (replay, backlog) {
                (Some(replay), _) => far(REPLAY, replay),
                (None, Some(backlog)) => far(BACKLOG, backlog),
                (None, None) => format!(
                    "{} event lines, {} updates, {} records wait for corrections",
                    HumanCount(self.metrics.lines()),
                    HumanCount(self.metrics.updates()),
                    HumanCount(self.metrics.waiting(self.workers)),
                ),
            });
            if replay_told.elapsed() >= BETWEEN_WORDS {
                let replay = replay.map(|replay| far(REPLAY, replay));
                let message = replay.or(backlog.map(|backlog| far(BACKLOG, backlog)));
                message.into_iter().for_each(|message| info!("{message}"));
                is_backlog_told |= backlog.is_some();
                replay_told = Instant::now();
            }
            if is_backlog_told && backlog.is_none() {
                is_backlog_told = false;
                info!("has caught up with what the events held when it began");
            }
            if wrote.elapsed() >= BETWEEN_METRICS {
                wrote = Instant::now();
                told |= self.write_metrics(told);
            }
            asked.look(&self.end, self.at_last);
        }
        self.write_metrics(told);
        self.bar.finish_and_clear();
    }

    /// A metrics file that fails is no reason to end a run, and is told once.
    fn write_metrics(&self, told: bool) -> bool {
        let Some(path) = &self.metrics_file else { return false };
        match write_metrics(path, &self.metrics) {
            Ok(()) => false,
            Err(error) => {
                if !told {
                    tell(&format!("warning: {error}; the run goes on"));
                }
                true
            }
        }
    }
}

fn write_metrics(path: &Path, metrics: &Metrics) -> Result<(), WatchError> {
    let written = || {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(folder)?;
        file.write_all(metrics.text().as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    written().map_err(|source| WatchError::Metrics { path: path.to_owned(), source })
}

/// What a start does.
const REPLAY: &str = "reads again what an earlier run held";
const BACKLOG: &str = "takes what the events held when it began";

/// How far it is with that, for people.
fn far(what: &str, replay: Replay) -> String {
    format!(
        "{what}: {:.0} %, {} offsets a second, {} left",
        replay.share * 100.0,
        HumanCount(replay.a_second as u64),
        HumanDuration(replay.time_left()),
    )
}

fn status_line(quiet: bool) -> ProgressBar {
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
    let bar = ProgressBar::new_spinner();
    bar.set_style(style.expect("the template is well formed"));
    bar.enable_steady_tick(BETWEEN_LOOKS);
    bar
}

/// Tells how far a cluster is with coming together.
pub(super) fn tell_connecting(how_far: Connecting<'_>) {
    match how_far {
        Connecting::Waiting(missing) => {
            let named =
                missing.iter().map(|(process, host)| format!("process {process} at {host}"));
            tell(&format!("waiting for {}", named.collect::<Vec<_>>().join(", ")));
        }
        Connecting::Connected => tell("all processes are connected"),
    }
}

/// Tells of a cluster alone: the rest is in the status line.
struct Words {
    quiet: bool,
}

impl Progress for Words {
    fn read(&self, _bytes: u64) {}

    fn writing(&self, _rows: u64) {}

    fn wrote_row(&self) {}

    fn connecting(&self, how_far: Connecting<'_>) {
        if !self.quiet {
            tell_connecting(how_far);
        }
    }
}
