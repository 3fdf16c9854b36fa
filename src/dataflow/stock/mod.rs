//! The dataflow in stock differential operators: the second implementation, plain enough to be
//! believed, with which `dataflow::fused` agrees at every epoch.
//!
//! Shape: events and claims in; a collection for each view of records, one of all counts, and the
//! places of events whose key is taken, out.
//!
//! Invariants: all that runs is named here, a line a node. It costs many times what the fused
//! operator does (docs/benchmarks.md).

mod dedupe;
mod enrich;
mod latest;
mod reference;

use std::sync::Arc;

use differential_dataflow::operators::CountTotal;
use serde::{Deserialize, Serialize};

use self::{dedupe::dedupe, enrich::enrich, latest::keep_latest, reference::reference};
use super::{
    Collection, CountsRow,
    count::{self, Group, Tally, counted},
};
use crate::{
    reference::Claim,
    row::{LookupId, Record, Row},
    source::Place,
    spec::{OutputId, Spec, ViewId, ViewKind},
};

/// A decoded event and where it stood.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Event {
    /// Its partition and offset.
    pub place: Place,
    /// Its columns.
    pub row: Row,
}

/// What comes out of a dataflow.
pub struct Views<'s> {
    /// By `ViewId`; `None` for counts.
    pub records: Vec<Option<Collection<'s, Record>>>,
    /// The rows of all views of counts.
    pub counts: Collection<'s, CountsRow>,
    /// Events that say something else under a key that is taken.
    pub taken: Collection<'s, Place>,
}

/// Builds a spec's dataflow over its inputs.
pub fn build<'s>(
    spec: &Arc<Spec>,
    events: Collection<'s, Event>,
    claims: Collection<'s, Claim>,
) -> Views<'s> {
    let (standing, taken) = dedupe(spec, events);
    let lookups = spec.lookups.len();
    let bare = standing.map(move |row| Record::bare(row, lookups));
    let enriched = (0..lookups as u16).map(LookupId).fold(bare, |records, lookup| {
        let documents = reference(claims.clone(), lookup);
        enrich(spec, records, documents, lookup)
    });
    // Consolidated once here, so that no view sees a record come and go within an epoch.
    let enriched = enriched.consolidate();
    let records: Vec<Option<Collection<'s, Record>>> = spec
        .views
        .iter()
        .map(|view| match &view.kind {
            ViewKind::Enriched => Some(enriched.clone()),
            ViewKind::Latest { key, order } => {
                Some(keep_latest(spec, enriched.clone(), key, order))
            }
            ViewKind::Counts { .. } => None,
        })
        .collect();
    let nothing = enriched.filter(|_| false).explode(|_| None::<(Group, Tally)>);
    let tallies = spec.views.iter().enumerate().filter_map(|(place, view)| {
        let ViewKind::Counts { of, by, numbers } = &view.kind else { return None };
        let counted_view = records[usize::from(of.0)].clone();
        let counted_view = counted_view.expect("counts are of a view of records: `spec::resolve`");
        let (spec, by, numbers) = (Arc::clone(spec), by.clone(), numbers.clone());
        Some(counted_view.explode(move |record| {
            let value = |column: &OutputId| spec.value(&record, *column).map(|value| value.owned());
            let mut tally = Tally::zeros(numbers.len());
            counted(&spec, &numbers, &record, 1, &mut tally);
            let values = by.iter().map(value).collect();
            Some((Group { view: ViewId(place as u16), values }, tally))
        }))
    });
    let tallies = nothing.concatenate(tallies.collect::<Vec<_>>());
    let counts = tallies.count_total().map(|(group, tally)| count::row(&group, &tally));
    Views { records, counts, taken }
}
