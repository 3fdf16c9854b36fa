//! `tributary generate`: a university and its clicks.

use std::path::PathBuf;

use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::{Failure, print};
use crate::generate::{self, GenerateError, Options, Summary};

/// Generate a university: people, lessons, and the clicks made in its attendance journal.
///
/// Writes people.ndjson (documents as they stand at the start), changes.ndjson (what happens to
/// them later), events.ndjson (clicks, with faults), keys.txt (the Kafka key of each), and
/// lessons.ndjson. The same arguments give the same bytes. Names, groups and timetable are
/// invented.
#[derive(Debug, Args)]
pub(super) struct Generate {
    /// Folder for the files; made where there is none.
    out: PathBuf,

    /// Clicks, before faults and duplicates are added.
    #[arg(long, default_value_t = Options::default().events, value_name = "N")]
    events: u64,

    /// Students.
    #[arg(long, default_value_t = Options::default().students, value_name = "N")]
    students: u32,

    /// Teachers.
    #[arg(long, default_value_t = Options::default().teachers, value_name = "N")]
    teachers: u32,

    /// Changes of documents while the clicks are made.
    #[arg(long, default_value_t = Options::default().changes, value_name = "N")]
    changes: u32,

    /// Share of lines that are malformed, and again that are duplicates, 0 to 1.
    #[arg(long, default_value_t = Options::default().faults, value_name = "SHARE")]
    faults: f64,

    /// Number that decides everything else.
    #[arg(long, default_value_t = Options::default().seed, value_name = "N")]
    seed: u64,
}

impl Generate {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Generate { out, events, students, teachers, changes, faults, seed } = self;
        let options =
            Options { events, students, teachers, changes, faults, seed, ..Options::default() };
        let template = "generating {wide_bar} {percent}%  {per_sec}, {eta} left";
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        let bar = ProgressBar::new(events).with_style(style);
        let made = generate::generate(&options, &out, &mut |lines| bar.set_position(lines));
        bar.finish_and_clear();
        let Summary { event_lines, people, changes, lessons } =
            made.map_err(|error| match error {
                GenerateError::Options(_) => Failure::Arguments(error.to_string()),
                error => Failure::failed(error),
            })?;
        print(&format!(
            "{}: {} event lines, {} people, {} changes, {} lessons\n",
            out.display(),
            HumanCount(event_lines),
            HumanCount(people),
            HumanCount(changes),
            HumanCount(lessons),
        ))
    }
}
