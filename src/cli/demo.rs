//! `tributary demo`: an attendance journal, the engine and its boards in one process.

use std::{
    error::Error,
    fmt,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, RwLock},
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};

use super::{Failure, print, tell, watch::Watch};
use crate::{
    engine::{self, Following, Job, Place, Spread, Work},
    generate::Options,
    http::{self, Listening},
    journal::{
        Clock, Desk, Journals, People, Shown, ShownSink, Timetable, clock,
        university::{University, UniversityError, begin_of_last_pair},
    },
    process::now_ms,
    serve::{self, Door, Limits, Serving},
    spec::Spec,
    time::Moment,
};

/// The dataflow, as it is in the folder of that name.
const SPEC: &str = include_str!("../../dataflows/attendance.toml");

/// How often the engine looks by itself for what has come; a click wakes it.
const TICK: Duration = Duration::from_millis(50);

/// Most lines of an epoch, while the history is read.
const EPOCH_LINES: u64 = 20_000;

/// Corrections up to so many are made in one epoch, and seen together.
const SPREAD: Spread = Spread { atomic_max: 20_000, fuel: 5_000 };

/// How far into a lesson the journal's clock stands at first.
const MINUTES_INTO_LESSON: i64 = 20;

/// Between looks at how far the history is read.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// An attendance journal in the browser, with the engine and its boards behind it, and nothing else
/// to install.
///
/// The first start makes a university with a term of clicks and keeps it in the folder of --state;
/// later ones go on where the last one ended: a click that was confirmed is never lost. Open the
/// address that is printed, choose who you are, and click: the click becomes an event, an enriched
/// record and the latest mark, and the boards move. On the page of people change a student's group,
/// and see history follow.
///
/// Everyone is invented, and everyone may act as anyone: it listens on this machine alone.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// The folder in which the university is kept; made where there is none.
    #[arg(long, value_name = "DIR", default_value = "demo")]
    state: PathBuf,

    /// Where to listen, on this machine; port 0 is any that is free.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    address: SocketAddr,

    /// The journal's time at first, Moscow, YYYY-MM-DD HH:MM; without it a lesson of the last day
    /// has just begun. It can be set on the page.
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    clock: Option<Moment>,

    /// Students of a university that is to be made; 1,500 where it is not said.
    #[arg(long, value_name = "N")]
    students: Option<u32>,

    /// Clicks of its past, about; 150,000 where it is not said.
    #[arg(long, value_name = "N")]
    events: Option<u64>,

    /// Number that decides everything else in it.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Say nothing but where it listens, and errors.
    #[arg(long, short)]
    quiet: bool,
}

/// Why there is no demonstration.
#[derive(Debug, thiserror::Error)]
enum Undemonstrated {
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    #[error("lessons file \"{0}\" holds no lesson; remove the folder and start again")]
    NoLessons(PathBuf),
}

impl Demo {
    pub(super) fn run(self) -> Result<(), Failure> {
        if !self.address.ip().is_loopback() {
            let what = "--address is one of this machine alone, such as 127.0.0.1:8080: in a \
                        demonstration everyone may act as anyone";
            return Err(Failure::Arguments(what.to_owned()));
        }
        let begun = Instant::now();
        let spec = Spec::parse("dataflows/attendance.toml".as_ref(), SPEC);
        let spec = Arc::new(spec.expect("the spec that comes with the program is sound"));
        let university = self.university()?;
        let (clicks, changes) = university.logs().map_err(Failure::failed)?;
        let journals = Journals::load(&university.lessons()).map_err(Failure::failed)?;
        let begin = begin_of_last_pair(&journals);
        let begin = begin.ok_or_else(|| Undemonstrated::NoLessons(university.lessons()));
        let begin = begin.map_err(Failure::failed)?.since_1970_us();
        let first = Moment::of_us(begin + MINUTES_INTO_LESSON * 60_000_000);
        let clock = Arc::new(Clock::at(self.clock.unwrap_or(first)));
        let mut people = People::new(Arc::clone(&spec));
        for file in [university.people(), university.changes()] {
            people.read(&file).map_err(Failure::failed)?;
        }
        let shown = Arc::new(Shown::default());
        shown.expect_history(clicks.lines());
        let history = clicks.lines();
        let (timetable, people) =
            (Arc::new(Timetable::new(journals)), Arc::new(RwLock::new(people)));
        let lines = clicks.counter();
        let desk = Desk::new(
            &spec,
            Arc::clone(&timetable),
            Arc::clone(&people),
            Arc::clone(&shown),
            Arc::clone(&clock),
        );
        let desk = Arc::new(desk);
        let at_last = "ended anyway: every confirmed click stands";
        let watch = Watch::start(true, None, 1, at_last)?;
        let lost = |error: Box<dyn Error + Send + Sync>| {
            super::tell_with_causes(&*error, 1);
            signal_hook::low_level::exit(1);
        };
        let writer = desk.write_to(clicks, lost);
        writer.map_err(|error| Failure::failed(Undemonstrated::Thread(error)))?;
        let serving = Serving {
            spec: Arc::clone(&spec),
            timetable,
            people,
            place: serve::Place::Demo { lines, changes: Mutex::new(changes) },
            shown: Arc::clone(&shown),
            desk: Arc::clone(&desk),
            clock,
            door: Door::open(),
            limits: Limits::default(),
            begun,
            started_ms: now_ms(),
        };
        let health = http::health(None, watch.metrics());
        let listening = Listening::at(self.address).map_err(Failure::failed)?;
        let address = listening.address;
        let routes = serve::routes(Arc::new(serving), health);
        listening.answer(routes).map_err(Failure::failed)?;
        print(&format!("the journal is at http://{address}/\n"))?;
        let told = self.tell_when_read(&shown, history, begun);
        told.map_err(|error| Failure::failed(Undemonstrated::Thread(error)))?;
        let job = self.job(&spec, &university, &watch, shown, Arc::clone(&desk));
        let outcome = engine::run(job, watch.progress());
        desk.close();
        watch.finish();
        outcome.map_err(Failure::engine)?;
        if !self.quiet {
            let stands = "ended as asked; every confirmed click stands in";
            tell(&format!("{stands} \"{}\"", self.state.display()));
        }
        Ok(())
    }

