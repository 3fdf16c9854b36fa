//! The folder of a demonstration: a university that is made once, and what happened there since.
//!
//! Shape: a folder in; the files that the engine follows, and the logs that clicks and changes of
//! people are appended to, out: `people.ndjson`, `changes.ndjson`, `events.ndjson`,
//! `lessons.ndjson`.
//!
//! Invariants: a folder is one process's at a time; `events.ndjson` is placed last, so where it
//! stands the university is whole.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::log::{LineLog, LogError};
use crate::{
    generate::{self, GenerateError, Options},
    sink::{Folder, SinkError},
};

const PEOPLE: &str = "people.ndjson";
const CHANGES: &str = "changes.ndjson";
const EVENTS: &str = "events.ndjson";
const LESSONS: &str = "lessons.ndjson";

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
        let folder = Folder::claim(path, [PEOPLE, CHANGES, EVENTS, LESSONS].map(str::to_owned))?;
        let university = University { folder };
        if !university.events().exists() {
            generate::generate(options, path, progress)?;
            for file in [PEOPLE, CHANGES, LESSONS] {
                let path = path.join(file);
                let synced = File::open(&path).and_then(|file| file.sync_all());
                synced.map_err(|source| UniversityError::Unsynced { path, source })?;
            }
        }
        Ok(university)
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

    /// How many bytes the history has.
    pub fn history_bytes(&self) -> u64 {
        fs::metadata(self.events()).map_or(0, |data| data.len())
    }

    /// The logs of clicks and of changes of people.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn logs(&self) -> Result<(LineLog, LineLog), UniversityError> {
        Ok((LineLog::open(&self.events())?, LineLog::open(&self.changes())?))
    }
}
