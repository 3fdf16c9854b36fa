//! The graph: which operators a spec becomes.
//!
//! Shape: events and claims in; a collection for each view, and the places of events whose key is
//! taken, out.
//!
//! Invariants: all that runs is named here, a line a node.

use std::sync::Arc;

use super::{
    Collection, Event, ViewRow, count::count, dedupe::dedupe, enrich::enrich, latest::keep_latest,
    reference::reference,
};
use crate::{
    reference::Claim,
    row::{LookupId, Record},
    source::Place,
    spec::{Spec, ViewKind},
};

/// What comes out of a dataflow.
pub struct Views<'s> {
    /// By `ViewId`.
    pub views: Vec<Collection<'s, ViewRow>>,
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
    let views = spec.views.iter().zip(&records).map(|(view, shown)| match (&view.kind, shown) {
        (ViewKind::Counts { of, by, numbers }, _) => {
            let counted = records[usize::from(of.0)].clone();
            let counted = counted.expect("counts are of a view of records: checked with the spec");
            count(spec, counted, by, numbers).map(ViewRow::Counts)
        }
        (_, shown) => shown.clone().expect("it is a view of records").map(ViewRow::Record),
    });
    Views { views: views.collect(), taken }
}
