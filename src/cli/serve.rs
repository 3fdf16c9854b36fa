//! `tributary serve`: the attendance journal before a cluster.

use std::{
    error::Error,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use clap::Args;
use tracing::{info, warn};

use super::{Failure, place::PlaceOptions, print, watch};
use crate::{
    config::ServeConfig,
    engine::{self, Names},
    feed,
    http::Listening,
    journal::{
        Clock, Desk, Journals, People, Shown, Timetable,
        events::{EventTopic, EventTopicError},
        follow::Follow,
        lessons::LessonsError,
        shown::lacking,
    },
    kafka::Kafka,
    process::now_ms,
    serve::{self, ClusterState, Door, Limits, Login, Place, Serving, Visitor, health},
    spec::Spec,
};

/// Where to listen, where it is not said.
const ADDRESS: &str = "127.0.0.1:8080";

/// Between looks at the file of lessons.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// Between looks how the cluster is: each asks the brokers by connections of its own.
const BETWEEN_QUESTIONS: Duration = Duration::from_secs(10);

/// Between looks whether it is to end.
const BETWEEN_TICKS: Duration = Duration::from_millis(200);

/// For so long it is looked how fast events come and are taken.
const RATES_OVER: Duration = Duration::from_secs(1);

/// The attendance journal in the browser before a cluster: the pages and the API of `tributary
/// demo` over the topics of a dataflow.
///
/// It reads the outputs, the reference log and the dead letters, and writes each accepted click
/// into the topic of events, once, before it is confirmed. It keeps nothing: a start reads the
/// topics again, and takes clicks once everything that was written before is visible. One runs for
/// a dataflow at a time: a later one takes over, and the elder ends. The engine (`tributary run`)
/// and its feeds run beside it, on this machine or others.
///
/// Who is let in says [serve] in the file of --config: people by a signed token that a proxy hands
/// on, programs by a bearer token; see docs/journal.md. Without either it listens on this machine
/// alone, and one can only look.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The dataflow's TOML file.
    spec: PathBuf,

    #[command(flatten)]
    place: PlaceOptions,

    /// The lessons, one JSON object a line; serve.lessons where it is not given. It is read again
    /// when it changes.
    #[arg(long, value_name = "FILE")]
    lessons: Option<PathBuf>,

    /// Where to listen; serve.address where it is not given, else 127.0.0.1:8080. Port 0 is any
    /// that is free.
    #[arg(long, value_name = "IP:PORT")]
    address: Option<SocketAddr>,

    /// Let everyone who reaches it act as anyone, to try it out: on this machine alone.
    #[arg(long)]
    act_as_anyone: bool,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let begun = Instant::now();
        let spec = Arc::new(self.place.spec(&self.spec)?);
        if spec.is_renamed() {
            let what = "it shows what readers are shown, and takes the clicks of all: leave out \
                        --as; look at a dataflow that was made anew in ClickHouse";
            return Err(Failure::Arguments(what.to_owned()));
        }
        if let Some(lacking) = lacking(&spec) {
            return Err(Failure::Arguments(format!(
                "\"{}\" is no dataflow that a journal shows: {lacking}",
                self.spec.display()
            )));
        }
        let (kafka, names) = self.place.resolve(&spec)?;
        let config = self.place.config()?.serve.unwrap_or_default();
        config.check().map_err(Failure::config)?;
        let address = self.address.or(config.address);
        let address = address.unwrap_or_else(|| ADDRESS.parse().expect("it is an address"));
        let door = self.door(&config, address)?;
        let lessons = self.lessons.as_ref().or(config.lessons.as_ref()).ok_or_else(|| {
            Failure::Arguments("name the lessons: --lessons FILE, or serve.lessons".to_owned())
        })?;
        // Whatever is changed after that is read again.
        let read_at = changed_at(lessons);
        let journals = Journals::load(lessons).map_err(Failure::failed)?;
        // What can fail does so before another journal is taken over from.
        let listening = Listening::at(address).map_err(Failure::failed)?;
        kafka.connect().map_err(Failure::failed)?;
        let end = watch::end_when_asked()?;
        watch::end_at_last(&end, "every confirmed click stands; the next start reads anew");
        let timetable = Arc::new(Timetable::new(journals));
        let people = Arc::new(RwLock::new(People::new(Arc::clone(&spec))));
        let (shown, clock) = (Arc::new(Shown::default()), Arc::new(Clock::default()));
        let of_desk = (Arc::clone(&timetable), Arc::clone(&people));
        let desk = Desk::new(&spec, of_desk.0, of_desk.1, Arc::clone(&shown), Arc::clone(&clock));
        let desk = Arc::new(desk);
        let shown_here = Arc::clone(&shown);
        let log = EventTopic::take_over(
            &kafka,
            &spec.family,
            &names.events,
            shown_here,
            Arc::clone(&end),
        );
        let log = log.map_err(Failure::failed)?;
        let lost = |error: Box<dyn Error + Send + Sync>| {
            // Whoever was taken over from is not to be started again.
            let is_superseded = matches!(
                error.downcast_ref::<EventTopicError>(),
                Some(EventTopicError::Superseded)
            );
            let code = if is_superseded { 4 } else { 1 };
            super::tell_with_causes(&*error, code);
            signal_hook::low_level::exit(code.into());
        };
        let claim = log.claim();
        let clicks = desk.write_to(log, lost).map_err(no_thread)?;
        let heard = Arc::clone(&desk);
        let follow = Arc::new(Follow {
            spec: Arc::clone(&spec),
            kafka: kafka.clone(),
            events: names.events.clone(),
            reference: names.reference.clone(),
            shown: Arc::clone(&shown),
            people: Arc::clone(&people),
            heard: Box::new(move |marks, refused| heard.hear(marks, refused)),
            seen: AtomicU64::new(0),
            begun,
        });
        let state = Arc::new(RwLock::new(None));
        let place =
            Place::Cluster { reference: names.reference.clone(), state: Arc::clone(&state) };
        let serving = Serving {
            spec: Arc::clone(&spec),
            timetable: Arc::clone(&timetable),
            people,
            place,
            shown,
            desk: Arc::clone(&desk),
            clock,
            door,
            limits: Limits::default(),
            begun,
            started_ms: now_ms(),
        };
        let serving = Arc::new(serving);
        let (open, closed) = health::routes(Arc::clone(&serving), Arc::clone(&follow));
        let routes = open.merge(serve::routes(serving, closed));
        let address = listening.address;
        listening.answer(routes).map_err(Failure::failed)?;
        print(&format!("the journal is at http://{address}/\n"))?;
        let (of_lessons, at_end) = (lessons.clone(), Arc::clone(&end));
        let looks = move || look_at_lessons(&of_lessons, read_at, &timetable, &at_end);
        thread::Builder::new().spawn(looks).map_err(no_thread)?;
        let at_end = Arc::clone(&end);
        let looks = move || {
            while !at_end.load(Ordering::Relaxed) {
                if let Some(error) = claim.lost() {
                    lost(Box::new(error));
                }
                pause(BETWEEN_QUESTIONS, &at_end);
            }
        };
        thread::Builder::new().spawn(looks).map_err(no_thread)?;
        let at_end = Arc::clone(&end);
        // Where a topic is gone, how the cluster is takes minutes to say.
        let looks = move || {
            while !at_end.load(Ordering::Relaxed) {
                look_at_cluster(&kafka, &spec, &names, &state);
                pause(BETWEEN_QUESTIONS, &at_end);
            }
        };
        thread::Builder::new().spawn(looks).map_err(no_thread)?;
        follow.run(&end);
        desk.close();
        clicks.join().expect("a panic ends all");
        info!("ended as asked: every confirmed click stands in topic \"{}\"", follow.events);
        Ok(())
    }

    /// Who is let in.
    fn door(&self, config: &ServeConfig, address: SocketAddr) -> Result<Door, Failure> {
        let is_closed = config.token.is_some() || config.login.is_some();
        let refuse = |what: &str| Err(Failure::Arguments(what.to_owned()));
        if self.act_as_anyone && (is_closed || !address.ip().is_loopback()) {
            return refuse(
                "--act-as-anyone lets everyone act as anyone: it goes with an address of this \
                 machine alone, and without serve.login and serve.token",
            );
        }
        if !is_closed && !address.ip().is_loopback() {
            return Err(Failure::Arguments(format!(
                "{address} is open to other machines: say who is let in, by [serve.login] or \
                 serve.token in the file of --config; see docs/journal.md"
            )));
        }
        let token = config.token.as_ref().map(|token| token.read("serve.token")).transpose();
        let token = token.map_err(Failure::config)?;
        if token.as_ref().is_some_and(|token| token.trim().is_empty()) {
            return refuse("serve.token is empty: it would let in anybody");
        }
        let login = config.login.clone().map(Login::new).transpose().map_err(Failure::failed)?;
        let without = if self.act_as_anyone { Visitor::Anyone } else { Visitor::Reader };
        let hosts = config.hosts.clone();
        Ok(Door { hosts, token, login: login.map(Arc::new), without })
    }
}

