//! The documents of one lookup: who has a key, what it says now, and what it said when it was sent.
//!
//! Shape: claims begin and end; events ask by key. Each key is an entry with the version that holds
//! now; each row remembers the version that was last sent for it.
//!
//! Invariants: of several claims of a key the smallest `_id` has it; a version is a document or
//! "not known", so a row's version also says which entry it asked; a version is kept while it holds
//! or a row was sent with it, and until what was sent has been handed on; an entry, while somebody
//! has its key or a row that stands asked for it.
//!
//! Not here: the rows (`state`), which of them are corrected when.

use std::sync::Arc;

use super::json::Fragments;
use crate::{
    dataflow::{
        index::{Index, Place},
        slab::RowId,
    },
    row::{Key, Row},
};

/// What a document says, and how it looks in its records.
pub(super) struct Document {
    pub(super) row: Row,
    pub(super) fragments: Fragments,
}

/// A key's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryId(pub(super) u32);

/// A version's number; 0 stands for rows that asked for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VersionId(pub(super) u32);

impl VersionId {
    /// Of a row that does not ask.
    pub(super) const NONE: VersionId = VersionId(0);
}

/// One key of a lookup.
pub(super) struct Entry {
    key: Key,
    /// By `_id`; the first has the key.
    claims: Vec<(Box<str>, Arc<Document>)>,
    /// The version that holds now.
    pub(super) version: VersionId,
    /// The newest row that asks for this key; each names the next older one.
    pub(super) newest: Option<RowId>,
    /// How many rows ask.
    pub(super) rows: u32,
    /// The next row to be corrected.
    pub(super) next_to_correct: Option<RowId>,
    /// How many rows are left to be corrected: that one and those older.
    pub(super) left_to_correct: u32,
    /// Whether it stands among those whose rows wait for corrections.
    pub(super) waits: bool,
    /// Whether its claims changed in this epoch.
    touched: bool,
}

struct Version {
    entry: EntryId,
    /// `None` while nobody has the key.
    document: Option<Arc<Document>>,
    /// How many rows were sent with it.
    rows: u32,
}

/// All keys of one lookup.
pub(super) struct Documents {
    index: Index,
    entries: Vec<Entry>,
    versions: Vec<Version>,
    free: Vec<VersionId>,
    free_entries: Vec<EntryId>,
    touched: Vec<EntryId>,
}

