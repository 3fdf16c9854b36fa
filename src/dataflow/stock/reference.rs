//! The reference of a lookup: by key the one document that has it.
//!
//! Shape: claims of all lookups in; `(Key, Row)` of one lookup out, at most one a key.
//!
//! Invariants: of several documents that claim a key the smallest `_id` has it, whatever came
//! first; when it lets go, the next has it at the same epoch.

use super::Collection;
use crate::{
    reference::Claim,
    row::{Key, LookupId, Row},
};

/// The documents of a lookup by their keys.
pub(super) fn reference<'s>(
    claims: Collection<'s, Claim>,
    lookup: LookupId,
) -> Collection<'s, (Key, Row)> {
    claims
        .filter(move |claim| claim.lookup == lookup)
        .map(|Claim { key, document, row, .. }| (key, (document, row)))
        .reduce_named("Reference", |_key, by_id, holder| {
            let ((_, row), _) = &by_id[0];
            holder.push((row.clone(), 1));
        })
}
