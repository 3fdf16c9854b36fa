//! `tributary check`: is a spec sound?

use std::path::PathBuf;

use clap::Args;

use super::{Failure, place::PlaceOptions, print};
use crate::{
    archive::Store,
    load::{Drift, Server},
    spec::Spec,
};

/// Check a spec: report all that is wrong in it, with line, cause and the nearest right name.
///
/// With --config, where that names a server of ClickHouse, the tables and views there are compared
/// with the migrations: what is other is said, with the statement that mends it, and the exit code
/// is 1. Nothing is changed but that a database is made to compare with, and taken away again. An
/// archive is written a probe, to show that it keeps the rule on which it rests.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// The dataflow's TOML file.
    spec: PathBuf,

    #[command(flatten)]
    place: PlaceOptions,
}

/// What is in ClickHouse is not as the migrations say.
#[derive(Debug, thiserror::Error)]
#[error("{count} difference(s) between ClickHouse and the migrations: see above")]
struct Drifted {
    count: usize,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spec = self.place.spec(&self.spec)?;
        let Spec { name, columns, lookups, views, .. } = &spec;
        print(&format!(
            "{}: dataflow \"{name}\" is sound: {} columns, {} lookups, {} views\n",
            self.spec.display(),
            columns.len(),
            lookups.len(),
            views.len(),
        ))?;
        if !self.place.is_given() {
            return Ok(());
        }
        let config = self.place.config()?;
        if let Some(archive) = &config.archive {
            let store = Store::open(archive, name).map_err(Failure::failed)?;
            store.prove().map_err(Failure::failed)?;
            print("the archive creates a file only where there is none\n")?;
        }
        let Some(clickhouse) = config.clickhouse else { return Ok(()) };
        let server = Server::new(&clickhouse).map_err(Failure::config)?;
        let migrations = super::init::migrations(&spec, &clickhouse)?;
        let drifts = migrations.compare(&server).map_err(Failure::failed)?;
        if drifts.is_empty() {
            return print("the tables in ClickHouse are as the migrations say\n");
        }
        for Drift { name, what, remedy } in &drifts {
            print(&format!("{name} {what}:\n  {remedy}\n"))?;
        }
        Err(Failure::failed(Drifted { count: drifts.len() }))
    }
}
