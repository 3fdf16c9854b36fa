//! `tributary accept`: the operator's word to a feed that is held.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, place::PlaceOptions, tell};
use crate::feed::{Log, give_word, held};

/// Give a feed that is held the word to write what it found.
///
/// A feed writes nothing where another collection stands than the log is of (an index that was made
/// again or restored, an alias that was switched), and where more documents are gone than may be
/// deleted without a word. What it would write stands in `tributary status`, and is said here. The
/// word is for just that: what is gone beyond it by then must be as little as may be deleted
/// without one.
#[derive(Debug, Args)]
pub(super) struct Accept {
    /// The dataflow's TOML file.
    spec: PathBuf,

    /// The source whose feed is held.
    source: String,

    #[command(flatten)]
    place: PlaceOptions,

    /// Say what the feed is held for, and give no word.
    #[arg(long)]
    dry_run: bool,
}

impl Accept {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spec = self.place.spec(&self.spec)?;
        let (kafka, names) = self.place.resolve(&spec)?;
        kafka.connect().map_err(Failure::failed)?;
        let log = Log { kafka, topic: names.reference, source: self.source };
        let Some(hold) = held(&log).map_err(Failure::failed)? else {
            tell(&format!("source \"{}\" is not held: nothing waits for a word", log.source));
            return Ok(());
        };
        tell(&format!("source \"{}\" is held: {hold}", log.source));
        if !self.dry_run {
            give_word(&log, &hold).map_err(Failure::failed)?;
            tell("the word is given; its feed writes that now, or once it is started");
        }
        Ok(())
    }
}
