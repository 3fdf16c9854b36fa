//! A feed that is held: what it would do waits for the operator's word.
//!
//! Shape: a collection that is another one, or a difference that deletes too much, in; the word for
//! it out, or that it is over by itself.
//!
//! Invariants: nothing is written but the mark, which says what it is held for; the word is for
//! what the mark said, and for that collection.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use serde_json::Value;
use tracing::{info, warn};

use super::{
    super::{Desk, FeedError, System, Tally, Trouble, health::now},
    Following,
};
use crate::reference::log::{Hold, Why};

/// While it is held: between looks whether the word was given, whether it is that collection still,
/// and counts of what would be written.
const BETWEEN_LOOKS_HELD: Duration = Duration::from_secs(1);
const BETWEEN_IDENTITIES: Duration = Duration::from_secs(5);
const BETWEEN_COUNTS: Duration = Duration::from_secs(60);
const BETWEEN_COUNTS_MAX: Duration = Duration::from_secs(60 * 60);

/// What the operator has given the word for: so many deletions, and whatever else it is.
pub(super) struct Accepted {
    /// Of this collection; of any, where it was given beforehand.
    pub(super) identity: Option<Value>,
    pub(super) deletions: u64,
}

impl Accepted {
    pub(super) fn is_of(&self, identity: &Value) -> bool {
        self.identity.as_ref().is_none_or(|accepted| accepted == identity)
    }
}

impl Following<'_> {
    /// Waits until the operator has given the word, or it is another collection again.
    pub(super) fn hold(
        &mut self,
        why: Why,
        identity: &Value,
        system: &mut dyn System,
        desk: &mut Desk<'_>,
    ) -> Result<(), Trouble> {
        self.owes = true;
        loop {
            let begun = Instant::now();
            let Tally { upserts, deletions, held } =
                desk.count(|desk| self.compare_alone(identity, system, desk))?;
            self.answered(desk);
            let mut spent = desk.mark().spent;
            let lets = self.feed.guard.pass(deletions, held, &mut spent, now());
            if why == Why::Deletions && lets.is_ok() {
                desk.mark().hold = None;
                return Ok(self.write_mark(desk)?);
            }
            let is_same = |hold: &Hold| hold.why == why && hold.identity == *identity;
            let before = desk.mark().hold.take().filter(is_same);
            let (id, since) = match before {
                Some(hold) => (hold.id, hold.since),
                None => (format!("{:08x}", RandomState::new().hash_one(now()) as u32), now()),
            };
            let hold = Hold {
                id: id.clone(),
                why,
                identity: identity.clone(),
                since,
                upserts,
                deletions,
                held,
            };
            desk.mark().hold = Some(hold.clone());
            self.write_mark(desk)?;
            if self.was_accepted(&id, identity, desk)? {
                return Ok(());
            }
            let source_name = self.feed.log.source.clone();
            if self.feed.once {
                return Err(FeedError::Held { source_name, hold: Box::new(hold) }.into());
            }
            warn!(
                source = source_name,
                hold = id,
                "is held, and nothing is written until `tributary accept` gives the word: {hold}"
            );
            let (counted, mut asked) = (Instant::now(), Instant::now());
            let between = (10 * (counted - begun)).clamp(BETWEEN_COUNTS, BETWEEN_COUNTS_MAX);
            while counted.elapsed() < between {
                desk.mark_when_due()?;
                if self.was_accepted(&id, identity, desk)? {
                    return Ok(());
                }
                self.sleep(BETWEEN_LOOKS_HELD, desk);
                if self.is_to_end() {
                    return Err(Trouble::Other);
                }
                if asked.elapsed() >= BETWEEN_IDENTITIES {
                    let now = system.identity()?;
                    if !system.is_same(&now, identity) {
                        return Err(Trouble::Other);
                    }
                    asked = Instant::now();
                }
            }
        }
    }

    /// Whether the operator has given the word for a hold; takes it then.
    pub(super) fn was_accepted(
        &mut self,
        hold: &str,
        identity: &Value,
        desk: &mut Desk<'_>,
    ) -> Result<bool, FeedError> {
        let Some(word) = desk.word()?.filter(|word| word.accepts == hold) else {
            return Ok(false);
        };
        let (identity, deletions) = (Some(identity.clone()), word.deletions);
        info!(source = self.feed.log.source, hold, "the word was given");
        self.accepted = Some(Accepted { identity, deletions });
        Ok(true)
    }
}
