//! Where a worker's changes go, and what that asks of the loop.
//!
//! Shape: sealed epochs in (`sink`); when something is to be committed or said, by the clock.
//!
//! Not here: how it is written (`sink`).

use std::time::{Duration, Instant};

use crate::{
    sink::{KafkaSink, Sink, SinkError, update_log::WorkerLog},
    source::Vector,
};

/// How often it is said how far things are, where nothing changes.
const BETWEEN_QUIET_WORDS: Duration = Duration::from_secs(1);

/// Sources rest while what is sealed waits longer for its commit than this, or
/// while the sink has no room.
const UNCOMMITTED_TIME_MAX: Duration = Duration::from_secs(2);

/// Corrections that are spread have no turn once so many records wait for the next transaction:
/// what happens now is to be visible soon, and comes behind them.
const ENOUGH_RECORDS: u64 = 4_000;

/// One worker's output.
pub(super) enum Output {
    /// The update log of its process.
    Log(WorkerLog, Quiet),
    /// The program's own.
    Own(Box<dyn Sink>),
    /// Topics.
    Kafka(Box<KafkaSink>, Commits),
}

/// When it is said next how far a quiet output is.
pub(super) struct Quiet {
    /// The first worker of its process says it for all.
    is_first: bool,
    next: Instant,
}

/// When commits were and are due.
pub(super) struct Commits {
    /// The shortest time from one commit to the next.
    interval: Duration,
    begun: Instant,
    /// When it is told next up to where the inputs are held.
    next_word: Instant,
    /// What was told last.
    told: Vector,
    /// Since when records wait that are in no transaction yet, and those in the one under way.
    waiting_since: Option<Instant>,
    under_way_since: Option<Instant>,
}

impl Output {
    pub(super) fn log(log: WorkerLog, is_first: bool) -> Output {
        Output::Log(log, Quiet { is_first, next: Instant::now() + BETWEEN_QUIET_WORDS })
    }

    pub(super) fn kafka(sink: KafkaSink, interval: Duration) -> Output {
        let begun = Instant::now();
        let next_word = begun + BETWEEN_QUIET_WORDS;
        let (waiting_since, under_way_since) = (None, None);
        let told = Vector::new();
        let commits = Commits { interval, begun, next_word, told, waiting_since, under_way_since };
        Output::Kafka(Box::new(sink), commits)
    }

    pub(super) fn sink(&mut self) -> &mut dyn Sink {
        match self {
            Output::Log(log, _) => log,
            Output::Own(sink) => &mut **sink,
            Output::Kafka(sink, _) => &mut **sink,
        }
    }

    /// Lets nothing more out: what comes now is of epochs that were cut short.
    pub(super) fn close(&mut self) {
        match self {
            // Nobody goes on from what a log holds.
            Output::Log(..) | Output::Own(_) => {}
            Output::Kafka(sink, _) => sink.close(),
        }
    }

    /// How many updates went out since this was asked last.
    pub(super) fn take_updates(&mut self) -> u64 {
        match self {
            Output::Log(log, _) => log.take_updates(),
            Output::Own(_) => 0,
            Output::Kafka(sink, _) => sink.take_updates(),
        }
    }

    /// Says how far things are where it is time for that; commits what is sealed, where it is due
    /// or `is_end`. Returns whether it is time to tell up to where the inputs are held.
    pub(super) fn keep_up(&mut self, is_end: bool) -> Result<bool, SinkError> {
        let now = Instant::now();
        match self {
            // Whoever reads the logs of several processes is to learn that nothing more comes to
            // an epoch here, also where nothing did.
            Output::Log(log, quiet) => {
                if quiet.is_first && now >= quiet.next {
                    quiet.next = now + BETWEEN_QUIET_WORDS;
                    log.seal_so_far()?;
                }
            }
            Output::Own(_) => {}
            Output::Kafka(sink, commits) => {
                sink.look()?;
                if !sink.is_busy() {
                    commits.under_way_since = None;
                }
                if sink.has_records() {
                    commits.waiting_since.get_or_insert(now);
                }
                let since = now.saturating_duration_since(commits.begun);
                let is_due = match sink.has_records() {
                    true => since >= commits.interval,
                    false => since >= BETWEEN_QUIET_WORDS,
                };
                if (is_due || is_end) && sink.has_progress() && !sink.is_busy() {
                    commits.begun = now;
                    commits.under_way_since = commits.waiting_since.take().or(Some(now));
                    sink.commit()?;
                }
                if now >= commits.next_word && *sink.held() != commits.told {
                    commits.next_word = now + BETWEEN_QUIET_WORDS;
                    commits.told.clone_from(sink.held());
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Up to where the inputs are held by what is committed.
    pub(super) fn held(&self) -> &Vector {
        static NOTHING: Vector = Vector::new();
        match self {
            Output::Log(..) | Output::Own(_) => &NOTHING,
            Output::Kafka(sink, _) => sink.held(),
        }
    }

    /// Whether nothing more may be read for now: too much waits here.
    pub(super) fn is_behind(&self) -> bool {
        let Output::Kafka(sink, commits) = self else { return false };
        let since = commits.under_way_since.or(commits.waiting_since);
        !sink.has_room() || since.is_some_and(|since| since.elapsed() > UNCOMMITTED_TIME_MAX)
    }

    /// How long until it could begin to commit what is not there yet; the longest time where it is
    /// busy, or has what comes next.
    pub(super) fn idle_in(&self) -> Duration {
        match self {
            Output::Kafka(sink, commits) if !sink.is_busy() && !sink.has_progress() => {
                commits.interval.saturating_sub(commits.begun.elapsed())
            }
            // What people look at waits for nothing.
            Output::Own(_) => Duration::ZERO,
            Output::Log(..) | Output::Kafka(..) => Duration::MAX,
        }
    }

    /// Whether what waits here is enough for the next transaction.
    pub(super) fn has_enough(&self) -> bool {
        match self {
            Output::Log(..) | Output::Own(_) => false,
            Output::Kafka(sink, _) => sink.is_busy() && sink.waiting() >= ENOUGH_RECORDS,
        }
    }

    /// Whether nothing is left to be committed.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Output::Log(..) | Output::Own(_) => true,
            Output::Kafka(sink, _) => !sink.is_busy() && !sink.has_progress(),
        }
    }

    /// How long the loop may sleep, at most, with what waits here in mind.
    pub(super) fn longest_sleep(&self) -> Duration {
        match self {
            Output::Log(..) | Output::Own(_) => Duration::MAX,
            Output::Kafka(sink, commits) if sink.has_records() && !sink.is_busy() => {
                commits.interval.saturating_sub(commits.begun.elapsed())
            }
            Output::Kafka(..) => Duration::MAX,
        }
    }
}
