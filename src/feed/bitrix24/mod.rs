//! Bitrix24 as a system of record.
//!
//! Shape: items of one kind in; what they say, and which are gone, out.
//!
//! To an application the portal keeps a queue of the items to which something happened. A look puts
//! a handful aside, reads those items anew, and clears the handful once what they say is in the
//! log. What was put aside and not cleared, by an elder feed or under an answer that was lost, is
//! looked for now and then. Where there is no queue (a webhook, a plan without it) a look asks for
//! what was changed since the newest moment that it saw, and what is gone is found by comparison.
//!
//! Invariants: the queue is listened to before all is read, so nothing falls between, and so is the
//! newest moment asked for; nothing is cleared that is not in the log. The portal is
//! asked one question after the other, looks amid a comparison included, so what it said last
//! holds.
//!
//! Not here: how it is asked (`api`), and how often that may be (`pace`).

mod api;
mod app;
mod pace;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{Span, Timestamp};
use serde_json::{Value, json};
use tracing::warn;

use super::{Desk, System, SystemError, Trouble};
use crate::{
    config::{Bitrix24Config, ConfigError, Entity},
    reference::{Projector, reconcile::Version},
    spec::Spec,
};
use api::{Api, Happened, Item};

/// So much further back than the newest moment that was seen it is asked what was changed: what
/// took long to be written bears the moment at which it began.
const OVERLAP_SECONDS: i64 = 120;

/// Between looks for what was put aside and not cleared.
const BETWEEN_LISTS: Duration = Duration::from_secs(60);

/// Items of a portal of Bitrix24.
pub struct Bitrix24 {
    api: Api,
    url: String,
    entity: Entity,
    /// Whether the portal says what happens; `None` before it was asked.
    listens: Option<bool>,
    /// Whether it is still to be asked to keep that, since it refused when it was asked last.
    is_to_listen: bool,
    /// What was put aside and is not cleared yet.
    put_aside: VecDeque<Happened>,
    /// When it was looked for last; `None` where an answer may have been lost since.
    listed: Option<Instant>,
    /// From where on it is asked what changed.
    newest: Newest,
    /// Up to which number a comparison on its way has said items.
    compared_to: Option<u64>,
}

impl Bitrix24 {
    /// The items of a configuration, of which what the spec uses is asked for.
    ///
    /// # Errors
    /// When the configuration is not sound.
    pub fn new(
        spec: Arc<Spec>,
        source: &str,
        config: &Bitrix24Config,
    ) -> Result<Bitrix24, ConfigError> {
        let fields = Projector::of_source(spec, source).fields();
        // The portal gives whole fields.
        let whole = |field: &String| field.split('.').next().unwrap_or_default().to_owned();
        let fields: BTreeSet<String> = fields.iter().map(whole).collect();
        let api = Api::new(config, fields.into_iter().collect())?;
        let (url, entity) = (config.url.clone(), config.entity);
        Ok(Bitrix24 {
            api,
            url,
            entity,
            listens: None,
            is_to_listen: false,
            put_aside: VecDeque::new(),
            listed: None,
            newest: Newest::default(),
            compared_to: None,
        })
    }

    /// Has the portal keep what happens, where it can: an application that was installed anew has
    /// to say so again, and a plan may lose that.
    fn listen(&mut self) -> Result<bool, SystemError> {
        let listens = self.api.says_what_happens()?;
        if listens {
            self.api.listen()?;
        } else if self.listens != Some(false) {
            warn!(
                portal = self.url,
                "does not keep what happens for this access: what is gone is found by comparison"
            );
        }
        (self.listens, self.is_to_listen) = (Some(listens), false);
        Ok(listens)
    }

    /// Says what happened, and clears it; returns whether there may be more, `None` where there was
    /// nothing.
    fn look_at_queue(&mut self, desk: &mut Desk<'_>) -> Result<Option<bool>, Trouble> {
        if self.put_aside.is_empty() {
            self.put_aside = self.take_aside()?;
        }
        let Some(Happened { process, ids, is_full }) = self.put_aside.front() else {
            return Ok(None);
        };
        let is_full = *is_full;
        let mut gone = ids.clone();
        let ids: Vec<u64> = gone.iter().copied().collect();
        self.api.by_ids(&ids, &mut |items: &[Item<'_>]| {
            for item in items {
                say(item, desk);
                gone.remove(&item.id);
            }
            Ok::<_, Trouble>(())
        })?;
        // A comparison at the next start would find these as well.
        gone.iter().for_each(|id| desk.say_gone(&id.to_string()));
        desk.flush()?;
        // One that another feed has fenced may have found nothing to write, and is to clear
        // nothing.
        desk.write_mark()?;
        failpoint!("bitrix24-written");
        self.api.clear(process)?;
        failpoint!("bitrix24-cleared");
        self.put_aside.pop_front();
        Ok(Some(is_full || !self.put_aside.is_empty()))
    }

    /// Puts aside what happened since, or finds what was put aside before.
    fn take_aside(&mut self) -> Result<VecDeque<Happened>, SystemError> {
        if self.listed.is_none_or(|listed| listed.elapsed() >= BETWEEN_LISTS) {
            let found = self.api.put_aside()?;
            self.listed = Some(Instant::now());
            if !found.is_empty() {
                return Ok(found.into());
            }
        }
        let happened = self.api.happened();
        if happened.is_err() {
            // It may have been put aside all the same.
            self.listed = None;
        }
        Ok(happened?.into_iter().collect())
    }

