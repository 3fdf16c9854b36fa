//! Copying an archive: for a dataflow that is to be made from what another one has kept of the same
//! events, and then keeps its own.
//!
//! Shape: an archive in; an equal one of another dataflow, as its first manifest says, out.
//!
//! Invariants: each file is held against its checksum before it is written; nothing of the copy
//! counts before its manifest is created, and a copy that was cut short is made anew; an archive
//! that holds something is left as it is.

use super::{ArchiveError, Manifest, Store, Topic, manifest::FORM, reader::read};

/// How often a copy is begun anew where files go meanwhile, since they were merged.
const TRIES: usize = 3;

/// What came of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copied {
    /// There was nothing to copy.
    Nothing,
    /// The copy held something already.
    WasThere,
    /// So many files of so many bytes, of which nothing counts before this manifest is created.
    All {
        /// Files.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// What they are.
        manifest: Box<Manifest>,
    },
}

/// Copies the files that count of an archive to one of another dataflow, unless that one holds
/// something; `told` hears of each file how many bytes are copied, and of how many.
///
/// # Errors
/// When a file is damaged or gone, or a store fails.
pub fn copy(
    from: &Store,
    (to, dataflow): (&Store, &str),
    told: &mut dyn FnMut(u64, u64),
) -> Result<Copied, ArchiveError> {
    if !Manifest::numbers(to)?.is_empty() {
        return Ok(Copied::WasThere);
    }
    let mut tries = 1;
    loop {
        let Some(manifest) = Manifest::newest(from)? else { return Ok(Copied::Nothing) };
        match copy_segments(from, to, &manifest, told) {
            Ok((files, bytes)) => {
                let mut manifest = first(dataflow, manifest.events);
                manifest.events.partitions.iter_mut().for_each(|of| of.aside.clear());
                return Ok(Copied::All { files, bytes, manifest: Box::new(manifest) });
            }
            Err(error @ ArchiveError::Fault { .. }) => {
                // Another manifest may stand by now, which does without that file.
                let newest = Manifest::newest(from)?.map_or(0, |newest| newest.number);
                if newest == manifest.number || tries == TRIES {
                    return Err(error);
                }
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The first manifest of a dataflow that was not started yet.
pub fn first(dataflow: &str, events: Topic) -> Manifest {
    Manifest {
        form: FORM,
        number: 1,
        generation: 0,
        start: String::new(),
        written_ms: 0,
        dataflow: dataflow.to_owned(),
        events,
    }
}

fn copy_segments(
    from: &Store,
    to: &Store,
    manifest: &Manifest,
    told: &mut dyn FnMut(u64, u64),
) -> Result<(u64, u64), ArchiveError> {
    let all = manifest.segments().map(|segment| segment.bytes).sum();
    let (mut files, mut done) = (0, 0);
    for segment in manifest.segments() {
        // What an earlier copy wrote need not be read again.
        if read(to, segment).is_err() {
            to.write(&segment.path, read(from, segment)?)?;
        }
        files += 1;
        done += segment.bytes;
        told(done, all);
    }
    Ok((files, done))
}
