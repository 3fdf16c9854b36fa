//! `tributary retire`: takes a dataflow that was made anew away again.

use std::path::PathBuf;

use clap::Args;
use indicatif::HumanCount;

use super::{Failure, place::PlaceOptions, print};
use crate::{archive::Store, config::ArchiveConfig, history::retire::retire, load::Migrations};

/// Take away what a dataflow of another name than in its file has of its own: its topics, its
/// tables and views in ClickHouse, its archive. End its processes first.
///
/// What readers are shown is not taken away, nor the events and documents, nor what bears the name
/// in the file. What went cannot be had back; a backfill makes it anew.
#[derive(Debug, Args)]
pub(super) struct Retire {
    /// The dataflow's TOML file.
    spec: PathBuf,

    #[command(flatten)]
    place: PlaceOptions,

    /// Its archive: a folder, or s3://bucket/prefix; archive.place where it is not given.
    #[arg(long, value_name = "PLACE")]
    archive: Option<String>,

    /// Also where readers were shown it before the last switch, and could be again.
    #[arg(long)]
    give_up_rollback: bool,
}

impl Retire {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spec = self.place.own_spec(&self.spec)?;
        let (kafka, names) = self.place.resolve(&spec)?;
        kafka.connect().map_err(Failure::failed)?;
        let config = self.place.config()?;
        let migrations = config.clickhouse.as_ref().map(|of| Migrations::load(&of.sql)).transpose();
        let migrations = migrations.map_err(Failure::failed)?;
        let archive = match &self.archive {
            Some(place) => Some(ArchiveConfig::in_folder(place)),
            None => config.archive,
        };
        let archive = archive.map(|config| Store::open(&config, &spec.name)).transpose();
        let archive = archive.map_err(Failure::failed)?;
        let clickhouse = config.clickhouse.as_ref().zip(migrations.as_ref());
        let retired =
            retire(&kafka, &spec, &names, clickhouse, archive.as_ref(), self.give_up_rollback);
        let retired = retired.map_err(Failure::history)?;
        for name in retired.tables.iter().chain(&retired.topics) {
            print(&format!("{name}: taken away\n"))?;
        }
        print(&format!("{} file(s) of its archive: taken away\n", HumanCount(retired.files)))
    }
}