    /// Says what was changed since the newest moment that was seen.
    fn look_at_changes(&mut self, desk: &mut Desk<'_>) -> Result<(), Trouble> {
        // Where there was no item, whatever comes is news.
        let since = self.newest.moment.as_deref().and_then(before);
        let since = since.unwrap_or_else(|| Timestamp::UNIX_EPOCH.to_string());
        // What is changed while these are read may bear an earlier moment than what is read last.
        let newest = self.api.newest()?.filter(|moment| before(moment).is_some());
        let begun = Instant::now();
        if self.newest.has_all(newest.as_deref(), begun) {
            return Ok(());
        }
        self.api.each_changed_since(&since, &mut |items: &[Item<'_>]| {
            items.iter().for_each(|item| say(item, desk));
            Ok::<_, Trouble>(desk.flush()?)
        })?;
        self.newest.take(newest, begun);
        Ok(())
    }
}

/// The newest moment of change that was seen: what took long to be written comes later, and bears
/// an earlier one.
#[derive(Default)]
struct Newest {
    /// As the portal writes it.
    moment: Option<String>,
    /// When all that bears a moment before it can be seen.
    settles: Option<Instant>,
    /// When what has changed was read last.
    read: Option<Instant>,
}

impl Newest {
    /// Whether nothing can be new where the portal says now that this is the newest moment.
    fn has_all(&mut self, moment: Option<&str>, now: Instant) -> bool {
        match self.settles.filter(|_| moment == self.moment.as_deref()) {
            Some(settles) => self.read.is_some_and(|read| settles <= read),
            None => {
                self.settles = Some(now + Duration::from_secs(OVERLAP_SECONDS as u64));
                false
            }
        }
    }

    /// Takes what has changed up to a moment as read; the portal was asked for it then.
    fn take(&mut self, moment: Option<String>, asked: Instant) {
        self.moment = moment.or(self.moment.take());
        self.read = Some(asked);
    }
}

fn say(item: &Item<'_>, desk: &mut Desk<'_>) {
    desk.say(&item.id.to_string(), Version::default(), item.source);
}

/// A moment somewhat earlier.
fn before(moment: &str) -> Option<String> {
    let moment: Timestamp = moment.parse().ok()?;
    Some(moment.checked_sub(Span::new().seconds(OVERLAP_SECONDS)).ok()?.to_string())
}

impl System for Bitrix24 {
    fn keeps_its_place(&self) -> bool {
        true
    }

    fn begin(&mut self) {
        self.put_aside.clear();
        self.listed = None;
    }

    fn identity(&mut self) -> Result<Value, SystemError> {
        Ok(json!({ "portal": self.url, "entity": self.entity.number() }))
    }

    fn compare(&mut self, _: &Value, desk: &mut Desk<'_>) -> Result<(), Trouble> {
        let known = self.listens;
        let listens = match (self.listen(), known) {
            // All is compared for all that; a look is to say it while it stands.
            (Err(_), Some(known)) => {
                self.is_to_listen = true;
                known
            }
            (listens, _) => listens?,
        };
        // What is changed while all is read may bear an earlier moment than what is read last.
        if !listens && self.newest.moment.is_none() {
            self.newest.moment = self.api.newest()?;
        }
        desk.begin_comparison(None);
        self.compared_to = Some(0);
        Ok(())
    }

    fn compare_on(&mut self, desk: &mut Desk<'_>) -> Result<bool, Trouble> {
        let Some(beyond) = self.compared_to else { return Ok(true) };
        self.compared_to = self.api.pages_beyond(beyond, &mut |items: &[Item<'_>]| {
            items.iter().for_each(|item| say(item, desk));
            Ok::<_, Trouble>(desk.flush()?)
        })?;
        if self.compared_to.is_some() {
            return Ok(false);
        }
        desk.end_comparison(true);
        Ok(true)
    }

    fn look(&mut self, desk: &mut Desk<'_>) -> Result<bool, Trouble> {
        let listens = self.listens.map_or_else(|| self.listen(), Ok)?;
        let found = match listens {
            true => self.look_at_queue(desk)?,
            false => self.look_at_changes(desk).map(|()| None)?,
        };
        if found.is_none() && self.is_to_listen {
            self.listen()?;
        }
        Ok(found == Some(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_asked_for_from_somewhat_before() {
        let earlier = before("2026-11-29T10:00:00+03:00");
        assert_eq!(earlier.as_deref(), Some("2026-11-29T06:58:00Z"));
        assert_eq!(before("yesterday"), None);
    }

    #[test]
    fn what_changed_is_read_until_nothing_can_come_late_any_more() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let (mut newest, long) = (Newest::default(), OVERLAP_SECONDS as u64);
        for (second, moment, has_all) in [
            (0, Some("a"), false),
            (1, Some("a"), false),
            (long, Some("a"), false),
            (long + 1, Some("a"), true),
            (long + 2, Some("b"), false),
            (2 * long, Some("b"), false),
            (2 * long + 3, Some("b"), false),
            (2 * long + 4, Some("b"), true),
            // It was the newest one before, but items have gone since.
            (2 * long + 5, Some("a"), false),
            (2 * long + 6, Some("a"), false),
            (3 * long + 7, None, false),
        ] {
            let moment = moment.map(str::to_owned);
            assert_eq!(newest.has_all(moment.as_deref(), at(second)), has_all, "{second}");
            if !has_all {
                newest.take(moment, at(second));
            }
        }
        assert_eq!(newest.moment.as_deref(), Some("a"), "a portal that is empty says none");
    }
}
