//! The state of one worker: the rows of its shards, the documents that they ask for, and the latest
//! row of each key.
//!
//! Shape: claims and rows of an epoch in; what they change in the views of records, and what they
//! add to the counts, out.
//!
//! Invariants: every row stands in `enriched` once, with the versions that were last sent for it
//! (P1); a correction retracts exactly those (P3); the latest row of a key is the greatest that
//! came (P4). Rows are never changed but for their header:
//!
//! ```text
//! [next older row of its key, by lookup][version last sent, by lookup][is it latest: a bit a view]
//! ```
//!
//! Not here: when an epoch is complete (`fused`), how records look (`json`).
//!
//! In reading order: this file (what an epoch does), `records` (what a sink sees of it), `resends`
//! (what an earlier run may owe), `release` (what is older than the horizon), `copies` (equal keys
//! of several partitions).

mod copies;
mod records;
mod release;
mod resends;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use smallvec::SmallVec;

pub use self::{
    copies::Met,
    records::{RecordChange, RecordRef},
    resends::{Resume, Touched},
};

use self::{copies::Copies, release::Release, resends::Resends};
use super::{
    changes::{Changed, Changes},
    documents::{Document, Documents, EntryId, VersionId},
    json::RecordJson,
    tallies::Tallies,
};
use crate::{
    dataflow::{
        Diff,
        count::{Group, Tally},
        index::{Index, Place},
        slab::{RowId, Slab},
    },
    reference::Claim,
    row::{Columns, Joined, Key, LookupId},
    source::{Bound, Input, PartitionId, Vector},
    spec::{Corrections, DedupeBy, Spec, ViewId, ViewKind, plan::View},
    time::Epoch,
};

/// What one worker holds.
pub struct State {
    spec: Arc<Spec>,
    json: RecordJson,
    slab: Slab,
    header: Header,
    lookups: Vec<Documents>,
    latest: Vec<Latest>,
    tallies: Tallies,
    /// Entries whose rows wait for corrections, in the order in which they came.
    waiting: VecDeque<Waiting>,
    waiting_rows: u64,
    /// How many events stand.
    events: u64,
    first_of_epoch: Option<RowId>,
    /// What the open epoch has changed so far.
    changes: Changes,
    /// Versions that nobody needs once the open epoch's changes were handed on.
    retired: Vec<(usize, VersionId)>,
    /// What epochs changed, until a sink took it; of those from `record_from` on.
    recorded: BTreeMap<Epoch, OfEpoch>,
    record_from: Option<Epoch>,
    /// Whether the open epoch is recorded, and whether its corrections are not.
    is_recording: bool,
    is_unseen: bool,
    /// What an earlier run may owe, and is sent again.
    resends: Resends,
    /// Where events with one key meet that came by several partitions; `None` where none do.
    copies: Option<Copies>,
    /// What is let go; `None` keeps everything.
    release: Option<Release>,
    /// Memory of released epochs.
    spare: Vec<OfEpoch>,
    /// Up to where the inputs are held, and whether that or how much waits is news of the open
    /// epoch.
    vector: Vector,
    has_news: bool,
    /// Up to where the reference log was held before the open epoch.
    reference_before: u64,
    /// The greatest epoch of which something came.
    newest: Epoch,
    ending: bool,
    /// Whether rows whose corrections are spread, or that are sent again, have no turn.
    is_resting: bool,
    key_bytes: Vec<u8>,
}

/// One latest view.
struct Latest {
    view: ViewId,
    key: Columns,
    order: Columns,
    /// The greatest row of each key.
    rows: Index,
    /// Rows that became the latest in this epoch, in order, and the places of the changes.
    new: Vec<(RowId, usize)>,
}

struct OfEpoch {
    changes: Changes,
    retired: Vec<(usize, VersionId)>,
    /// As they stand after it.
    vector: Vector,
    waiting_rows: u64,
    settled: u64,
}

/// An entry whose rows wait for corrections.
#[derive(Clone, Copy)]
struct Waiting {
    lookup: usize,
    entry: EntryId,
    /// The offset of the reference log at or past which the change stands that they wait for.
    since: u64,
}

