//! Sweeping: files that nobody needs any more go.
//!
//! Shape: the newest manifest in; files that no manifest of late names removed, and elder
//! manifests.
//!
//! Invariants: `keeper` says which. What cannot be known to be needless stays: where a manifest
//! that is kept cannot be read, or another start has written one, nothing goes. Times are all of
//! the store's clock.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::super::{
    ArchiveError, Manifest, Store,
    manifest::{self, FOLDER},
};

/// So many manifests are kept at least, with all that they name.
const MANIFESTS_KEPT: usize = 3;

/// How long a manifest is kept once another follows it, and a file that none names.
const REMOVED_AFTER: Duration = Duration::from_secs(3_600);

/// Between looks.
const BETWEEN_LOOKS: Duration = Duration::from_secs(600);

/// Who sweeps.
#[derive(Default)]
pub(super) struct Sweeper {
    looked: Option<Instant>,
}

impl Sweeper {
    /// Removes what no manifest of late names, where it is time to look.
    pub(super) fn sweep(&mut self, store: &Store, newest: &Manifest) -> Result<(), ArchiveError> {
        if self.looked.is_some_and(|looked| looked.elapsed() < BETWEEN_LOOKS) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        sweep(store, newest, REMOVED_AFTER)
    }
}

/// Removes what was needed by nobody for so long.
fn sweep(store: &Store, newest: &Manifest, after: Duration) -> Result<(), ArchiveError> {
    let manifests = store.list(FOLDER)?;
    let Some(last) = manifests.last() else { return Ok(()) };
    if last.path != Manifest::path(newest.number) {
        return Ok(());
    }
    let before_ms = last.written_ms - after.as_millis() as i64;
    // Each is needed as long as it was the newest, and for a while after that.
    let followed = manifests.iter().skip(1).map(|next| next.written_ms < before_ms);
    let over = followed.take_while(|is_over| *is_over).count();
    let over = over.min(manifests.len().saturating_sub(MANIFESTS_KEPT));
    let mut named = HashSet::new();
    for kept in &manifests[over..] {
        let Some(number) = manifest::number(&kept.path) else { continue };
        let manifest = Manifest::read(store, number)?;
        named.extend(manifest.named().map(|segment| segment.path.clone()));
        named.insert(kept.path.clone());
    }
    for folder in ["events", "history", "probe", FOLDER] {
        for found in store.list(folder)? {
            if found.written_ms < before_ms && !named.contains(&found.path) {
                store.remove(&found.path)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread::sleep};

    use super::*;
    use crate::{
        archive::{Partition, Segment, Topic},
        config::ArchiveConfig,
    };

    #[test]
    fn what_some_manifest_of_late_names_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = ArchiveConfig::in_folder(folder.path().to_str().expect("text"));
        let store = Arc::new(Store::open(&config, "d").expect("a folder"));
        let wait = Duration::from_millis(30);
        let write = |name: &str| {
            store.write(&format!("events/0/{name}"), vec![1].into()).expect("it can be written");
            sleep(wait);
        };
        let manifest = |number: u64, names: &[&str], aside: &[&str]| {
            let segments = |names: &[&str]| -> Vec<Segment> {
                let segment = |name: &&str| Segment {
                    path: format!("events/0/{name}"),
                    from: 0,
                    to: 1,
                    rows: 1,
                    bytes: 1,
                    first_ms: 0,
                    last_ms: 0,
                    check: String::new(),
                };
                names.iter().map(segment).collect()
            };
            let (segments, aside) = (segments(names), segments(aside));
            let partition = Partition { segments, aside, ..Partition::empty(0) };
            let mut events = Topic::empty("e", "id", std::iter::empty());
            events.partitions.push(partition);
            let made = Manifest {
                form: manifest::FORM,
                number,
                generation: 1,
                start: String::new(),
                written_ms: 0,
                dataflow: "d".to_owned(),
                events,
            };
            assert!(made.create(&store).expect("it can be written"));
            sleep(wait);
            made
        };
        let names = || -> Vec<String> {
            let found = store.list("").expect("a folder").into_iter();
            found.map(|found| found.path.rsplit('/').next().unwrap_or("").to_owned()).collect()
        };
        for name in ["orphan", "a", "b", "lost"] {
            write(name);
        }
        manifest(1, &["a"], &[]);
        manifest(2, &["a", "b"], &["lost"]);
        manifest(3, &["b"], &["lost"]);
        let fourth = manifest(4, &["b"], &["lost"]);
        // All was named of late.
        sweep(&store, &fourth, 50 * wait).expect("it can be read");
        assert_eq!(names().len(), 8);
        // Of three manifests all that they name stays, however old; of the first nothing.
        sweep(&store, &fourth, Duration::ZERO).expect("it can be read");
        let kept = names();
        assert_eq!(kept.iter().filter(|name| name.ends_with(".json")).count(), 3, "{kept:?}");
        let files: Vec<&str> = kept.iter().map(String::as_str).filter(|n| n.len() < 8).collect();
        assert_eq!(files, ["a", "b", "lost"]);
        // Another start has written one: it knows better.
        manifest(5, &["a"], &[]);
        sweep(&store, &fourth, Duration::ZERO).expect("it can be read");
        assert_eq!(names().len(), 7);
    }
}