fn no_thread(error: std::io::Error) -> Failure {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot start a thread")]
    struct NoThread(#[source] std::io::Error);
    Failure::failed(NoThread(error))
}

/// Lets some time pass, or less where it is to end.
fn pause(time: Duration, end: &AtomicBool) {
    let until = Instant::now() + time;
    while Instant::now() < until && !end.load(Ordering::Relaxed) {
        thread::sleep(BETWEEN_TICKS);
    }
}

/// When a file was changed last.
fn changed_at(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|data| data.modified()).ok()
}

/// Reads the lessons again when their file has changed. What is wrong there changes nothing.
fn look_at_lessons(
    path: &Path,
    mut read_at: Option<SystemTime>,
    timetable: &Timetable,
    end: &AtomicBool,
) {
    while !end.load(Ordering::Relaxed) {
        pause(BETWEEN_LOOKS, end);
        let changed = changed_at(path);
        if changed == read_at {
            continue;
        }
        read_at = changed;
        match Journals::load(path) {
            Ok(journals) => {
                info!(journals = journals.len(), "took other lessons");
                timetable.set(journals);
            }
            Err(error) => {
                let cause = match &error {
                    LessonsError::Unreadable { source, .. } => source.to_string(),
                    LessonsError::Wrong { source, .. } => source.to_string(),
                    LessonsError::Twice { .. } => String::new(),
                };
                warn!(cause, "the lessons that were known stand: {error}");
            }
        }
    }
}

/// Looks how the cluster is, for the page of operators.
fn look_at_cluster(
    kafka: &Kafka,
    spec: &Spec,
    names: &Names,
    state: &RwLock<Option<ClusterState>>,
) {
    let looked = || -> Result<ClusterState, Box<dyn Error>> {
        let engine = engine::status(kafka, spec, names, RATES_OVER)?;
        let feeds = match spec.lookups.is_empty() {
            true => std::collections::BTreeMap::new(),
            false => feed::marks(kafka, &names.reference)?,
        };
        Ok(ClusterState { looked_ms: now_ms(), engine, feeds })
    };
    match looked() {
        Ok(new) => *state.write().expect("nobody panics while holding it") = Some(new),
        Err(error) => warn!("how the cluster is cannot be said: {error}"),
    }
}
