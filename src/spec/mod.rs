//! Specs: a dataflow described as data, read, checked, and resolved into plain values.
//!
//! Shape: the text of `dataflows/*.toml` in; a `Spec` out, or every violation with its place.
//!
//! Invariants: who holds a `Spec` holds a sound one; nothing falls back in silence; after this
//! module no name is looked up again.
//!
//! Not here: addresses and credentials (those belong to a place, not to a dataflow), and running.
//!
//! In reading order: `file` (as it is written), `read` (its form), `resolve` (its sense), `plan`
//! (what comes out), `violation` (how what is wrong is said), `changes` (what is other than it
//! was).

pub mod changes;
pub mod file;
pub mod plan;
mod read;
mod resolve;
mod terms;
mod violation;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64;

pub use plan::{Corrections, DedupeBy, OutputId, ShardId, Spec, ViewId, ViewKind};
pub use read::json_schema;
pub use terms::{describe, is_source_name};
pub(crate) use violation::plain;
pub use violation::{Rule, Violation, Violations};

/// Why there is no spec.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("cannot read spec \"{path}\"; give the path of a dataflow's TOML file")]
    Unreadable {
        /// The file, as it was named.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file can be read and is wrong.
    #[error(transparent)]
    Wrong(#[from] Violations),
}

impl Spec {
    /// Reads and checks a spec.
    ///
    /// # Errors
    /// When the file cannot be read, or with all its violations.
    pub fn load(path: &Path) -> Result<Spec, SpecError> {
        let unreadable = |source| SpecError::Unreadable { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        // One byte more than a spec can have shows that the file is too long, however long it is.
        let most = read::SPEC_BYTES_MAX as u64 + 1;
        file.take(most).read_to_end(&mut bytes).map_err(unreadable)?;
        Ok(Spec::parse_bytes(path, &bytes)?)
    }

    /// Checks the bytes of a spec that was read from `path`.
    ///
    /// # Errors
    /// With all its violations; where it is no text, with the first place at which it is none.
    pub fn parse_bytes(path: &Path, bytes: &[u8]) -> Result<Spec, Violations> {
        match str::from_utf8(bytes) {
            Ok(text) => Spec::parse(path, text),
            Err(error) => Err(violations(path, read::not_utf8(bytes, error))),
        }
    }

    /// Checks the text of a spec that was read from `path`.
    ///
    /// # Errors
    /// With all its violations.
    pub fn parse(path: &Path, text: &str) -> Result<Spec, Violations> {
        let read = read::read(text).map_err(|found| violations(path, found))?;
        match (resolve::resolve(&read.file, &read.places), read.found) {
            (Ok(spec), of_form) if of_form.is_empty() => {
                Ok(Spec { hash: xxh3_64(text.as_bytes()), text: text.into(), ..spec })
            }
            (Ok(_), of_form) => Err(violations(path, of_form)),
            (Err(of_sense), of_form) => Err(violations(path, [of_form, of_sense].concat())),
        }
    }
}

fn violations(path: &Path, mut found: Vec<Violation>) -> Violations {
    found.sort_by_key(|violation| (violation.line, violation.column));
    Violations { path: path.to_owned(), found }
}
