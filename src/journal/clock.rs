//! The journal's clock: Moscow time, or in a demonstration a time that was set and runs on.
//!
//! Shape: the system's clock in; moments out.
//!
//! Not here: what results depend on: no view does, only who may click when.

use std::{sync::Mutex, time::Instant};

use crate::{process::now_us, time::Moment};

/// Moscow is three hours ahead, throughout the years in which the spec admits clicks.
const MOSCOW_US: i64 = 3 * 3_600 * 1_000_000;

/// A moment as people write it: `YYYY-MM-DD HH:MM`, with seconds or without, in the years in which
/// events may be made.
pub fn moment(text: &str) -> Option<Moment> {
    let whole = |text: &str| Moment::parse(text.as_bytes());
    let moment = whole(text).or_else(|| whole(&format!("{text}:00")));
    moment.filter(|moment| (2015..2149).contains(&moment.day().year()))
}

/// Says what time it is in the journal.
#[derive(Debug, Default)]
pub struct Clock {
    /// What was set, and when that was.
    set: Mutex<Option<(Moment, Instant)>>,
}

impl Clock {
    /// A clock that shows a moment now, and runs on.
    pub fn at(moment: Moment) -> Clock {
        Clock { set: Mutex::new(Some((moment, Instant::now()))) }
    }

    /// Sets it.
    pub fn set(&self, moment: Moment) {
        *self.set.lock().expect("nobody panics while holding it") = Some((moment, Instant::now()));
    }

    /// What it shows.
    pub fn now(&self) -> Moment {
        match *self.set.lock().expect("nobody panics while holding it") {
            Some((moment, since)) => {
                let passed = i64::try_from(since.elapsed().as_micros()).unwrap_or(i64::MAX);
                Moment::of_us(moment.since_1970_us().saturating_add(passed))
            }
            None => Moment::of_us(now_us() + MOSCOW_US),
        }
    }
}
