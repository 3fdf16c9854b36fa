//! Switching: which dataflow of a family readers are shown.
//!
//! Shape: a dataflow that has caught up in; the pointer for who reads topics, and the views for who
//! reads ClickHouse, at it, out.
//!
//! Invariants: the pointer is moved first, and is what is meant; ClickHouse follows it. Whoever
//! dies in between is followed by one who goes on, or back, from what is there. Nobody is shown a
//! dataflow that is behind the one that was shown, unless that is asked for. The frontier that
//! readers see does not fall, but where nothing comes (`Switched::fell_ms`).

use std::{
    thread,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{
    HistoryError,
    known::{Known, covers},
};
use crate::{
    config::ClickHouseConfig,
    kafka::{Kafka, Outgoing, WriteError},
    load::{Migrations, Readers, Resting, Server, ServerError},
    process::now_ms,
    progress::{POINTER_KEY, Pointer, Store},
    spec::Spec,
    time::Epoch,
};

/// Between looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);

/// How long nobody moves the frontier of what is shown, in s; after how long nobody does who had
/// begun to; and how long it is waited for the other one to pass it.
const REST_SECONDS: u64 = 40;
const RESTS_AFTER: Duration = Duration::from_secs(6);
const REST_MAX: Duration = Duration::from_secs(25);
const AT_REST: Duration = Duration::from_secs(2);

/// How long it moves again before it is to rest once more.
const BETWEEN_RESTS: Duration = Duration::from_secs(5);

/// How long it is looked for what ClickHouse shows, where it did not answer.
const EXCHANGE_PATIENCE: Duration = Duration::from_secs(60);

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the dataflow of the spec's own name.
    To,
    /// Back to the one that was shown before.
    Back,
}

/// What is to be done.
pub struct Switch<'s> {
    /// The dataflow, under its own name.
    pub spec: &'s Spec,
    /// Its brokers.
    pub kafka: &'s Kafka,
    /// The server of ClickHouse with the migrations of what readers call views, where there is one.
    pub clickhouse: Option<(&'s ClickHouseConfig, &'s Migrations)>,
    /// Which way.
    pub way: Way,
    /// How long to wait for a dataflow that is behind.
    pub patience: Duration,
    /// Whether one that is behind is shown all the same.
    pub although_behind: bool,
    /// Whether to end.
    pub is_to_end: &'s dyn Fn() -> bool,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switched {
    /// What readers are shown now.
    pub pointer: Pointer,
    /// By how much the frontier that ClickHouse shows is less than it was, in ms.
    pub fell_ms: u64,
}

