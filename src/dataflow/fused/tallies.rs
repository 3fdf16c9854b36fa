//! What an epoch adds to the counts, summed by group before it leaves the worker.
//!
//! Shape: records that come (+1) and go (-1) in; of each group the sum out, at the epoch's end.
//!
//! Not here: the counts themselves (`dataflow::count`).

use std::sync::Arc;

use hashbrown::HashTable;

use super::changes::Changed;
use crate::{
    dataflow::count::{Group, Tally, counted},
    row::{Joined, Key},
    spec::{OutputId, Spec, ViewId, ViewKind, plan::CountColumn},
};

/// The sums of the open epoch.
pub(super) struct Tallies {
    spec: Arc<Spec>,
    /// Views of counts over every record.
    of_enriched: Vec<CountsView>,
    /// Views of counts over latest ones, by position among the latest views.
    of_latest: Vec<Vec<CountsView>>,
    places: HashTable<usize>,
    groups: Vec<Sum>,
    group_bytes: Vec<u8>,
}

struct CountsView {
    view: ViewId,
    by: Vec<OutputId>,
    numbers: Vec<CountColumn>,
}

struct Sum {
    bytes: Box<[u8]>,
    group: Group,
    tally: Tally,
}

impl Tallies {
    pub(super) fn new(spec: &Arc<Spec>, latest: &[ViewId]) -> Tallies {
        let counts_over = |is_counted: &dyn Fn(ViewId) -> bool| {
            let views = spec.views.iter().enumerate();
            let counts = views.filter_map(|(place, view)| match &view.kind {
                ViewKind::Counts { of, by, numbers } if is_counted(*of) => Some(CountsView {
                    view: ViewId(place as u16),
                    by: by.clone(),
                    numbers: numbers.clone(),
                }),
                _ => None,
            });
            counts.collect()
        };
        let is_enriched = |of| matches!(spec.view(of).kind, ViewKind::Enriched);
        Tallies {
            of_enriched: counts_over(&is_enriched),
            of_latest: latest.iter().map(|view| counts_over(&|of| of == *view)).collect(),
            places: HashTable::new(),
            groups: Vec::new(),
            group_bytes: Vec::new(),
            spec: Arc::clone(spec),
        }
    }

    /// Sums nothing any more.
    pub(super) fn stop(&mut self) {
        self.of_enriched.clear();
        self.of_latest.iter_mut().for_each(Vec::clear);
    }

    /// A record comes into a view, or goes from it.
    pub(super) fn add(&mut self, changed: Changed, record: &impl Joined, times: i64) {
        let Tallies { spec, of_enriched, of_latest, places, groups, group_bytes } = self;
        let counts = match changed {
            Changed::Enriched => of_enriched,
            Changed::Latest(view) => &mut of_latest[view],
        };
        for CountsView { view, by, numbers } in counts {
            group_bytes.clear();
            group_bytes.extend_from_slice(&view.0.to_le_bytes());
            Key::append(by.iter().map(|column| spec.value(record, *column)), group_bytes);
            let hash = Key::hash_of_bytes(group_bytes);
            let rehash = |place: &usize| Key::hash_of_bytes(&groups[*place].bytes);
            let is_it = |place: &usize| *groups[*place].bytes == **group_bytes;
            let found = places.find(hash, is_it).copied();
            let place = found.unwrap_or(groups.len());
            if found.is_none() {
                places.insert_unique(hash, place, rehash);
                let values = by.iter().map(|column| spec.value(record, *column));
                groups.push(Sum {
                    bytes: group_bytes.as_slice().into(),
                    group: Group {
                        view: *view,
                        values: values.map(|v| v.map(|v| v.owned())).collect(),
                    },
                    tally: Tally::zeros(numbers.len()),
                });
            }
            counted(spec, numbers, record, times, &mut groups[place].tally);
        }
    }

    /// Hands out the sums that are not nothing, and begins anew.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Group, Tally)> {
        self.places.clear();
        let sums = self.groups.drain(..).map(|Sum { group, tally, .. }| (group, tally));
        sums.filter(|(_, tally)| !tally.is_nothing())
    }
}