/// How things stand after an epoch.
#[derive(Clone, Copy, Debug)]
pub struct After<'s> {
    /// Up to where it holds the inputs.
    pub vector: &'s Vector,
    /// How many rows wait for corrections, or to be sent again.
    pub waiting_rows: u64,
    /// The offset of the reference log below which no correction is owed.
    pub settled: u64,
}

/// Versions of a row, by lookup.
type Versions = SmallVec<[VersionId; 4]>;

/// Where the words of a row's header stand.
#[derive(Clone, Copy, Debug)]
struct Header {
    lookups: usize,
}

impl Header {
    fn words(self, latest_views: usize) -> usize {
        2 * self.lookups + latest_views.div_ceil(BITS)
    }

    /// The next older row that asks for the same key.
    fn older(self, lookup: usize) -> usize {
        lookup
    }

    /// The version that was last sent.
    fn sent(self, lookup: usize) -> usize {
        self.lookups + lookup
    }

    /// The word and bit that say whether the row is the latest of its key.
    fn is_latest(self, view: usize) -> (usize, u32) {
        (2 * self.lookups + view / BITS, 1 << (view % BITS))
    }
}

const BITS: usize = u32::BITS as usize;

impl State {
    /// Holds nothing yet. With `record`, what changes is kept until `release`.
    pub fn new(spec: &Arc<Spec>, record: bool) -> State {
        let of_view = |(place, view): (usize, &View)| match &view.kind {
            ViewKind::Latest { key, order } => Some(Latest {
                view: ViewId(place as u16),
                key: spec.event_columns(key),
                order: spec.event_columns(order),
                rows: Index::default(),
                new: Vec::new(),
            }),
            _ => None,
        };
        let latest: Vec<Latest> = spec.views.iter().enumerate().filter_map(of_view).collect();
        let header = Header { lookups: spec.lookups.len() };
        let views: Vec<ViewId> = latest.iter().map(|latest| latest.view).collect();
        State {
            json: RecordJson::new(Arc::clone(spec)),
            slab: Slab::new(header.words(latest.len())),
            lookups: spec.lookups.iter().map(|_| Documents::new()).collect(),
            tallies: Tallies::new(spec, &views),
            latest,
            header,
            waiting: VecDeque::new(),
            waiting_rows: 0,
            events: 0,
            first_of_epoch: None,
            changes: Changes::new(spec.lookups.len()),
            retired: Vec::new(),
            recorded: BTreeMap::new(),
            record_from: record.then_some(0),
            is_recording: record,
            is_unseen: false,
            resends: Resends::default(),
            copies: (spec.events.dedupe == DedupeBy::Shard).then(|| Copies::new(spec)),
            release: None,
            spare: Vec::new(),
            vector: Vector::new(),
            has_news: false,
            reference_before: 0,
            newest: 0,
            ending: false,
            is_resting: false,
            key_bytes: Vec::new(),
            spec: Arc::clone(spec),
        }
    }

    /// Begins (+1) or ends (-1) a document's claim.
    pub(super) fn claim(&mut self, claim: Claim, diff: Diff) {
        let Claim { lookup, key, document, row } = claim;
        let documents = &mut self.lookups[usize::from(lookup.0)];
        if diff > 0 {
            let fragments = self.json.fragments(lookup, &row);
            documents.claim(&key, document, Document { row, fragments });
        } else {
            documents.unclaim(&key, &document);
        }
    }

    /// Brings the documents to what all claims say; the rows of those that changed then wait.
    pub(super) fn settle_documents(&mut self) {
        let State { lookups, waiting, waiting_rows, spec, reference_before: since, .. } = self;
        for (place, documents) in lookups.iter_mut().enumerate() {
            documents.settle(|documents, id| {
                let entry = documents.entry_mut(id);
                if spec.corrections == Corrections::Never || entry.rows == 0 {
                    return;
                }
                entry.next_to_correct = entry.newest;
                *waiting_rows += u64::from(entry.rows - entry.left_to_correct);
                entry.left_to_correct = entry.rows;
                // One that waits already keeps its place.
                if !std::mem::replace(&mut entry.waits, true) {
                    waiting.push_back(Waiting { lookup: place, entry: id, since: *since });
                }
            });
        }
    }

