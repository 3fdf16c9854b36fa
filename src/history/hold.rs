//! Standing still together: a dataflow is led to a vector that another one has recorded, and held
//! there.
//!
//! Shape: two dataflows in; the epoch of the one at which the other stands, out, as long as that is
//! held.
//!
//! Invariants: only one of them waits, and who asks says which; where it was led to, the other one
//! owed no correction. A hold that nobody renews ends by itself.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};

use super::{
    HistoryError,
    known::{Known, are_equal, covers},
};
use crate::{
    kafka::{Kafka, Outgoing, WriteError, Writer},
    progress::{HOLD_KEY, HoldWord, Progress, Store},
    source::{Input, Vector},
    time::Epoch,
};

/// Between looks how far both are.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// How long it takes at most until a dataflow has read that it is to hold: it looks each 5 s.
const HEARD_AFTER: Duration = Duration::from_secs(7);

/// How often it is led further where it had read beyond the vector already.
const TRIES: usize = 5;

/// A dataflow that is held.
pub struct Held {
    dataflow: Known,
    at: Vector,
    /// The epoch of the other dataflow whose vector that is,
    pub epoch: Epoch,
    /// and when it was looked which one that is.
    pub since: Instant,
    asking: Asking,
}

/// Says again and again that a dataflow is to hold, until it is dropped.
struct Asking {
    said: Arc<Mutex<HoldWord>>,
    wake: mpsc::Sender<()>,
    lost: Arc<Mutex<Option<WriteError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let (over, _) = mpsc::channel();
        drop(std::mem::replace(&mut self.wake, over));
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

impl Asking {
    /// Begins to ask; whoever asked before is over.
    fn begin(kafka: &Kafka, dataflow: &str) -> Result<Asking, HistoryError> {
        let mut writer = kafka.writer(&format!("{dataflow}-diff"))?;
        let topic = Store::lead_topic(dataflow);
        let by = format!("{:016x}", RandomState::new().build_hasher().finish());
        let said = Arc::new(Mutex::new(HoldWord { by, beat: 0, at: None }));
        let (wake, woken) = mpsc::channel();
        let lost = Arc::new(Mutex::new(None));
        let (words, losing) = (Arc::clone(&said), Arc::clone(&lost));
        let thread = thread::spawn(move || {
            let say = |writer: &mut Writer, value: Option<&[u8]>| {
                writer.write(|send| {
                    send(Outgoing {
                        topic: &topic,
                        partition: 0,
                        key: Some(HOLD_KEY),
                        value,
                        headers: &[],
                    })
                })
            };
            loop {
                let word = {
                    let mut word = words.lock().expect("nobody panics while holding it");
                    word.beat += 1;
                    word.to_json()
                };
                if let Err(error) = say(&mut writer, Some(&word)) {
                    *losing.lock().expect("nobody panics while holding it") = Some(error);
                    return;
                }
                match woken.recv_timeout(HoldWord::BETWEEN_BEATS) {
                    Ok(()) | Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                }
            }
            if let Err(error) = say(&mut writer, None) {
                warn!("the dataflow goes on by itself in half a minute: {error}");
            }
        });
        Ok(Asking { said, wake, lost, thread: Some(thread) })
    }

    /// Asks for something else from now on.
    fn ask(&self, at: Option<Progress>) {
        let at = at.map(Box::new);
        self.said.lock().expect("nobody panics while holding it").at = at;
        // Where the thread is gone, that is told by who looks next.
        let _ = self.wake.send(());
    }

