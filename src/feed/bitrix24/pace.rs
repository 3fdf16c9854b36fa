//! The pace at which a portal lets itself be asked: all that ask one portal share it.
//!
//! Shape: an address and a rate in; waits out.
//!
//! Invariants: between two requests lies at least the rate's interval, whoever makes them.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// By address, when the next request may be made.
static NEXT: LazyLock<Mutex<HashMap<String, Arc<Mutex<Instant>>>>> = LazyLock::new(Mutex::default);

/// The pace of a portal.
pub(super) struct Pace {
    next: Arc<Mutex<Instant>>,
    interval: Duration,
}

impl Pace {
    /// That of the portal at an address.
    pub(super) fn of(url: &str, requests_per_second: f64) -> Pace {
        let mut known = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
        let next = known.entry(url.trim_end_matches('/').to_lowercase());
        let next = Arc::clone(next.or_insert_with(|| Arc::new(Mutex::new(Instant::now()))));
        Pace { next, interval: Duration::from_secs_f64(1.0 / requests_per_second) }
    }

    /// Waits until a request may be made, and takes it as made.
    pub(super) fn wait(&self) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        thread::sleep(next.saturating_duration_since(Instant::now()));
        *next = Instant::now() + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_one_portal_shares_its_pace() {
        let begun = Instant::now();
        let askers = [Pace::of("https://a", 100.0), Pace::of("https://A/", 100.0)];
        let ask = |pace: Pace| thread::spawn(move || (0..5).for_each(|_| pace.wait()));
        askers.map(ask).into_iter().for_each(|asked| asked.join().expect("it asks"));
        assert!(begun.elapsed() >= Duration::from_millis(90));
    }
}