    /// Takes an event that stands in its partition, with the documents as they are now.
    pub(super) fn admit(&mut self, event: &[u8]) {
        let Some(id) = self.hold(event) else { return };
        self.events += 1;
        self.first_of_epoch.get_or_insert(id);
        let versions = self.look_up(id, event);
        if self.is_recording {
            self.changes.push(Changed::Enriched, None, (id, &versions));
        }
        let State { lookups, tallies, .. } = self;
        let record = Held { event, lookups, versions: &versions };
        tallies.add(Changed::Enriched, &record, 1);
        for view in 0..self.latest.len() {
            self.rank(view, id, event, &versions);
        }
    }

    /// Links a row to the entries that it asks for; returns the versions that hold there.
    fn look_up(&mut self, id: RowId, event: &[u8]) -> Versions {
        let State { spec, lookups, slab, header, key_bytes, .. } = self;
        let corrected = spec.corrections == Corrections::Always;
        let mut versions = Versions::new();
        for (place, documents) in lookups.iter_mut().enumerate() {
            let lookup = LookupId(place as u16);
            if !spec.asks(lookup, event) {
                versions.push(VersionId::NONE);
                continue;
            }
            let named = spec.events.layout.get(event, spec.lookup(lookup).matches);
            key_bytes.clear();
            Key::append([named], key_bytes);
            let entry_id = documents.entry_of(key_bytes, Key::hash_of_bytes(key_bytes));
            let entry = documents.entry_mut(entry_id);
            let version = entry.version;
            entry.rows += 1;
            if corrected {
                slab.set_word(id, header.older(place), RowId::to_word(entry.newest));
                entry.newest = Some(id);
            }
            slab.set_word(id, header.sent(place), version.0);
            documents.hold(version);
            versions.push(version);
        }
        versions
    }

    /// Lets a new row be the latest of its key, where it is.
    fn rank(&mut self, view: usize, id: RowId, event: &[u8], versions: &[VersionId]) {
        let State { latest, slab, lookups, tallies, changes, header, .. } = self;
        let Latest { key, order, rows, new, .. } = &mut latest[view];
        let changed = Changed::Latest(view);
        let is_it = |number: u32| key.equal(row_of(slab, number), event);
        let before = match rows.place(key.hash(event), is_it) {
            Place::Free(place) => {
                place.insert(id.number());
                None
            }
            Place::Taken(held) => {
                // Equal keys of several partitions are told apart by the rest, in any order.
                let standing = row_of(slab, *held);
                let by_rest = || event.cmp(&standing[..event.len().min(standing.len())]);
                if order.compare(event, standing).then_with(by_rest).is_le() {
                    return;
                }
                RowId::from_word(std::mem::replace(held, id.number()))
            }
        };
        let (word, bit) = header.is_latest(view);
        slab.set_word(id, word, slab.word(id, word) | bit);
        tallies.add(changed, &Held { event, lookups, versions }, 1);
        let Some(before) = before else {
            if self.is_recording {
                new.push((id, changes.push(changed, None, (id, versions))));
            }
            return;
        };
        slab.set_word(before, word, slab.word(before, word) & !bit);
        let sent = versions_of(slab, *header, before);
        tallies.add(changed, &Held { event: slab.row(before), lookups, versions: &sent }, -1);
        if !self.is_recording {
            return;
        }
        let came_now = self.first_of_epoch.is_some_and(|first| !slab.is_older(before, first));
        let place = if came_now {
            let known = new.binary_search_by(|(row, _)| slab.order(*row, before));
            let (_, place) = new[known.expect("a row that is the latest since this epoch")];
            changes.replace_after(place, id, versions);
            place
        } else {
            changes.push(changed, Some((before, &sent)), (id, versions))
        };
        new.push((id, place));
    }

