//! What a sink sees of the state: what an epoch changed in records, and the records that stand.
//!
//! Shape: rows and versions where they are held; events, documents and JSON out.
//!
//! Not here: how a record looks (`json`).

use super::State;
use crate::{
    dataflow::{
        fused::{
            changes::{Changed, Sent},
            documents::{Document, VersionId},
        },
        slab::RowId,
    },
    row::{Columns, Joined, LookupId},
    spec::{ViewId, ViewKind},
    time::Epoch,
};

/// What a sink sees of a change.
#[derive(Clone)]
pub struct RecordChange<'s> {
    /// The latest view; `None` means every enriched view.
    pub latest: Option<ViewId>,
    /// What stood there; `None` where nothing did.
    pub before: Option<RecordRef<'s>>,
    /// What stands there now.
    pub after: RecordRef<'s>,
}

impl RecordChange<'_> {
    /// The views that change; `enriched` are those that show every record.
    pub fn views<'v>(&'v self, enriched: &'v [ViewId]) -> &'v [ViewId] {
        self.latest.as_ref().map_or(enriched, std::slice::from_ref)
    }
}

/// A record where it is held.
#[derive(Clone)]
pub struct RecordRef<'s> {
    state: &'s State,
    row: RowId,
    /// The versions that are meant; `None` for those in the row's header.
    sent: Option<Sent<'s>>,
}

impl State {
    /// What an epoch changed in records.
    pub fn changes(&self, epoch: Epoch) -> impl Iterator<Item = RecordChange<'_>> {
        let of_epoch = self.recorded.get(&epoch);
        of_epoch.into_iter().flat_map(|of_epoch| of_epoch.changes.iter()).map(
            move |(changed, before, after)| RecordChange {
                latest: match changed {
                    Changed::Enriched => None,
                    Changed::Latest(view) => Some(self.latest[view].view),
                },
                before: before.map(|sent| RecordRef {
                    state: self,
                    row: sent.row,
                    sent: Some(sent),
                }),
                after: RecordRef { state: self, row: after.row, sent: Some(after) },
            },
        )
    }

    /// How many records stand in all views of records together.
    pub fn rows(&self) -> u64 {
        let views = self.spec.views.iter().map(|view| &view.kind);
        let enriched = views.filter(|kind| matches!(kind, ViewKind::Enriched)).count() as u64;
        let latest = self.latest.iter().map(|latest| latest.rows.len() as u64).sum::<u64>();
        enriched * self.events + latest
    }

    /// The records that stand in a view, in the order of its key; none of a view of counts.
    pub fn records(&self, view: ViewId) -> Vec<RowId> {
        let latest = self.latest.iter().find(|latest| latest.view == view);
        let layout = &self.spec.events.layout;
        let event_key = self.spec.event_columns(&[self.spec.events.key]);
        let (key, rows): (&Columns, Vec<RowId>) = match (&self.spec.view(view).kind, latest) {
            (ViewKind::Enriched, _) => {
                (&event_key, self.slab.iter(|row| layout.row_bytes(row)).collect())
            }
            (_, Some(latest)) => {
                (&latest.key, latest.rows.iter().filter_map(RowId::from_word).collect())
            }
            _ => return Vec::new(),
        };
        let row = |id: &RowId| self.slab.row(*id);
        let mut ordered: Vec<(u64, RowId)> =
            rows.into_iter().map(|id| (key.prefix(row(&id)), id)).collect();
        ordered.sort_unstable_by(|(prefix_a, a), (prefix_b, b)| {
            prefix_a.cmp(prefix_b).then_with(|| key.compare(row(a), row(b)))
        });
        ordered.into_iter().map(|(_, id)| id).collect()
    }

    /// A record as it stands.
    pub fn record(&self, row: RowId) -> RecordRef<'_> {
        RecordRef { state: self, row, sent: None }
    }
}

impl RecordRef<'_> {
    /// Appends the record as one JSON object.
    pub fn json(&self, out: &mut Vec<u8>) {
        self.state.json.write(self, |lookup| self.found(lookup), out);
    }

    fn found(&self, lookup: LookupId) -> Option<&Document> {
        let State { slab, header, lookups, .. } = self.state;
        let place = usize::from(lookup.0);
        let version = match &self.sent {
            Some(sent) => sent.version(place),
            None => VersionId(slab.word(self.row, header.sent(place))),
        };
        lookups[place].document(version)
    }
}

impl Joined for RecordRef<'_> {
    fn event(&self) -> &[u8] {
        self.state.slab.row(self.row)
    }

    fn document(&self, lookup: LookupId) -> Option<&[u8]> {
        self.found(lookup).map(|document| document.row.bytes())
    }
}
