//! Files of views: `enriched.ndjson` and the like, as they stand at the end of a run.
//!
//! Shape: a share a worker; the shares together into one file a view, sorted by its key, and
//! `dead_letters.ndjson`, sorted by file and line.
//!
//! Invariants: the same rows give the same bytes, on any number of workers; each file appears
//! whole, after everything was written and synced, or not at all; where `dead_letters.ndjson`
//! stands, all stand, and they are of one run; a folder is one run's at a time.
//!
//! Not here: how a row is rendered (`sink::render`).

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::NamedTempFile;

use super::{
    SinkError,
    contents::{Contents, RankedRow, Row, is_unmatched},
    dead_letters::DeadLetters,
    render::Renderer,
};
use crate::{
    row::LookupId,
    source::Reason,
    spec::{Spec, ViewId, ViewKind},
};

/// What begins the name of a file that is not yet published.
const UNFINISHED: &str = ".tributary-unfinished-";

/// An output folder, held by this run alone.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The folder itself, locked as long as this value lives.
    lock: File,
}

impl Folder {
    /// Makes the folder where there is none, takes it for this run, and removes what a run that was
    /// killed left there unfinished. The outputs will be called `names`.
    ///
    /// # Errors
    /// When it cannot be made, another run holds it, or a name belongs to a folder.
    pub fn claim(
        path: &Path,
        names: impl IntoIterator<Item = String>,
    ) -> Result<Folder, SinkError> {
        let unusable = |source| SinkError::Folder { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(unusable)?;
        let lock = File::open(path).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(SinkError::InUse { path: path.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        for entry in fs::read_dir(path).map_err(unusable)? {
            let entry = entry.map_err(unusable)?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_file(entry.path()).map_err(unusable)?;
            }
        }
        let folder = Folder { path: path.to_owned(), lock };
        // Found out now, not after hours of work.
        match names.into_iter().find(|name| path.join(name).is_dir()) {
            Some(name) => Err(unwritten(&folder, &name, io::ErrorKind::IsADirectory.into())),
            None => Ok(folder),
        }
    }

    /// Where it is, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// One worker's share of the files: the rows of its shards, the dead letters of its partitions.
pub struct FileShare {
    /// What stands in the views.
    pub contents: Contents,
    /// The dead letters.
    pub dead_letters: DeadLetters,
}

/// The file of dead letters.
pub const DEAD_LETTERS: &str = "dead_letters.ndjson";

/// What was published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// By `ViewId`.
    pub views: Vec<PublishedView>,
    /// Dead letters by reason.
    pub dead_letters: BTreeMap<Reason, u64>,
    /// By `LookupId`: records that asked for a document and have none; of the first view that shows
    /// every event, or else of the first that shows some.
    pub unmatched: Vec<u64>,
}

/// One published view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishedView {
    /// Rows in the file.
    pub rows: u64,
    /// Rows whose key stood there already: their events came by several partitions.
    pub doubled: u64,
}

/// Publishes the shares of all workers as files in `folder`; `wrote` is told of each row.
///
/// # Errors
/// When a file cannot be written: then nothing was published, and what stood there still does. When
/// a written file cannot get its name: then no results stand there, of this run or an earlier one.
pub fn publish(
    spec: &Arc<Spec>,
    shares: Vec<FileShare>,
    folder: &Folder,
    wrote: &dyn Fn(),
) -> Result<Published, SinkError> {
    let renderer = Renderer::new(Arc::clone(spec));
    let mut published =
        Published { unmatched: vec![0; spec.lookups.len()], ..Published::default() };
    let (mut contents, mut letters) = (Vec::new(), Vec::new());
    for share in shares {
        for (reason, count) in share.dead_letters.counts() {
            *published.dead_letters.entry(*reason).or_default() += count;
        }
        letters.push(share.dead_letters);
        contents.push(share.contents);
    }
    let counted_view = view_of_most_records(spec);
    let mut finished = Vec::new();
    for (place, view) in spec.views.iter().enumerate() {
        let id = ViewId(place as u16);
        let shares = contents.iter().map(|contents| contents.in_order(spec, id)).collect();
        let name = format!("{}.ndjson", view.name);
        let mut of_view = PublishedView::default();
        let (mut line, mut last_key) = (Vec::new(), None);
        let file = write_file(folder, &name, |out| {
            for (key, row, times) in merge(shares) {
                if counted_view == Some(id) {
                    count_unmatched(spec, &row, &mut published.unmatched);
                }
                line.clear();
                renderer.json(&row, &mut line);
                line.push(b'\n');
                for _ in 0..times {
                    out.write_all(&line)?;
                    of_view.rows += 1;
                    of_view.doubled += u64::from(last_key.as_ref() == Some(&key));
                    wrote();
                }
                last_key = Some(key);
            }
            Ok(())
        })?;
        finished.push((name, file));
        published.views.push(of_view);
    }
    finished.push((DEAD_LETTERS.to_owned(), write_dead_letters(folder, letters)?));
    replace_files(folder, finished)?;
    Ok(published)
}

/// Merges sorted shares into one sorted sequence.
fn merge<'c, I>(mut shares: Vec<I>) -> impl Iterator<Item = RankedRow<'c>>
where
    I: Iterator<Item = RankedRow<'c>>,
{
    let mut heads: Vec<_> = shares.iter_mut().map(Iterator::next).collect();
    std::iter::from_fn(move || {
        let present = heads.iter().enumerate();
        let ranks = present.filter_map(|(i, head)| head.as_ref().map(|(rank, ..)| (rank, i)));
        let (_, least) = ranks.min()?;
        std::mem::replace(&mut heads[least], shares[least].next())
    })
}

/// The view in which every record is seen once; without one, the first that shows records at all.
fn view_of_most_records(spec: &Spec) -> Option<ViewId> {
    let first = |wanted: fn(&ViewKind) -> bool| spec.views.iter().position(|v| wanted(&v.kind));
    let every = first(|kind| matches!(kind, ViewKind::Enriched));
    let some = || first(|kind| matches!(kind, ViewKind::Latest { .. }));
    every.or_else(some).map(|place| ViewId(place as u16))
}

fn count_unmatched(spec: &Spec, row: &Row<'_>, unmatched: &mut [u64]) {
    for (place, count) in unmatched.iter_mut().enumerate() {
        *count += u64::from(is_unmatched(spec, row, LookupId(place as u16)));
    }
}

fn write_dead_letters(
    folder: &Folder,
    letters: Vec<DeadLetters>,
) -> Result<NamedTempFile, SinkError> {
    write_file(folder, DEAD_LETTERS, |out| {
        let mut spools = Vec::new();
        for letters in letters {
            spools.extend(letters.into_spools()?);
        }
        spools.sort_by_key(|(partition, _)| *partition);
        for (_, mut spool) in spools {
            io::copy(&mut spool, out)?;
        }
        Ok(())
    })
}

/// Writes and syncs a file that has no name of its own yet.
fn write_file(
    folder: &Folder,
    name: &str,
    write: impl FnOnce(&mut BufWriter<&mut NamedTempFile>) -> io::Result<()>,
) -> Result<NamedTempFile, SinkError> {
    let written = || {
        let mut file = unfinished(folder)?;
        let mut out = BufWriter::with_capacity(1 << 18, &mut file);
        write(&mut out)?;
        out.flush()?;
        drop(out);
        file.as_file().sync_all()?;
        Ok(file)
    };
    written().map_err(|source| unwritten(folder, name, source))
}

/// A file without a name of its own; with the permissions that files get here by default, since
/// results are for whoever may read the folder.
fn unfinished(folder: &Folder) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    let permissions = fs::Permissions::from_mode(0o666);
    tempfile::Builder::new().prefix(UNFINISHED).permissions(permissions).tempfile_in(&folder.path)
}