    /// Something came of an epoch, which may be far from complete; with `is_end`, that all are to
    /// end.
    pub(super) fn hear(&mut self, epoch: Epoch, is_end: bool) {
        self.newest = self.newest.max(epoch);
        self.ending |= is_end;
    }

    /// The greatest epoch of which something came.
    pub fn newest_epoch(&self) -> Epoch {
        self.newest
    }

    /// Whether some worker was asked to end.
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// The open epoch holds inputs up to these offsets.
    pub(super) fn reach(&mut self, bounds: Vec<(Input, Bound)>, at_end: Vec<PartitionId>) {
        self.has_news |= !bounds.is_empty();
        if let Some(release) = &mut self.release {
            release.reach(&bounds, &at_end);
        }
        self.vector.extend(bounds);
    }

    /// An epoch opens.
    pub(super) fn begin_epoch(&mut self, epoch: Epoch) {
        self.is_recording = self.record_from.is_some_and(|from| epoch >= from);
        self.reference_before = self.reference_bound();
    }

    fn reference_bound(&self) -> u64 {
        self.vector.get(&Input::Reference).map_or(0, |bound| bound.offset)
    }

    /// The offset of the reference log below which no correction is owed.
    fn settled(&self) -> u64 {
        let waiting = self.waiting.front().map(|waiting| waiting.since);
        let owed = self.resends.owed_from().into_iter().chain(waiting).min();
        owed.unwrap_or_else(|| self.reference_bound())
    }

    /// Sums nothing for the counts; from before the first event on.
    pub fn leave_out_counts(&mut self) {
        assert_eq!(self.events, 0, "nothing was counted");
        self.tallies.stop();
    }

    /// Whether rows whose corrections are spread, or that are sent again, are to wait: the sink has
    /// enough, and fresh events would come behind them.
    pub fn rest(&mut self, is_resting: bool) {
        self.is_resting = is_resting;
    }

    pub(super) fn is_resting(&self) -> bool {
        self.is_resting
    }

    /// How many rows wait for corrections.
    pub fn waiting_rows(&self) -> u64 {
        self.waiting_rows
    }

    /// The same, and those that are to be sent again.
    pub fn waiting(&self) -> u64 {
        self.waiting_rows + self.resends.left()
    }

    /// Corrects all rows that wait, and says nothing of it: all that a replay corrects is sent
    /// again when it is over.
    pub(super) fn correct_unseen(&mut self) {
        self.is_unseen = true;
        self.correct(u64::MAX);
        self.is_unseen = false;
    }

    /// Corrects rows that wait, at most so many, those first that waited longest.
    pub(super) fn correct(&mut self, most: u64) {
        let mut left = most.min(self.waiting_rows);
        self.has_news |= left > 0;
        while let Some(Waiting { lookup: place, entry: id, .. }) = self.waiting.front().copied() {
            let entry = self.lookups[place].entry_mut(id);
            let Some(row) = entry.next_to_correct else {
                entry.waits = false;
                self.lookups[place].forget_if_idle(id);
                self.waiting.pop_front();
                continue;
            };
            if left == 0 {
                return;
            }
            let older = RowId::from_word(self.slab.word(row, self.header.older(place)));
            entry.next_to_correct = older.filter(|older| self.slab.has(*older));
            entry.left_to_correct -= 1;
            self.waiting_rows -= 1;
            left -= 1;
            self.correct_row(row);
        }
    }

