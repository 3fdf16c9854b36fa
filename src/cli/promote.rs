//! `tributary promote`: which dataflow readers are shown.

use std::{path::PathBuf, sync::atomic::Ordering, time::Duration};

use clap::Args;

use super::{Failure, place::PlaceOptions, print, watch};
use crate::{
    history::switch::{Switch, Switched, Way},
    load::Migrations,
};

/// Have readers shown a dataflow that was made anew, instead of the one that they were shown; or,
/// with --rollback, that one again.
///
/// Who reads ClickHouse finds the views of this dataflow under the names that are read, all
/// exchanged in one statement; who reads topics finds them by the pointer, the record under key
/// `readers` in the topic `<dataflow>_lead`. It waits until this dataflow holds all that the other
/// one held when it was asked, and until its tables do. The other one runs on and is loaded on, so
/// that one can go back; see docs/history.md. Killed at any moment, it is started again and goes on
/// from what is there.
#[derive(Debug, Args)]
pub(super) struct Promote {
    /// The changed dataflow's TOML file.
    spec: PathBuf,

    #[command(flatten)]
    place: PlaceOptions,

    /// Show the dataflow that was shown before the last switch.
    #[arg(long)]
    rollback: bool,

    /// Show it though it is behind what is shown, or nobody loads its tables.
    #[arg(long)]
    although_behind: bool,

    /// How long to wait for it to catch up, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    patience: u64,
}

impl Promote {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (spec, way) = match self.rollback {
            true => (self.place.spec(&self.spec)?, Way::Back),
            false => (self.place.spec(&self.spec)?, Way::To),
        };
        let (kafka, _) = self.place.resolve(&spec)?;
        kafka.connect().map_err(Failure::failed)?;
        let clickhouse = self.place.config()?.clickhouse;
        let migrations = clickhouse.as_ref().map(|of| Migrations::load(&of.sql)).transpose();
        let migrations = migrations.map_err(Failure::failed)?;
        let end = watch::end_when_asked()?;
        let switch = Switch {
            spec: &spec,
            kafka: &kafka,
            clickhouse: clickhouse.as_ref().zip(migrations.as_ref()),
            way,
            patience: Duration::from_secs(self.patience),
            although_behind: self.although_behind,
            is_to_end: &|| end.load(Ordering::Relaxed),
        };
        let Switched { pointer, fell_ms } = switch.run().map_err(Failure::history)?;
        print(&format!(
            "readers of \"{}\" are shown \"{}\" (switch {}, before: \"{}\")\n",
            spec.family, pointer.dataflow, pointer.number, pointer.before
        ))?;
        if fell_ms > 0 {
            print(&format!(
                "the frontier in ClickHouse is {fell_ms} ms less than it was, until something \
                 comes\n"
            ))?;
        }
        Ok(())
    }
}