impl Documents {
    pub(super) fn new() -> Documents {
        let nobody = Version { entry: EntryId(u32::MAX), document: None, rows: 0 };
        Documents {
            index: Index::default(),
            entries: Vec::new(),
            versions: vec![nobody],
            free: Vec::new(),
            free_entries: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// The entry of the key that consists of these bytes; a new one, known to nobody, if need be.
    pub(super) fn entry_of(&mut self, key: &[u8], hash: u64) -> EntryId {
        let Documents { index, entries, versions, free, free_entries, .. } = self;
        let is_it = |number: u32| entries[number as usize].key.bytes() == key;
        let place = match index.place(hash, is_it) {
            Place::Taken(number) => return EntryId(*number),
            Place::Free(place) => place,
        };
        let id = free_entries.pop().unwrap_or(EntryId(entries.len() as u32));
        place.insert(id.0);
        let version = new_version(versions, free, id, None);
        let entry = Entry {
            key: Key::of_bytes(key),
            claims: Vec::new(),
            version,
            newest: None,
            rows: 0,
            next_to_correct: None,
            left_to_correct: 0,
            waits: false,
            touched: false,
        };
        match entries.get_mut(id.0 as usize) {
            Some(forgotten) => *forgotten = entry,
            None => entries.push(entry),
        }
        id
    }

    /// The entry of a key, where there is one.
    pub(super) fn find(&self, key: &Key) -> Option<&Entry> {
        let is_it = |number: u32| self.entries[number as usize].key == *key;
        self.index.get(key.hash(), is_it).map(|number| &self.entries[number as usize])
    }

    pub(super) fn entry(&self, id: EntryId) -> &Entry {
        &self.entries[id.0 as usize]
    }

    pub(super) fn entry_mut(&mut self, id: EntryId) -> &mut Entry {
        &mut self.entries[id.0 as usize]
    }

    /// A document begins to claim a key.
    pub(super) fn claim(&mut self, key: &Key, document: Box<str>, content: Document) {
        let id = self.touch(key);
        let claims = &mut self.entry_mut(id).claims;
        let place = claims.binary_search_by(|(known, _)| known.cmp(&document));
        let place = place.expect_err("a document's claim of a key ends before it begins again");
        claims.insert(place, (document, Arc::new(content)));
    }

    /// A document claims a key no longer.
    pub(super) fn unclaim(&mut self, key: &Key, document: &str) {
        let id = self.touch(key);
        let claims = &mut self.entry_mut(id).claims;
        let place = claims.binary_search_by(|(known, _)| (**known).cmp(document));
        claims.remove(place.expect("only a claim that began can end"));
    }

    fn touch(&mut self, key: &Key) -> EntryId {
        let id = self.entry_of(key.bytes(), key.hash());
        if !std::mem::replace(&mut self.entry_mut(id).touched, true) {
            self.touched.push(id);
        }
        id
    }

    /// Brings every entry whose claims changed to the version that now holds; says which changed.
    pub(super) fn settle(&mut self, mut changed: impl FnMut(&mut Documents, EntryId)) {
        let mut touched = std::mem::take(&mut self.touched);
        for id in touched.drain(..) {
            let Documents { entries, versions, free, .. } = self;
            let entry = &mut entries[id.0 as usize];
            entry.touched = false;
            let holder = entry.claims.first().map(|(_, document)| Arc::clone(document));
            let held = &versions[entry.version.0 as usize];
            let says = |document: &Option<Arc<Document>>| document.as_ref().map(|d| d.row.clone());
            if says(&held.document) != says(&holder) {
                let before = entry.version;
                entry.version = new_version(versions, free, id, holder);
                if versions[before.0 as usize].rows == 0 {
                    self.free(before);
                }
                changed(self, id);
            }
            self.forget_if_idle(id);
        }
        self.touched = touched;
    }

    /// Forgets an entry whose key nobody has and no row asks for.
    pub(super) fn forget_if_idle(&mut self, id: EntryId) {
        let Entry { key, claims, version, rows, waits, .. } = self.entry_mut(id);
        if !claims.is_empty() || *rows > 0 || *waits {
            return;
        }
        let (hash, version) = (key.hash(), *version);
        self.index.remove(hash, |number| number == id.0);
        self.free(version);
        self.free_entries.push(id);
    }

    /// The document of a version.
    pub(super) fn document(&self, version: VersionId) -> Option<&Document> {
        self.versions[version.0 as usize].document.as_deref()
    }

    /// The version that now holds where `version` once did.
    pub(super) fn current(&self, version: VersionId) -> VersionId {
        if version == VersionId::NONE {
            return version;
        }
        self.entry(self.versions[version.0 as usize].entry).version
    }

    /// A row is sent with a version.
    pub(super) fn hold(&mut self, version: VersionId) {
        self.versions[version.0 as usize].rows += 1;
    }

    /// A row is sent with another version; says whether nobody needs this one any more.
    #[must_use]
    pub(super) fn release(&mut self, version: VersionId) -> bool {
        let Version { entry, rows, .. } = &mut self.versions[version.0 as usize];
        *rows -= 1;
        *rows == 0 && self.entries[entry.0 as usize].version != version
    }

    /// The entry of a version.
    pub(super) fn entry_of_version(&mut self, version: VersionId) -> &mut Entry {
        let id = self.versions[version.0 as usize].entry;
        self.entry_mut(id)
    }

    /// A row that was sent with a version is let go, as all older ones of its key were.
    pub(super) fn let_go(&mut self, row: RowId, version: VersionId) {
        let id = self.versions[version.0 as usize].entry;
        if self.release(version) {
            self.free(version);
        }
        let entry = self.entry_mut(id);
        entry.rows -= 1;
        if entry.newest == Some(row) {
            entry.newest = None;
        }
        self.forget_if_idle(id);
    }

    /// Forgets a version that nobody needs any more.
    pub(super) fn free(&mut self, version: VersionId) {
        let held = &mut self.versions[version.0 as usize];
        debug_assert_eq!(held.rows, 0);
        held.document = None;
        self.free.push(version);
    }
}

fn new_version(
    versions: &mut Vec<Version>,
    free: &mut Vec<VersionId>,
    entry: EntryId,
    document: Option<Arc<Document>>,
) -> VersionId {
    let version = Version { entry, document, rows: 0 };
    if let Some(id) = free.pop() {
        versions[id.0 as usize] = version;
        return id;
    }
    versions.push(version);
    VersionId((versions.len() - 1) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Value;

    /// One document that has another number each time.
    #[test]
    fn keys_that_nobody_has_or_asked_for_are_forgotten() {
        let mut documents = Documents::new();
        let key = |number: i128| Key::of([Some(Value::Integer(number))]);
        let asked = documents.entry_of(key(7).bytes(), key(7).hash());
        documents.entry_mut(asked).rows += 1;
        for number in 0..1000 {
            let content = Document { row: Row::of_bytes(&[1]), fragments: Fragments::default() };
            documents.claim(&key(number), "a".into(), content);
            documents.settle(|_, _| {});
            documents.unclaim(&key(number), "a");
            documents.settle(|_, _| {});
        }
        assert_eq!(documents.index.len(), 1, "that which was asked for");
        assert_eq!(documents.entry_of(key(7).bytes(), key(7).hash()), asked);
        assert!(documents.entries.len() <= 3 && documents.versions.len() <= 5);
    }
}
