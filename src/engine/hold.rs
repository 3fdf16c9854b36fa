//! Holding: a dataflow stands still at a vector that another one was at, so that what both hold
//! there can be compared.
//!
//! Shape: the word of who asks (`HoldWord`), as the guard reads it, in; what workers are to do out.
//!
//! Invariants: a hold changes nothing but when inputs are read; it ends by itself where who asked
//! for it is gone.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tracing::info;

use crate::{progress::HoldWord, source::Vector};

/// What is asked of all workers of a process.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// Grows each time that something else is asked.
    version: AtomicU64,
    asked: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    asked: Asked,
    /// The word that stands, and since when it is known.
    word: Option<(HoldWord, Instant)>,
    /// Whether it was looked for one before.
    has_looked: bool,
}

/// What is asked of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Asked {
    /// To read on.
    #[default]
    Nothing,
    /// To read nothing, until it is known where to hold.
    Pause,
    /// To read up to there.
    At(Arc<Vector>),
}

impl Hold {
    /// What is asked, if that is something else than when it was looked at last.
    pub(super) fn news(&self, seen: &mut u64) -> Option<Asked> {
        let version = self.version.load(Ordering::Acquire);
        if std::mem::replace(seen, version) == version {
            return None;
        }
        Some(self.asked.lock().expect("nobody panics while holding it").asked.clone())
    }

    /// Whether anything is asked.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.lock().expect("nobody panics while holding it").asked != Asked::Nothing
    }

    /// Takes the word that stands now, if there is one.
    pub(super) fn take(&self, word: Option<HoldWord>) {
        let asked = match &word {
            None => Asked::Nothing,
            Some(HoldWord { at: None, .. }) => Asked::Pause,
            Some(HoldWord { at: Some(at), .. }) => Asked::At(Arc::new(at.vector())),
        };
        let mut held = self.asked.lock().expect("nobody panics while holding it");
        // One that stood there before this process began may be of somebody who is gone.
        let is_first = !std::mem::replace(&mut held.has_looked, true);
        if held.word.as_ref().map(|(known, _)| known) != word.as_ref() {
            held.word = word.map(|word| (word, Instant::now()));
            if !is_first {
                self.set(&mut held.asked, asked);
            }
        }
    }

    /// Lets go where nobody has asked for long.
    pub(super) fn look(&self) {
        let mut held = self.asked.lock().expect("nobody panics while holding it");
        let is_over = held.word.as_ref().is_some_and(|(_, at)| at.elapsed() > HoldWord::PATIENCE);
        if is_over {
            self.set(&mut held.asked, Asked::Nothing);
        }
    }

    fn set(&self, held: &mut Asked, asked: Asked) {
        if *held == asked {
            return;
        }
        match &asked {
            Asked::Nothing => info!("reads on"),
            Asked::Pause => info!("reads nothing for now, to be compared with another dataflow"),
            Asked::At(_) => info!("reads up to where the other dataflow is, to be compared"),
        }
        *held = asked;
        self.version.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_counts_as_long_as_it_is_said() {
        let (hold, mut seen) = (Hold::default(), 0);
        assert_eq!(hold.news(&mut seen), None);
        let word = |beat| HoldWord { by: "a".to_owned(), beat, at: None };
        hold.take(Some(word(0)));
        assert_eq!(hold.news(&mut seen), None, "who said it may be gone");
        hold.take(Some(word(1)));
        assert_eq!(hold.news(&mut seen), Some(Asked::Pause));
        hold.take(Some(word(2)));
        assert_eq!(hold.news(&mut seen), None, "nothing else is asked");
        hold.look();
        assert!(hold.is_asked());
        hold.asked.lock().expect("it is free").word.as_mut().expect("it is known").1 -=
            2 * HoldWord::PATIENCE;
        hold.look();
        assert_eq!(hold.news(&mut seen), Some(Asked::Nothing));
        hold.take(Some(word(2)));
        assert_eq!(hold.news(&mut seen), None, "it was not said again");
        hold.take(Some(word(3)));
        assert_eq!(hold.news(&mut seen), Some(Asked::Pause));
        hold.take(None);
        assert_eq!(hold.news(&mut seen), Some(Asked::Nothing));
    }
}