    fn university(&self) -> Result<University, Failure> {
        let usual = Options::default();
        let options = Options {
            events: self.events.unwrap_or(150_000),
            students: self.students.unwrap_or(1_500),
            seed: self.seed.unwrap_or(usual.seed),
            changes: 0,
            faults: 0.001,
            odd: 0.0,
            ..usual
        };
        let is_asked = self.events.is_some() || self.students.is_some() || self.seed.is_some();
        if is_asked && University::is_made(&self.state) && !self.quiet {
            tell(&format!(
                "warning: a university is in \"{}\" already: --students, --events and --seed say \
                 nothing; give another folder by --state for another one",
                self.state.display()
            ));
        }
        let bar = self.bar("making a university", options.events);
        let made = University::open(&self.state, &options, &mut |lines| bar.set_position(lines));
        bar.finish_and_clear();
        made.map_err(|error| match error {
            UniversityError::Generate(error @ crate::generate::GenerateError::Options(_)) => {
                Failure::Arguments(error.to_string())
            }
            error => Failure::failed(error),
        })
    }

    fn bar(&self, what: &'static str, length: u64) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        let template = "{msg} {wide_bar} {percent}%  {rate}, {eta} left";
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
            // A line that says nothing of its rate is no failure.
            let _ = write!(out, "{}/s", HumanCount(state.per_sec() as u64));
        };
        let style = style.with_key("rate", rate);
        ProgressBar::new(length).with_style(style).with_message(what)
    }

    /// Shows how far the history is read, and says once it is.
    fn tell_when_read(
        &self,
        shown: &Arc<Shown>,
        history: u64,
        begun: Instant,
    ) -> std::io::Result<thread::JoinHandle<()>> {
        let bar = self.bar("reading its past", history);
        let (shown, quiet) = (Arc::clone(shown), self.quiet);
        thread::Builder::new().spawn(move || {
            while !shown.is_live() {
                bar.set_position((shown.share() * history as f64) as u64);
                thread::sleep(BETWEEN_LOOKS);
            }
            bar.finish_and_clear();
            if !quiet {
                let marks = HumanCount(shown.standing().marks.len() as u64);
                let seconds = begun.elapsed().as_secs_f64();
                tell(&format!("{marks} marks stand; ready after {seconds:.1} s; Ctrl-C ends it"));
            }
        })
    }

    fn job(
        &self,
        spec: &Arc<Spec>,
        university: &University,
        watch: &Watch,
        shown: Arc<Shown>,
        desk: Arc<Desk>,
    ) -> Job {
        let of_sink = Arc::clone(spec);
        let make: engine::MakeSink = Arc::new(move |_worker| {
            let desk = Arc::clone(&desk);
            let heard = Box::new(move |marks: &[_], refused: &[&[u8]]| desk.hear(marks, refused));
            Box::new(ShownSink::new(&of_sink, Arc::clone(&shown), heard))
        });
        Job {
            spec: Arc::clone(spec),
            events: vec![university.events()],
            documents: Some(university.people()),
            changes: Some(university.changes()),
            workers: 1,
            epoch_lines: EPOCH_LINES,
            cluster: None,
            work: Work::Follow(Following {
                place: Place::Own(make),
                tick: TICK,
                spread: SPREAD,
                end: watch.end(),
                metrics: watch.metrics(),
            }),
        }
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    let wrong = || "a moment is YYYY-MM-DD HH:MM, of the years 2015 to 2148".to_owned();
    clock::moment(text).ok_or_else(wrong)
}
