//! What a feed does: compares all, looks what is new, and waits for a word where it must.
//!
//! Shape: a system in; what it says, written to the log, out.
//!
//! Invariants: of a collection that is another one than the log is of, and of a difference that
//! deletes more than the guard lets, nothing is written until the operator has given the word for
//! just that; a system that fails is asked again, less and less often.

mod hold;

use std::{
    mem,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tracing::{debug, info, warn};

use self::hold::Accepted;
use super::{Desk, Fed, Feed, FeedError, Health, System, SystemError, Trouble, health::now};
use crate::reference::{log::Why, reconcile::TooMany};

/// Between tries of a system that fails: the first, and the longest.
const BETWEEN_TRIES_MIN: Duration = Duration::from_millis(500);
const BETWEEN_TRIES_MAX: Duration = Duration::from_secs(30);

/// The longest that it waits where a system says when it may be asked again.
const ASKED_TO_WAIT_MAX: Duration = Duration::from_secs(15 * 60);

/// How often a system may fail one time after the other where the feed is to end by itself.
const FAILURES_MAX: u32 = 5;

/// The longest until it looks again amid a comparison after a look that took long to fail.
const BETWEEN_LOOKS_MAX: Duration = Duration::from_secs(10 * 60);

/// How often it looks whether who is missed has come back, before it compares all for that.
const LOOKS_IN_HASTE: u32 = 3;

/// Between words that a system still fails.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

/// The longest that it sleeps in one piece.
const NAP: Duration = Duration::from_millis(50);

/// A feed at its work.
pub(super) struct Following<'f> {
    feed: &'f Feed,
    end: &'f AtomicBool,
    health: &'f Health,
    told: &'f dyn Fn(Fed),
    /// What the operator has given the word for.
    accepted: Option<Accepted>,
    /// How often the system failed one time after the other.
    failures: u32,
    warned: Option<(Instant, SystemError)>,
    /// When it is to look again what is new, amid a comparison, and whether the last look failed.
    look_at: Instant,
    look_fails: bool,
    /// Whether it may still go on from where an earlier feed has come.
    may_resume: bool,
    /// Whether something was counted and is not written yet: what the system takes as known the log
    /// does not hold.
    owes: bool,
}

/// Whether a look came to nothing since the system failed.
fn fails(looked: &Result<bool, Trouble>) -> bool {
    matches!(looked, Err(Trouble::System(_)))
}

