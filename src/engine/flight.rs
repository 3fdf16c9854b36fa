//! Flight: what was read of epochs that are not sealed yet.
//!
//! Shape: refused events with their reasons, and the bytes of those that were decoded; dead letters
//! of a sealed epoch out, in order.
//!
//! Invariants: an event's bytes are held until its epoch is sealed and no longer: only then is it
//! known whether its key was taken, and always then, since the first of a key came before it.

use std::collections::BTreeMap;

use crate::{
    source::{DeadLetter, PartitionId, Place, Reason, Refusal},
    time::Epoch,
};

/// Events of epochs that are not sealed.
#[derive(Debug, Default)]
pub(super) struct Flight {
    epochs: BTreeMap<Epoch, InEpoch>,
}

#[derive(Debug, Default)]
struct InEpoch {
    refused: Vec<DeadLetter>,
    decoded: BTreeMap<PartitionId, Decoded>,
}

/// The bytes of decoded events, one after the other, in order of offset.
#[derive(Debug, Default)]
struct Decoded {
    bytes: Vec<u8>,
    /// Offset of the event, and where its bytes end.
    ends: Vec<(u64, usize)>,
}

impl Flight {
    /// Remembers an event that is no record.
    pub(super) fn refuse(&mut self, epoch: Epoch, place: Place, refusal: Refusal, bytes: &[u8]) {
        let letter = DeadLetter { place, refusal, bytes: bytes.into() };
        self.epochs.entry(epoch).or_default().refused.push(letter);
    }

    /// Remembers the bytes of an event that was decoded.
    pub(super) fn hold(&mut self, epoch: Epoch, place: Place, bytes: &[u8]) {
        let decoded = &mut self.epochs.entry(epoch).or_default().decoded;
        let decoded = decoded.entry(place.partition).or_default();
        decoded.bytes.extend_from_slice(bytes);
        decoded.ends.push((place.offset, decoded.bytes.len()));
    }

    /// The first epoch before `frontier` of which something is remembered.
    pub(super) fn first_before(&self, frontier: Option<Epoch>) -> Option<Epoch> {
        let first = *self.epochs.first_key_value()?.0;
        frontier.is_none_or(|frontier| first < frontier).then_some(first)
    }

    /// The dead letters of a sealed epoch: those refused, and those whose key turned out taken.
    pub(super) fn land(&mut self, epoch: Epoch, taken: &[Place]) -> Vec<DeadLetter> {
        let InEpoch { mut refused, decoded } = self.epochs.remove(&epoch).unwrap_or_default();
        refused.extend(taken.iter().map(|place| {
            DeadLetter {
                place: *place,
                refusal: Reason::KeyTaken.into(),
                bytes: decoded
                    .get(&place.partition)
                    .and_then(|decoded| decoded.event(place.offset))
                    .expect("a taken event was decoded here in this epoch")
                    .into(),
            }
        }));
        refused.sort_by_key(|letter| letter.place);
        refused
    }
}

impl Decoded {
    fn event(&self, offset: u64) -> Option<&[u8]> {
        let place = self.ends.binary_search_by_key(&offset, |(offset, _)| *offset).ok()?;
        let start = if place == 0 { 0 } else { self.ends[place - 1].1 };
        Some(&self.bytes[start..self.ends[place].1])
    }
}