impl Switch<'_> {
    /// Switches readers.
    ///
    /// # Errors
    /// When it is not known to be done; the next one goes on from what is there.
    pub fn run(&self) -> Result<Switched, HistoryError> {
        let family = &self.spec.family;
        let store = Store::new(self.kafka.clone(), family);
        // Whoever else switches, or takes a dataflow away, is over from here on.
        let mut writer = self.kafka.writer(&readers_id(family))?;
        let known = store.pointer()?;
        let shown = known.as_ref().map_or(family, |pointer| &pointer.dataflow).clone();
        let to = match (self.way, &known) {
            (Way::To, _) => self.spec.name.clone(),
            // Once they are back, or half-way there, there is nothing else to go back to.
            (Way::Back, Some(pointer)) if pointer.is_back => pointer.dataflow.clone(),
            (Way::Back, Some(pointer)) => pointer.before.clone(),
            (Way::Back, None) => {
                return Err(HistoryError::NeverSwitched { family: family.clone() });
            }
        };
        // One that died behind the pointer is gone on with: which one was shown before it says.
        let is_pointed = shown == to;
        let from = match &known {
            Some(pointer) if is_pointed => pointer.before.clone(),
            _ => shown,
        };
        let find = |name: &str, remedy| Known::of(self.kafka, family, name, remedy);
        let to = find(&to, "`tributary backfill` makes it")?;
        if is_pointed && known.is_none() {
            // It is the family's own, and was never anything else.
            return Ok(Switched { pointer: self.pointer(&to, &from, 0), fell_ms: 0 });
        }
        let server = self.clickhouse.map(|(config, _)| Server::new(config)).transpose();
        let server = server.map_err(crate::load::LoadError::from)?;
        let readers = self.clickhouse.zip(server.as_ref()).map(|((config, migrations), server)| {
            Readers::new(server, config, self.spec, migrations)
        });
        if let Some(readers) = &readers {
            readers.tidy()?;
            let missing = readers.note(&from, &to.name)?;
            if let Some(object) = missing.into_iter().next() {
                return Err(HistoryError::NoObject { object, dataflow: to.name });
            }
        }
        let is_shown = readers.as_ref().map_or(Ok(true), |readers| readers.show(&to.name))?;
        if let (true, true, Some(pointer)) = (is_pointed, is_shown, &known) {
            return Ok(Switched { pointer: pointer.clone(), fell_ms: 0 });
        }
        let from = find(&from, "there is nothing to switch from")?;
        if !is_pointed && !self.although_behind {
            self.await_caught_up(&from, &to)?;
        }
        let rest = match &readers {
            Some(readers) if !is_shown => Some(self.await_frontier(readers, &from, &to)?),
            _ => None,
        };
        let pointer = match known {
            Some(pointer) if is_pointed => pointer,
            known => {
                let number = known.map_or(0, |pointer| pointer.number) + 1;
                let pointer = self.pointer(&to, &from.name, number);
                failpoint!("promote-before");
                self.point(&mut writer, &store, &pointer)?;
                failpoint!("promote-pointed");
                pointer
            }
        };
        let mut fell_ms = 0;
        if let Some((readers, rest)) = readers.zip(rest) {
            if store.pointer()?.as_ref() != Some(&pointer) {
                return Err(HistoryError::Overtaken { family: family.clone() });
            }
            // It was said for so long, and whoever moves the frontier looks at that.
            if rest.since.elapsed() > REST_MAX + RESTS_AFTER {
                let (seconds, dataflow) = (REST_SECONDS, to.name);
                return Err(HistoryError::Unexchanged { dataflow, seconds });
            }
            exchange(&readers, &to.name)?;
            failpoint!("promote-exchanged");
            readers.tidy()?;
            fell_ms = rest.fell_ms;
            // Somebody may have switched between the look and the exchange, and had nothing to do.
            if let Some(now) = store.pointer()?.filter(|now| now.dataflow != to.name) {
                exchange(&readers, &now.dataflow)?;
                readers.tidy()?;
                return Err(HistoryError::Overtaken { family: family.clone() });
            }
            if let Err(error) = readers.wake(&rest.resting) {
                warn!("its frontier moves again in less than a minute: {error}");
            }
        }
        info!(dataflow = to.name, "readers are shown it");
        Ok(Switched { pointer, fell_ms })
    }

    fn pointer(&self, to: &Known, before: &str, number: u64) -> Pointer {
        let (topics, is_back) = (to.topics(self.spec), self.way == Way::Back);
        let (dataflow, before) = (to.name.clone(), before.to_owned());
        Pointer { number, dataflow, before, is_back, since_ms: now_ms(), topics }
    }

    fn point(
        &self,
        writer: &mut crate::kafka::Writer,
        store: &Store,
        pointer: &Pointer,
    ) -> Result<(), HistoryError> {
        let topic = Store::lead_topic(&self.spec.family);
        let value = pointer.to_json();
        let written = writer.write(|send| {
            let (key, value) = (Some(POINTER_KEY), Some(&value[..]));
            send(Outgoing { topic: &topic, partition: 0, key, value, headers: &[] })
        });
        match written {
            Ok(()) => Ok(()),
            Err(WriteError::Hopeless(error)) => Err(error.into()),
            Err(error) => {
                // Taking the id again ends what is open; then it stands there, or never will.
                self.kafka.writer(&readers_id(&self.spec.family))?;
                match store.pointer()? {
                    Some(stands) if stands == *pointer => Ok(()),
                    Some(stands) if stands.number >= pointer.number => {
                        Err(HistoryError::Overtaken { family: self.spec.family.clone() })
                    }
                    _ => Err(error.into()),
                }
            }
        }
    }

    /// Waits until a dataflow holds all that another one holds now, and all that it was made from
    /// beside that, and owes no correction.
    fn await_caught_up(&self, from: &Known, to: &Known) -> Result<(), HistoryError> {
        let Some(there) = from.standing()? else { return Ok(()) };
        let begun = Instant::now();
        loop {
            let is_there = to.standing()?.is_some_and(|here| {
                here.is_whole && here.is_settled && covers(&here.vector, &there.vector)
            });
            if is_there {
                return Ok(());
            }
            let (from, to) = (&from.name, &to.name);
            self.look_whether_too_late(begun, || {
                (
                    format!("\"{to}\" to hold all that \"{from}\" holds, and to owe no correction"),
                    format!(
                        "does it run? `tributary status SPEC --as {to}`; or show it although it is \
                         behind, --although-behind"
                    ),
                )
            })?;
            thread::sleep(BETWEEN_LOOKS);
        }
    }

    /// Waits until the tables of a dataflow hold all up to the frontier of another one, which rests
    /// from then on.
    fn await_frontier(
        &self,
        readers: &Readers<'_>,
        from: &Known,
        to: &Known,
    ) -> Result<Rest, HistoryError> {
        let (theirs, ours) = (from.views(self.spec), to.views(self.spec));
        let begun = Instant::now();
        loop {
            let since = Instant::now();
            let resting = readers.rest(&from.name, &theirs, REST_SECONDS)?;
            let passed = self.await_passing(readers, (from, &theirs), (to, &ours), since);
            if let Ok(Some(fell_ms)) = passed {
                return Ok(Rest { since, resting, fell_ms });
            }
            // Nobody waits for it any more, for now or at all.
            let woken = readers.wake(&resting);
            passed?;
            woken?;
            let (from, to) = (&from.name, &to.name);
            self.look_whether_too_late(begun, || {
                (
                    format!("the tables of \"{to}\" to hold all up to the frontier of \"{from}\""),
                    format!(
                        "are they loaded? `tributary load SPEC --as {to}`; or show it although it \
                         is behind, --although-behind"
                    ),
                )
            })?;
            thread::sleep(BETWEEN_RESTS);
        }
    }

    /// Waits, not too long, until the tables of one dataflow hold all up to the frontier of another
    /// one, which rests; returns by how much it is less in vain.
    fn await_passing(
        &self,
        readers: &Readers<'_>,
        (from, theirs): (&Known, &[String]),
        (to, ours): (&Known, &[String]),
        since: Instant,
    ) -> Result<Option<u64>, HistoryError> {
        thread::sleep(RESTS_AFTER);
        while since.elapsed() < REST_MAX {
            let there = readers.frontier(&from.name, theirs)?;
            let here = readers.frontier(&to.name, ours)?;
            if here >= there && here > 0 || self.although_behind {
                return Ok(Some(there.saturating_sub(here)));
            }
            // Where nothing comes, the labels of what both hold may differ for ever.
            let is_late = since.elapsed() > REST_MAX - AT_REST;
            if is_late && here > 0 && is_at_rest(from, to, here)? {
                return Ok(Some(there - here));
            }
            if (self.is_to_end)() {
                return Err(HistoryError::Interrupted);
            }
            thread::sleep(BETWEEN_LOOKS);
        }
        Ok(None)
    }

    fn look_whether_too_late(
        &self,
        begun: Instant,
        what: impl Fn() -> (String, String),
    ) -> Result<(), HistoryError> {
        if (self.is_to_end)() {
            return Err(HistoryError::Interrupted);
        }
        if begun.elapsed() > self.patience {
            let (what, remedy) = what();
            return Err(HistoryError::TooLate { seconds: self.patience.as_secs(), what, remedy });
        }
        Ok(())
    }
}