impl<'f> Following<'f> {
    pub(super) fn new(
        feed: &'f Feed,
        end: &'f AtomicBool,
        health: &'f Health,
        told: &'f dyn Fn(Fed),
    ) -> Following<'f> {
        let any = Accepted { identity: None, deletions: u64::MAX };
        let accepted = feed.accepted.then_some(any);
        Following {
            feed,
            end,
            health,
            told,
            accepted,
            failures: 0,
            warned: None,
            look_at: Instant::now(),
            look_fails: false,
            may_resume: true,
            owes: false,
        }
    }

    pub(super) fn run(mut self, system: &mut dyn System) -> Result<Fed, FeedError> {
        let mut desk = {
            let Feed { spec, log, accepted, .. } = self.feed;
            Desk::take_over(spec, (log, self.health), self.end, *accepted)?
        };
        system.begin();
        let ended = loop {
            if self.is_to_end() {
                break Ok(());
            }
            let ended = match self.follow(system, &mut desk) {
                Ok(()) => break Ok(()),
                // Which collection it is now is asked again.
                Err(Trouble::Other) => Ok(()),
                Err(Trouble::System(error)) => self.bear(error, &mut desk),
                Err(Trouble::Feed(error)) => Err(error),
            };
            match ended {
                Ok(()) => {}
                Err(error @ (FeedError::Held { .. } | FeedError::System(_))) => break Err(error),
                // It has no place in the log any more.
                Err(error) => return Err(error),
            }
        };
        // One that it took over from need not wait until it is silent.
        desk.mark().has_ended = true;
        if let Err(error) = self.write_mark(&mut desk) {
            debug!("cannot say in the log that it has ended: {error}");
        }
        ended.map(|()| desk.fed())
    }

    /// Compares all, then looks what is new, until it is to end.
    fn follow(&mut self, system: &mut dyn System, desk: &mut Desk<'_>) -> Result<(), Trouble> {
        let identity = system.identity()?;
        // The word is for one collection, and this may be the next.
        self.accepted = self.accepted.take().filter(|accepted| accepted.is_of(&identity));
        let known = &desk.mark().identity;
        let is_other = !known.is_null() && !system.is_same(known, &identity);
        // What it does not say today is as it was.
        let identity = if is_other { identity } else { system.completed(identity, known) };
        if is_other && self.accepted.is_none() {
            self.hold(Why::OtherCollection, &identity, system, desk)?;
        } else if let Some(hold) = desk.mark().hold.clone()
            && hold.identity == identity
            && self.accepted.is_none()
        {
            // Held when it ended: the word may have been given meanwhile.
            self.was_accepted(&hold.id, &identity, desk)?;
        }
        let mark = desk.mark();
        if mem::take(&mut self.may_resume) && mark.complete && mark.identity == identity {
            let positions = mark.positions.clone();
            system.resume(&identity, &positions);
        }
        if !self.compare(&identity, system, desk)? {
            return Ok(());
        }
        let is_over = desk.held().missed() == 0 || self.accepted.is_some();
        let mark = desk.mark();
        mark.complete = true;
        // A word is used up, also where who it was given for has come back.
        if is_over {
            mark.hold = None;
        }
        mark.identity = identity.clone();
        mark.positions = system.positions();
        (self.accepted, self.owes) = (None, false);
        self.write_mark(desk)?;
        (self.told)(desk.fed());
        let mut compared = Instant::now();
        while !self.is_to_end() {
            let looked = system.look(desk);
            self.look_fails = fails(&looked);
            let pause = match looked {
                Ok(is_new) => {
                    self.look_at = Instant::now() + self.feed.between_looks;
                    desk.flush()?;
                    desk.mark().positions = system.positions();
                    if system.tells_who_comes_back() {
                        self.delete_missed(&identity, system, desk)?;
                    }
                    self.answered(desk);
                    if self.feed.once && !is_new {
                        break;
                    }
                    if is_new { Duration::ZERO } else { self.feed.between_looks }
                }
                // What was taken of it is known; it is compared when that is due, not for this.
                Err(Trouble::System(error)) => {
                    desk.flush()?;
                    self.bear(error, desk)?;
                    Duration::ZERO
                }
                Err(trouble) => return Err(trouble),
            };
            let is_blind = self.look_fails || !system.tells_who_comes_back();
            let between = match is_blind && desk.held().missed() > 0 {
                // Nothing but a comparison can tell whether they have come back.
                true => Some(self.feed.grace),
                false => self.feed.between_comparisons,
            };
            if between.is_some_and(|between| compared.elapsed() >= between) {
                self.compare(&identity, system, desk)?;
                compared = Instant::now();
            }
            self.sleep(pause, desk);
        }
        Ok(())
    }

    /// Compares all, and writes what is other; returns whether it came to its end.
    fn compare(
        &mut self,
        identity: &Value,
        system: &mut dyn System,
        desk: &mut Desk<'_>,
    ) -> Result<bool, Trouble> {
        if !self.compare_pages(identity, system, desk)? {
            return Ok(false);
        }
        // One that ends, and one that was given the word, has no later look that could tell who has
        // come back.
        let is_last = self.feed.once || self.accepted.is_some();
        if is_last && !self.outlast_grace(identity, system, desk)? {
            return Ok(false);
        }
        self.delete_missed(identity, system, desk)?;
        desk.mark().state.compared = now();
        self.answered(desk);
        Ok(true)
    }

    /// Compares all, and writes what is new or other; returns whether it came to its end.
    fn compare_pages(
        &mut self,
        identity: &Value,
        system: &mut dyn System,
        desk: &mut Desk<'_>,
    ) -> Result<bool, Trouble> {
        system.compare(identity, desk)?;
        loop {
            // What changes is not to wait until all is compared, nor for a comparison that fails.
            if Instant::now() >= self.look_at {
                self.look_amid(identity, system, desk)?;
            }
            if self.compare_on(system, desk)? {
                break;
            }
            failpoint!("comparison-step");
            desk.flush()?;
            if self.is_to_end() {
                return Ok(false);
            }
        }
        desk.flush()?;
        Ok(!self.is_to_end())
    }

    /// Goes on with a comparison; returns whether it is at its end. One that fails goes on from its
    /// place, where the system keeps that.
    fn compare_on(
        &mut self,
        system: &mut dyn System,
        desk: &mut Desk<'_>,
    ) -> Result<bool, Trouble> {
        let before = desk.fed();
        match system.compare_on(desk) {
            Err(Trouble::System(error)) if system.keeps_its_place() => self.bear(error, desk)?,
            Ok(false) if self.failures > 0 && desk.fed() != before => self.answered(desk),
            Ok(false) => {}
            ended => return ended,
        }
        Ok(false)
    }

    /// Compares all and looks at nothing meanwhile, unless it is to end.
    fn compare_alone(
        &mut self,
        identity: &Value,
        system: &mut dyn System,
        desk: &mut Desk<'_>,
    ) -> Result<(), Trouble> {
        system.compare(identity, desk)?;
        while !self.compare_on(system, desk)? {
            failpoint!("count-step");
            desk.mark_when_due()?;
            if desk.is_to_end() {
                return Err(Trouble::Other);
            }
        }
        Ok(())
    }

    /// Looks what is new amid a comparison, which is not to wait for a look that fails.
    fn look_amid(
        &mut self,
        identity: &Value,
        system: &mut dyn System,
        desk: &mut Desk<'_>,
    ) -> Result<(), Trouble> {
        let begun = Instant::now();
        let looked = system.look(desk);
        self.look_fails = fails(&looked);
        // One that fails only after long is not to take all the time.
        let least = if looked.is_ok() { Duration::ZERO } else { 10 * begun.elapsed() };
        let least = least.min(BETWEEN_LOOKS_MAX);
        self.look_at = Instant::now() + self.feed.between_looks.max(least);
        match looked {
            Ok(_) => {
                desk.flush()?;
                if !self.owes {
                    desk.mark().positions = system.positions();
                }
                // Where one question follows the other, what it says to be gone now is gone,
                // whatever was read before. Of a log that holds a part no share can be told, and
                // what it is held for waits for the word.
                let mark = desk.mark();
                let is_usual = mark.complete && mark.hold.is_none() && self.accepted.is_none();
                if is_usual && system.keeps_its_place() && system.tells_who_comes_back() {
                    self.delete_missed(identity, system, desk)?;
                }
                // That it answers this does not say that it lets itself be compared.
                if self.failures == 0 {
                    self.answered(desk);
                }
            }
            Err(Trouble::System(error)) => {
                self.say_trouble(&error, desk);
                self.rest(error.after.unwrap_or_default(), desk)?;
                desk.flush()?;
            }
            Err(trouble) => return Err(trouble),
        }
        Ok(())
    }

    /// Looks until whoever is missed was so for the grace, or has come back; returns whether it was
    /// not asked to end before.
    fn outlast_grace(
        &mut self,
        identity: &Value,
        system: &mut dyn System,
        desk: &mut Desk<'_>,
    ) -> Result<bool, Trouble> {
        let until = Instant::now() + self.feed.grace;
        while desk.held().missed() > 0 && !self.is_to_end() {
            let is_new = match system.tells_who_comes_back() {
                true => self.look_some_times(system, desk)?,
                false => None,
            };
            let left = until.saturating_duration_since(Instant::now());
            match is_new {
                // Nothing but another comparison can tell.
                None if left.is_zero() => return self.compare_pages(identity, system, desk),
                Some(_) if left.is_zero() => break,
                // There may be more.
                Some(true) => {}
                Some(false) | None => self.rest(left.min(self.feed.between_looks), desk)?,
            }
        }
        Ok(!self.is_to_end())
    }

    /// Looks what is new, again where that fails, but not for ever; returns whether there was
    /// something, `None` where it failed.
    fn look_some_times(
        &mut self,
        system: &mut dyn System,
        desk: &mut Desk<'_>,
    ) -> Result<Option<bool>, Trouble> {
        for _ in 0..LOOKS_IN_HASTE {
            let looked = system.look(desk);
            self.look_fails = fails(&looked);
            match looked {
                Ok(is_new) => {
                    desk.flush()?;
                    return Ok(Some(is_new));
                }
                Err(Trouble::System(error)) => self.bear(error, desk)?,
                Err(trouble) => return Err(trouble),
            }
            if self.is_to_end() {
                break;
            }
        }
        Ok(None)
    }

    /// Deletes what was missed for long enough; waits for the operator's word where that is much.
    fn delete_missed(
        &mut self,
        identity: &Value,
        system: &mut dyn System,
        desk: &mut Desk<'_>,
    ) -> Result<(), Trouble> {
        let accepted = self.accepted.as_ref().map_or(0, |accepted| accepted.deletions);
        match desk.delete_missed(self.feed.grace, self.feed.guard, accepted, now()) {
            // What it was held for has come back.
            Ok(0) if desk.held().missed() == 0 && desk.mark().hold.take().is_some() => {
                Ok(self.write_mark(desk)?)
            }
            Ok(0) => Ok(()),
            Ok(_) => {
                // What is used up of the guard is known before it is used; and that nothing is held
                // any more, or a word for it would be taken for what comes next.
                desk.mark().hold = None;
                self.write_mark(desk)?;
                Ok(desk.flush()?)
            }
            Err(TooMany) => {
                // A word that let too little through is used up, and so is what it was for.
                if self.accepted.take().is_some() {
                    desk.mark().hold = None;
                }
                self.hold(Why::Deletions, identity, system, desk)?;
                // What was missed is to be found again.
                Err(Trouble::Other)
            }
        }
    }

    /// Bears that the system fails: waits, longer each time.
    fn bear(&mut self, error: SystemError, desk: &mut Desk<'_>) -> Result<(), FeedError> {
        self.failures += 1;
        if self.feed.once && self.failures >= FAILURES_MAX {
            return Err(FeedError::System(error));
        }
        self.say_trouble(&error, desk);
        let doubled = BETWEEN_TRIES_MIN * 2_u32.pow(self.failures.min(10) - 1);
        let pause = error.after.unwrap_or(doubled.min(BETWEEN_TRIES_MAX));
        self.rest(pause.max(BETWEEN_TRIES_MIN), desk)
    }

    /// Says that the system fails, and how.
    fn say_trouble(&mut self, error: &SystemError, desk: &mut Desk<'_>) {
        self.warn(error);
        desk.mark().state.trouble = Some(error.to_string());
        self.say(desk);
    }

    /// Lets time pass, and says meanwhile that it is there.
    fn rest(&self, pause: Duration, desk: &mut Desk<'_>) -> Result<(), FeedError> {
        let until = Instant::now() + pause.min(ASKED_TO_WAIT_MAX);
        loop {
            desk.mark_when_due()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_to_end() {
                return Ok(());
            }
            self.sleep(left.min(BETWEEN_TRIES_MAX), desk);
        }
    }

    /// Tells that the system fails, where that is news.
    fn warn(&mut self, error: &SystemError) {
        let is_new =
            |(at, last): &(Instant, SystemError)| last != error || at.elapsed() >= BETWEEN_WARNINGS;
        if self.warned.as_ref().is_none_or(is_new) {
            warn!(
                source = self.feed.log.source,
                "what was known stands, and it is tried again: {error}"
            );
            self.warned = Some((Instant::now(), error.clone()));
        }
    }

    /// Takes that the system answered as it should. That it lets itself be compared does not say
    /// that it tells what is new.
    fn answered(&mut self, desk: &mut Desk<'_>) {
        let state = &mut desk.mark().state;
        state.answered = now();
        if !self.look_fails {
            state.trouble = None;
            self.warned = None;
            if self.failures > 0 {
                info!(source = self.feed.log.source, "answers again");
            }
        }
        self.failures = 0;
        self.say(desk);
    }

    /// Says how it is.
    fn say(&self, desk: &mut Desk<'_>) {
        let (documents, pending) = (desk.held().held(), desk.held().missed());
        let refused = desk.fed().refused;
        let mark = desk.mark();
        mark.state.documents = documents;
        mark.state.pending = pending;
        mark.state.refused = refused;
        self.health.set(&mark.state, mark.hold.as_ref());
    }

    fn write_mark(&mut self, desk: &mut Desk<'_>) -> Result<(), FeedError> {
        self.say(desk);
        desk.write_mark()
    }

    fn is_to_end(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    fn sleep(&self, time: Duration, desk: &Desk<'_>) {
        let until = Instant::now() + time;
        loop {
            desk.hear();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_to_end() {
                return;
            }
            thread::sleep(left.min(NAP));
        }
    }
}