    fn look(&self) -> Result<(), HistoryError> {
        let lost = self.lost.lock().expect("nobody panics while holding it").take();
        lost.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Leads `held` to a vector of `free`, and holds it there.
///
/// # Errors
/// When one of them does not go on in time, or brokers fail.
pub fn hold(
    kafka: &Kafka,
    (held, free): (Known, &Known),
    patience: Duration,
    is_to_end: &dyn Fn() -> bool,
) -> Result<Held, HistoryError> {
    let look = |of: &Known| {
        let not_there = || HistoryError::NotThere {
            dataflow: of.name.clone(),
            remedy: "wait until each of its shards has",
        };
        of.standing()?.ok_or_else(not_there)
    };
    look(free)?;
    look(&held)?;
    let asking = Asking::begin(kafka, &held.name)?;
    let mut watch = Watch { asking: &asking, is_to_end, patience, since: Instant::now() };
    let runs = || format!("does it run? `tributary status SPEC --as {}`", held.name);
    watch.wait(
        || format!("\"{}\" to hold all that it is made from beside its topic", held.name),
        runs,
        || Ok(look(&held)?.is_whole.then_some(())),
    )?;
    for tried in 1..=TRIES {
        asking.ask(None);
        let paused = Instant::now();
        // It stands still once it has heard of it, or since nothing comes anyway.
        let mut known = None::<(Vector, Instant)>;
        let stands = watch.wait(
            || format!("\"{}\" to stand still", held.name),
            runs,
            || {
                let now = look(&held)?;
                let same = known.as_ref().filter(|(at, _)| *at == now.vector);
                let since = same.map_or_else(Instant::now, |(_, since)| *since);
                known = Some((now.vector.clone(), since));
                let is_heard = paused.elapsed() > HEARD_AFTER;
                let is_still = since.elapsed() > Duration::from_secs(2);
                Ok((is_heard && is_still && now.is_one).then_some(now.vector))
            },
        )?;
        debug!(tried, "it stands still");
        let mut settled = None::<(Epoch, u64)>;
        let at = watch.wait(
            || {
                let (free, held) = (&free.name, &held.name);
                format!("\"{free}\" to come as far as \"{held}\", with no correction pending")
            },
            || "does it run, and what does it wait for? `tributary status SPEC`".to_owned(),
            || {
                let now = look(free)?;
                let documents = now.vector.get(&Input::Reference).map_or(0, |bound| bound.offset);
                // No document came since all was settled, or all are at one epoch.
                let was_settled =
                    settled.is_some_and(|(epoch, to)| epoch <= now.epoch && documents <= to);
                let is_settled = now.is_settled && (now.newest == now.epoch || was_settled);
                if now.is_settled {
                    settled = Some((now.newest, documents));
                }
                let is_there = is_settled && now.is_whole && covers(&now.vector, &stands);
                Ok(is_there.then_some(now))
            },
        )?;
        let since = Instant::now();
        asking.ask(Some(at.record.clone()));
        let reached = watch.wait(
            || format!("\"{}\" to come to epoch {} of \"{}\"", held.name, at.epoch, free.name),
            runs,
            || {
                let now = look(&held)?;
                let is_beyond = !covers(&at.vector, &now.vector);
                let is_there = now.is_one && now.is_settled && are_equal(&now.vector, &at.vector);
                Ok((is_beyond || is_there).then_some(is_there))
            },
        )?;
        if reached {
            info!(epoch = at.epoch, "both hold the same of every input");
            let (at, epoch) = (at.vector, at.epoch);
            return Ok(Held { dataflow: held, at, epoch, since, asking });
        }
        debug!(tried, "it had read beyond that: is led further");
    }
    Err(HistoryError::Moved { dataflow: held.name })
}

/// Waits with patience, which begins anew whenever something was reached.
struct Watch<'w> {
    asking: &'w Asking,
    is_to_end: &'w dyn Fn() -> bool,
    patience: Duration,
    since: Instant,
}

impl Watch<'_> {
    fn wait<T>(
        &mut self,
        what: impl Fn() -> String,
        remedy: impl Fn() -> String,
        mut look: impl FnMut() -> Result<Option<T>, HistoryError>,
    ) -> Result<T, HistoryError> {
        self.since = Instant::now();
        loop {
            self.asking.look()?;
            if let Some(found) = look()? {
                return Ok(found);
            }
            if (self.is_to_end)() {
                return Err(HistoryError::Interrupted);
            }
            if self.since.elapsed() > self.patience {
                let seconds = self.patience.as_secs();
                return Err(HistoryError::TooLate { seconds, what: what(), remedy: remedy() });
            }
            thread::sleep(BETWEEN_LOOKS);
        }
    }
}

impl Held {
    /// That it was held all the while: what was read of its outputs is what it holds there.
    ///
    /// # Errors
    /// When it was not.
    pub fn was_held(&self) -> Result<(), HistoryError> {
        self.asking.look()?;
        let now = self.dataflow.standing()?;
        match now.is_some_and(|now| now.is_one && are_equal(&now.vector, &self.at)) {
            true => Ok(()),
            false => Err(HistoryError::Moved { dataflow: self.dataflow.name.clone() }),
        }
    }
}
