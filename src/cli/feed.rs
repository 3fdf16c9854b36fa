//! `tributary feed`: keeps the reference log equal to files of documents.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use indicatif::HumanCount;

use super::{Failure, place::PlaceOptions, tell, watch};
use crate::{
    engine::{Fed, FileFeed},
    spec::Spec,
};

/// Keep the reference log in Kafka equal to files of documents and changes, as they grow.
///
/// Of each document only what the dataflow takes is written, and only where the log says otherwise;
/// a document that the files do not name at the start is deleted there. A second feed of the same
/// source takes over from the first, which then ends with exit code 4.
#[derive(Debug, Args)]
pub(super) struct Feed {
    /// The dataflow's TOML file.
    spec: PathBuf,

    #[command(flatten)]
    place: PlaceOptions,

    /// What the source is called: the keys of its documents in the log begin with it.
    #[arg(long, default_value = "people", value_name = "NAME")]
    source: String,

    /// Documents as they stand: {"_id", "_source"} a line. It may grow.
    #[arg(long, value_name = "FILE")]
    documents: PathBuf,

    /// What happens to them: {"op": "index" | "delete", "_id", "_source"} a line. It may grow.
    #[arg(long, value_name = "FILE")]
    changes: Option<PathBuf>,

    /// End once the files are read.
    #[arg(long)]
    once: bool,

    /// Delete at the start whatever the files do not name, also more than one document in twenty
    /// (and more than 20): without this the feed ends with exit code 5 then.
    #[arg(long)]
    accept_deletes: bool,

    /// Say nothing but errors.
    #[arg(long, short)]
    quiet: bool,
}

impl Feed {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spec = Arc::new(Spec::load(&self.spec)?);
        let (kafka, names) = self.place.resolve(&spec)?;
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if self.source.is_empty() || !self.source.chars().all(is_name) {
            let what = format!("--source {}: a name is of a-z, 0-9 and _", self.source);
            return Err(Failure::Arguments(what));
        }
        kafka.connect().map_err(Failure::failed)?;
        let end = watch::end_when_asked()?;
        watch::end_at_last(
            &end,
            "as when brokers do not answer; ended anyway: a transaction that is open comes to \
             nothing, and the next start writes what is missing",
        );
        let feed = FileFeed {
            spec,
            kafka,
            topic: names.reference,
            source: self.source,
            documents: self.documents,
            changes: self.changes,
            once: self.once,
            accepts_deletes: self.accept_deletes,
        };
        let said = |what: &str, Fed { lines, refused, written, deleted, kept }| {
            if !self.quiet {
                tell(&format!(
                    "{what}: {} lines read ({} refused), {} documents written, {} deleted",
                    HumanCount(lines),
                    HumanCount(refused),
                    HumanCount(written),
                    HumanCount(deleted),
                ));
                if kept > 0 {
                    tell(&format!(
                        "{} documents that the files do not name are kept, since lines were \
                         refused: mend these, and start the feed again",
                        HumanCount(kept)
                    ));
                }
            }
        };
        let fed = feed.run(&end, &|fed| said("snapshot complete", fed)).map_err(Failure::feed)?;
        said("ended", fed);
        Ok(())
    }
}
