//! Enrichment: records joined with the document that they name in one lookup.
//!
//! Shape: records and `(Key, Row)` in; the same records out, with the document where one is known.
//!
//! Invariants: every record stands in the output exactly once, at every epoch, matched or not (P1);
//! with corrections a change of a document corrects all its records at the epoch of the change
//! (P3).
//!
//! Not here: which of two documents has a key (`dataflow::stock::reference`).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use differential_dataflow::{AsCollection, Hashable, consolidation::consolidate};
use timely::dataflow::{
    channels::pact::Exchange,
    operators::{Capability, generic::Operator},
};

use crate::{
    dataflow::{Collection, Diff},
    row::{Joined, Key, LookupId, Record, Row},
    spec::{Corrections, Spec},
    time::Epoch,
};

/// Records joined with the document of one lookup; `documents` holds at most one a key, since two
/// would double a record. Records that ask for none pass by.
pub(super) fn enrich<'s>(
    spec: &Arc<Spec>,
    records: Collection<'s, Record>,
    documents: Collection<'s, (Key, Row)>,
    lookup: LookupId,
) -> Collection<'s, Record> {
    let (asking, silent) = (Arc::clone(spec), Arc::clone(spec));
    let asks = records.clone().flat_map(move |record| {
        let key = asking.lookup_key(lookup, record.event())?;
        Some((key, record))
    });
    let silent = records.filter(move |record| !silent.asks(lookup, record.event()));
    let enriched = match spec.corrections {
        Corrections::Always => join_always(asks, documents, lookup),
        Corrections::Never => join_once(asks, documents, lookup),
    };
    enriched.concat(silent)
}

/// Joins with the documents as they stand: history follows the reference.
fn join_always<'s>(
    asking: Collection<'s, (Key, Record)>,
    documents: Collection<'s, (Key, Row)>,
    lookup: LookupId,
) -> Collection<'s, Record> {
    let matched = asking.clone().arrange_by_key_named("Enrich: records").join_core(
        documents.arrange_by_key_named("Enrich: documents"),
        |_key, record, document| Some((record.clone(), document.clone())),
    );
    // A left join is spelled "all, less those matched, plus those matched with their document": a
    // plain join would drop the unmatched, and losing an event is the one thing that must not be.
    let all = asking.map(|(_key, record)| record);
    let replaced = matched.clone().map(|(record, _document)| record).negate();
    let found = matched.map(move |(record, document)| record.with_document(lookup, &document));
    all.concatenate([replaced, found])
}

/// Joins with the documents as they are known when a record arrives; a record is decided once and
/// never corrected. Documents of an epoch are known to the records of that epoch.
fn join_once<'s>(
    asking: Collection<'s, (Key, Record)>,
    documents: Collection<'s, (Key, Row)>,
    lookup: LookupId,
) -> Collection<'s, Record> {
    let joined = asking.inner.binary_frontier(
        documents.inner,
        Exchange::new(|((key, _), _, _): &((Key, Record), Epoch, Diff)| key.hashed()),
        Exchange::new(|((key, _), _, _): &((Key, Row), Epoch, Diff)| key.hashed()),
        "JoinOnce",
        |_capability, _info| {
            let mut waiting: BTreeMap<Epoch, Waiting> = BTreeMap::new();
            let mut known: HashMap<Key, Row> = HashMap::new();
            move |(records, records_frontier), (documents, documents_frontier), output| {
                // A message may hold updates of several epochs: each waits for its own.
                records.for_each(|capability, batch| {
                    let Some(capability) = capability.retain_least(0) else { return };
                    for (record, epoch, diff) in batch.drain(..) {
                        let entry = Waiting::at(&mut waiting, &capability, epoch);
                        entry.records.push((record, epoch, diff));
                    }
                });
                documents.for_each(|capability, batch| {
                    let Some(capability) = capability.retain_least(0) else { return };
                    for (document, epoch, diff) in batch.drain(..) {
                        let entry = Waiting::at(&mut waiting, &capability, epoch);
                        entry.documents.push((document, epoch, diff));
                    }
                });
                while let Some(entry) = waiting.first_entry() {
                    let epoch = *entry.key();
                    if records_frontier.less_equal(&epoch) || documents_frontier.less_equal(&epoch)
                    {
                        break;
                    }
                    let Waiting { capability, records, documents } = entry.remove();
                    apply(&mut known, documents);
                    let mut session = output.session(&capability);
                    for ((key, record), epoch, diff) in records {
                        let found = known.get(&key).map(|row| record.with_document(lookup, row));
                        session.give((found.unwrap_or(record), epoch, diff));
                    }
                }
            }
        },
    );
    joined.as_collection()
}

/// What an epoch brought while it can still bring more.
struct Waiting {
    capability: Capability<Epoch>,
    records: Vec<((Key, Record), Epoch, Diff)>,
    documents: Vec<((Key, Row), Epoch, Diff)>,
}

impl Waiting {
    fn at<'w>(
        waiting: &'w mut BTreeMap<Epoch, Waiting>,
        capability: &Capability<Epoch>,
        epoch: Epoch,
    ) -> &'w mut Waiting {
        waiting.entry(epoch).or_insert_with(|| Waiting {
            capability: capability.delayed(&epoch),
            records: Vec::new(),
            documents: Vec::new(),
        })
    }
}

/// Brings the known documents to the end of an epoch.
fn apply(known: &mut HashMap<Key, Row>, updates: Vec<((Key, Row), Epoch, Diff)>) {
    let mut changes: Vec<((Key, Row), Diff)> =
        updates.into_iter().map(|(document, _, diff)| (document, diff)).collect();
    consolidate(&mut changes);
    // What ends goes first: a key that passes from one document to another has both in one epoch.
    changes.sort_by_key(|(_, diff)| *diff);
    for ((key, row), diff) in changes {
        if diff > 0 {
            known.insert(key, row);
        } else {
            known.remove(&key);
        }
    }
}