    /// Brings a row to the versions that hold now.
    fn correct_row(&mut self, row: RowId) {
        if self.is_past(row) {
            return;
        }
        let before = versions_of(&self.slab, self.header, row);
        let now = |(place, version): (usize, &VersionId)| self.lookups[place].current(*version);
        let after: Versions = before.iter().enumerate().map(now).collect();
        if before == after {
            return; // Another document's change brought it there.
        }
        let State {
            slab,
            lookups,
            tallies,
            changes,
            header,
            latest,
            resends,
            is_recording,
            is_unseen,
            ..
        } = &mut *self;
        let is_seen = *is_recording && !*is_unseen;
        let says = |place: usize, version| lookups[place].document(version).map(|d| &d.row);
        let mut places = 0..before.len();
        if places.any(|place| says(place, before[place]) != says(place, after[place])) {
            resends.corrected(row);
            let mut change = |changed| {
                let held = |versions| Held { event: slab.row(row), lookups, versions };
                tallies.add(changed, &held(&before), -1);
                tallies.add(changed, &held(&after), 1);
                if is_seen {
                    changes.push(changed, Some((row, &before)), (row, &after));
                }
            };
            change(Changed::Enriched);
            for view in 0..latest.len() {
                let (word, bit) = header.is_latest(view);
                if slab.word(row, word) & bit != 0 {
                    change(Changed::Latest(view));
                }
            }
        }
        for (place, documents) in self.lookups.iter_mut().enumerate() {
            let (old, new) = (before[place], after[place]);
            if old == new {
                continue;
            }
            self.slab.set_word(row, self.header.sent(place), new.0);
            documents.hold(new);
            if documents.release(old) {
                match self.is_recording {
                    true => self.retired.push((place, old)),
                    false => documents.free(old),
                }
            }
        }
    }

    /// Ends an epoch: keeps what it changed in records, and hands out what it adds to the counts.
    pub(super) fn end_epoch(&mut self, epoch: Epoch) -> impl Iterator<Item = (Group, Tally)> {
        self.first_of_epoch = None;
        self.resends.end_epoch();
        self.latest.iter_mut().for_each(|latest| latest.new.clear());
        if self.is_recording
            && (self.has_news || !self.changes.is_empty() || !self.retired.is_empty())
        {
            self.has_news = false;
            let lookups = self.lookups.len();
            let mut of_epoch = self.spare.pop().unwrap_or_else(|| OfEpoch {
                changes: Changes::new(lookups),
                retired: Vec::new(),
                vector: Vector::new(),
                waiting_rows: 0,
                settled: 0,
            });
            std::mem::swap(&mut of_epoch.changes, &mut self.changes);
            std::mem::swap(&mut of_epoch.retired, &mut self.retired);
            of_epoch.vector.clone_from(&self.vector);
            of_epoch.waiting_rows = self.waiting();
            of_epoch.settled = self.settled();
            let before = self.recorded.insert(epoch, of_epoch);
            assert!(before.is_none(), "an epoch ends once");
        }
        self.tallies.drain()
    }

    /// How things stood after a recorded epoch.
    pub fn progress(&self, epoch: Epoch) -> Option<After<'_>> {
        let OfEpoch { vector, waiting_rows, settled, .. } = self.recorded.get(&epoch)?;
        Some(After { vector, waiting_rows: *waiting_rows, settled: *settled })
    }

    /// The first epoch that brought something and was not released.
    pub fn first_recorded(&self) -> Option<Epoch> {
        self.recorded.first_key_value().map(|(epoch, _)| *epoch)
    }

    /// A sink took what an epoch changed.
    pub fn release(&mut self, epoch: Epoch) {
        let Some(mut of_epoch) = self.recorded.remove(&epoch) else { return };
        for (place, version) in of_epoch.retired.drain(..) {
            self.lookups[place].free(version);
        }
        of_epoch.changes.clear();
        self.spare.push(of_epoch);
    }

    /// How many events stand.
    pub fn events(&self) -> u64 {
        self.events
    }
}

fn row_of(slab: &Slab, number: u32) -> &[u8] {
    slab.row(RowId::from_word(number).expect("rows are never number 0"))
}

fn versions_of(slab: &Slab, header: Header, row: RowId) -> Versions {
    (0..header.lookups).map(|place| VersionId(slab.word(row, header.sent(place)))).collect()
}

/// A record put together for a moment.
struct Held<'h> {
    event: &'h [u8],
    lookups: &'h [Documents],
    versions: &'h [VersionId],
}

impl Joined for Held<'_> {
    fn event(&self) -> &[u8] {
        self.event
    }

    fn document(&self, lookup: LookupId) -> Option<&[u8]> {
        let place = usize::from(lookup.0);
        self.lookups[place].document(self.versions[place]).map(|document| document.row.bytes())
    }
}
