//! The folder of a demonstration: a university that is made once, and what happened there since.
//!
//! Shape: a folder in; the files that the engine follows, and the logs that clicks and changes of
//! people are appended to, out: `people.ndjson`, `changes.ndjson`, `events.ndjson`,
//! `lessons.ndjson`.
//!
//! Invariants: a folder is one process's at a time; `events.ndjson` is placed last, so where it
//! stands the university is whole; nothing that stood there before is replaced. Nobody has clicked
//! yet in the lessons in which the demonstration begins, nor later.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    lessons::{Journals, LessonsError, slot},
    log::{LineLog, LogError},
};
use crate::{
    generate::{self, GenerateError, Options},
    sink::{Folder, SinkError},
    time::Moment,
};

const PEOPLE: &str = "people.ndjson";
const CHANGES: &str = "changes.ndjson";
const EVENTS: &str = "events.ndjson";
const LESSONS: &str = "lessons.ndjson";

/// Where a university is made before it is placed.
const MAKING: &str = ".making";

/// The folder of a demonstration, held by this process alone.
pub struct University {
    folder: Folder,
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UniversityError {
    /// It cannot be made, or another process has it.
    #[error(transparent)]
    Folder(#[from] SinkError),
    /// The university could not be made.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What the timetable says cannot be read.
    #[error(transparent)]
    Lessons(#[from] LessonsError),
    /// There are files of somebody else.
    #[error(
        "folder \"{folder}\" has a file \"{file}\" and no events.ndjson: it is no university that \
         a demonstration has made, or one that an earlier version did not finish; give another \
         folder by --state, or remove this one"
    )]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// The file.
        file: &'static str,
    },
    /// A university without a lesson.
    #[error("a university so small has no lesson; ask for more --students or --events")]
    NoLessons,
    /// What was made is not on disk.
    #[error("cannot bring \"{path}\" to disk; mend the disk, remove the folder and start again")]
    Unsynced {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl University {
    /// Takes the folder for this process, and makes a university of `options` there where there is
    /// none; `progress` hears how many events of it are made.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(
        path: &Path,
        options: &Options,
        progress: &mut dyn FnMut(u64),
    ) -> Result<University, UniversityError> {
        let files = [PEOPLE, CHANGES, EVENTS, LESSONS];
        let folder = Folder::claim(path, files.map(str::to_owned))?;
        let university = University { folder };
        if !university.events().exists() {
            let making = path.join(MAKING);
            // What is there without it was placed by somebody else.
            let foreign = files.into_iter().find(|file| path.join(file).exists());
            if let Some(file) = foreign.filter(|_| !making.exists()) {
                return Err(UniversityError::Foreign { folder: path.to_owned(), file });
            }
            university.make(&making, options, progress)?;
        }
        Ok(university)
    }

    /// Whether a folder has a university.
    pub fn is_made(path: &Path) -> bool {
        path.join(EVENTS).exists()
    }

    fn make(
        &self,
        making: &Path,
        options: &Options,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), UniversityError> {
        let unsynced = |path: &Path, source| {
            let path = path.to_owned();
            UniversityError::Unsynced { path, source }
        };
        // The folder itself stays: it says that what is half made here is ours.
        let left = fs::read_dir(making).into_iter().flatten().flatten();
        for entry in left {
            fs::remove_file(entry.path()).map_err(|source| unsynced(making, source))?;
        }
        generate::generate(options, making, progress)?;
        let journals = Journals::load(&making.join(LESSONS))?;
        let begin = begin_of_last_pair(&journals).ok_or(UniversityError::NoLessons)?;
        let past = making.join("past.ndjson");
        past_of(&making.join(EVENTS), begin, &past).map_err(|source| unsynced(&past, source))?;
        let names = [PEOPLE, CHANGES, LESSONS];
        let places = names.map(|name| (making.join(name), self.folder.path().join(name)));
        for (from, to) in places.into_iter().chain([(past, self.events())]) {
            let synced = File::open(&from).and_then(|file| file.sync_all());
            let placed = synced.and_then(|()| fs::rename(&from, &to));
            placed.map_err(|source| unsynced(&to, source))?;
        }
        // What is left of it is in nobody's way.
        let _ = fs::remove_dir_all(making);
        Ok(())
    }

    /// Clicks, those of the past and those that come.
    pub fn events(&self) -> PathBuf {
        self.folder.path().join(EVENTS)
    }

    /// People as they were at first.
    pub fn people(&self) -> PathBuf {
        self.folder.path().join(PEOPLE)
    }

    /// What happened to them since.
    pub fn changes(&self) -> PathBuf {
        self.folder.path().join(CHANGES)
    }

    /// Lessons.
    pub fn lessons(&self) -> PathBuf {
        self.folder.path().join(LESSONS)
    }

    /// The logs of clicks and of changes of people.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn logs(&self) -> Result<(LineLog, LineLog), UniversityError> {
        Ok((LineLog::open(&self.events())?, LineLog::open(&self.changes())?))
    }
}

/// When the last day's busiest lessons begin; `None` where there is none.
pub fn begin_of_last_pair(journals: &Journals) -> Option<Moment> {
    let day = journals.last_day()?;
    let (begin, _) = slot(day, journals.busiest_slot(day)?)?;
    Some(begin)
}

/// Copies those lines of events that were made before a moment, and those that are none.
fn past_of(events: &Path, until: Moment, past: &Path) -> io::Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    struct Made<'m> {
        date_create: &'m str,
    }
    let mut lines = BufReader::new(File::open(events)?);
    let (mut out, mut line) = (BufWriter::new(File::create(past)?), Vec::new());
    while lines.read_until(b'\n', &mut line)? > 0 {
        let made = serde_json::from_slice::<Made<'_>>(&line).ok();
        let made = made.and_then(|made| Moment::parse(made.date_create.as_bytes()));
        if made.is_none_or(|made| made < until) {
            out.write_all(&line)?;
        }
        line.clear();
    }
    out.flush()
}