/// A frontier that rests.
struct Rest {
    since: Instant,
    resting: Resting,
    /// By how much that of the other dataflow is less.
    fell_ms: u64,
}

/// Who switches the readers of a family, or takes one of its dataflows away.
pub(super) fn readers_id(family: &str) -> String {
    format!("{family}-readers")
}

/// Whether two dataflows have committed nothing for a while, one holds all that the other one does,
/// and its tables hold all of it.
fn is_at_rest(from: &Known, to: &Known, loaded: Epoch) -> Result<bool, HistoryError> {
    let before = (from.standing()?, to.standing()?);
    thread::sleep(AT_REST);
    let (Some(there), Some(here)) = &before else { return Ok(false) };
    let holds_all = covers(&here.vector, &there.vector) && loaded >= here.epoch;
    Ok(holds_all && before == (from.standing()?, to.standing()?))
}

/// Has ClickHouse show a dataflow, and looks until it does.
fn exchange(readers: &Readers<'_>, to: &str) -> Result<(), HistoryError> {
    let asked = readers.exchange(to, now_ms());
    let begun = Instant::now();
    loop {
        match readers.show(to) {
            Ok(true) => return Ok(()),
            Ok(false) => match &asked {
                Ok(()) => return Err(unexchanged(to)),
                Err(error) if !error.said.may_pass() => return Err(error.clone().into()),
                Err(_) => {}
            },
            Err(ServerError { said, .. }) if said.may_pass() => {}
            Err(error) => return Err(error.into()),
        }
        if begun.elapsed() > EXCHANGE_PATIENCE {
            return Err(unexchanged(to));
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

fn unexchanged(to: &str) -> HistoryError {
    HistoryError::Unexchanged { dataflow: to.to_owned(), seconds: EXCHANGE_PATIENCE.as_secs() }
}