/// Gives the finished files their names, in order. Those of an earlier run go first, all of them,
/// the last one before the others: where the last one stands, all stand, and they are of one run.
/// What else is in the folder, files of views that the spec does not have among it, is not touched.
fn replace_files(folder: &Folder, finished: Vec<(String, NamedTempFile)>) -> Result<(), SinkError> {
    let names: Vec<String> = finished.iter().map(|(name, _)| name.clone()).collect();
    let at = |name: &str| folder.path.join(name);
    let replaced = (|| {
        for name in names.iter().rev() {
            remove(&at(name)).map_err(|source| (name.clone(), source))?;
        }
        for (name, file) in finished {
            let placed = file.persist(at(&name)).map_err(|failed| failed.error);
            placed.map_err(|source| (name, source))?;
        }
        folder.lock.sync_all().map_err(|source| ("the folder itself".to_owned(), source))
    })();
    replaced.map_err(|(name, source)| {
        // A part must not pass for the whole. Where even this fails, the error still says so.
        for name in &names {
            let _ = remove(&at(name));
        }
        SinkError::Unplaced { path: folder.path.clone(), name, source }
    })
}

/// Removes a file that may not be there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn unwritten(folder: &Folder, name: &str, source: io::Error) -> SinkError {
    SinkError::Unwritten { path: folder.path.clone(), name: name.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_between_renames_leaves_no_part() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::claim(scratch.path(), []).unwrap();
        fs::write(scratch.path().join("a"), "of an earlier run").unwrap();
        let file = || NamedTempFile::new_in(scratch.path()).unwrap();
        let finished = vec![("a".to_owned(), file()), ("no such folder/b".to_owned(), file())];
        let error = replace_files(&folder, finished).unwrap_err();
        assert!(matches!(&error, SinkError::Unplaced { name, .. } if name == "no such folder/b"));
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "{error}");
    }

    #[test]
    fn what_is_not_an_output_is_not_touched() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::claim(scratch.path(), []).unwrap();
        for name in ["old_view.ndjson", "view.ndjson"] {
            fs::write(scratch.path().join(name), "stood here").unwrap();
        }
        replace_files(&folder, vec![("view.ndjson".to_owned(), unfinished(&folder).unwrap())])
            .unwrap();
        let read = |name| fs::read_to_string(scratch.path().join(name)).unwrap();
        assert_eq!(
            (read("old_view.ndjson").as_str(), read("view.ndjson").as_str()),
            ("stood here", "")
        );
    }

    #[test]
    fn folder_in_the_place_of_an_output_is_found_before_the_run() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("latest.ndjson")).unwrap();
        let claimed = Folder::claim(scratch.path(), ["latest.ndjson".to_owned()]);
        assert!(matches!(claimed, Err(SinkError::Unwritten { .. })), "{claimed:?}");
    }
}
