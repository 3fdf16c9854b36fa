//! `tributary archive`: what an archive holds, and whether it is whole.

use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::{Table, presets::NOTHING};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use jiff::Timestamp;

use super::{Failure, place::PlaceOptions, print, tell_with_causes};
use crate::{
    archive::{ArchiveError, Manifest, Partition, Store, reader::verify},
    config::ArchiveConfig,
};

/// Say what the archive of a dataflow holds, and whether it is whole.
///
/// It reads each file that the newest manifest names and holds it against its checksum, and its
/// records against the range of offsets that it is of; each that is damaged or gone is told, and
/// the exit code is 5 then. Nothing is changed; it works beside a dataflow that runs.
#[derive(Debug, Args)]
pub(super) struct Archive {
    /// The dataflow's TOML file.
    spec: PathBuf,

    #[command(flatten)]
    place: PlaceOptions,

    /// Where it lies: a folder, or s3://bucket/prefix; archive.place where it is not given.
    #[arg(long, value_name = "PLACE")]
    archive: Option<String>,

    /// Say what it holds by the manifest alone, and read no file.
    #[arg(long)]
    list: bool,
}

/// Files are not what the manifest says.
#[derive(Debug, thiserror::Error)]
#[error(
    "{count} file(s) of the archive are not whole: see above; put back copies, or have starts read \
     what they held from the topic, where that still has it (`run --archive-faults pass`)"
)]
struct NotWhole {
    count: usize,
}

impl Archive {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spec = self.place.spec(&self.spec)?;
        let configured = match (&self.archive, self.place.is_given()) {
            (Some(place), _) => Some(ArchiveConfig::in_folder(place)),
            (None, true) => self.place.config()?.archive,
            (None, false) => None,
        };
        let config = configured.ok_or_else(|| {
            let what = "name the archive: --archive PLACE, or [archive] in the file of --config";
            Failure::Arguments(what.to_owned())
        })?;
        // Who only looks makes no folder.
        if !config.place.contains("://") && !Path::new(&config.place).is_dir() {
            let what = format!("there is no folder \"{}\": name that of an archive", config.place);
            return Err(Failure::Arguments(what));
        }
        let store = Store::open(&config, &spec.name).map_err(Failure::failed)?;
        let manifest = Manifest::newest(&store).map_err(failure)?;
        let Some(manifest) = manifest else {
            return print(&format!("\"{}\" holds nothing of \"{}\"\n", store.place(), spec.name));
        };
        print(&shown(&store, &manifest))?;
        if self.list {
            return Ok(());
        }
        let faults = verified(&store, &manifest)?;
        match faults {
            0 => print("every file is whole\n"),
            count => Err(Failure::ForOperator(Box::new(NotWhole { count }))),
        }
    }
}

pub(super) fn failure(error: ArchiveError) -> Failure {
    match error.is_for_operator() {
        true => Failure::ForOperator(Box::new(error)),
        false => Failure::failed(error),
    }
}

fn shown(store: &Store, manifest: &Manifest) -> String {
    let written = Timestamp::from_millisecond(manifest.written_ms).unwrap_or_default();
    let Manifest { number, generation, events, .. } = manifest;
    let mut table = Table::new();
    let head = ["partition", "from", "to", "records", "files", "size"];
    table.load_style(NOTHING).set_header(head);
    for (place, partition) in events.all().enumerate() {
        let Partition { from, segments, .. } = partition;
        let sum = |of: fn(&crate::archive::Segment) -> u64| segments.iter().map(of).sum::<u64>();
        table.add_row([
            place.to_string(),
            from.to_string(),
            partition.bound().offset.to_string(),
            HumanCount(sum(|segment| segment.rows)).to_string(),
            segments.len().to_string(),
            HumanBytes(sum(|segment| segment.bytes)).to_string(),
        ]);
    }
    format!(
        "archive \"{}\" of \"{}\": manifest {number}, written {written} by start {generation}, of \
         topic \"{}\"\n{table}\n",
        store.place(),
        manifest.dataflow,
        events.topic,
    )
}

/// Reads every file; returns how many are not whole.
fn verified(store: &Store, manifest: &Manifest) -> Result<usize, Failure> {
    let bar = ProgressBar::new(manifest.segments().map(|segment| segment.bytes).sum());
    let style = "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is well formed"));
    let mut faults = 0;
    for segment in manifest.segments() {
        match verify(store, segment) {
            Ok(()) => {}
            Err(fault @ ArchiveError::Fault { .. }) => {
                faults += 1;
                bar.suspend(|| tell_with_causes(&fault, 5));
            }
            Err(error) => return Err(Failure::failed(error)),
        }
        bar.inc(segment.bytes);
    }
    bar.finish_and_clear();
    Ok(faults)
}
