//! Windows: the lines and clicks that are still at hand, however many have gone by.
//!
//! Shape: lines in, the same lines out, a fixed number later; clicks in, one of the latest out.
//!
//! Invariants: at most as many lines or clicks are held as the window was made for: memory does
//! not grow with the number of events. Their buffers are used again.
//!
//! Not here: when lines change places or are repeated (`delivery`).

use std::mem;

use super::GenerateError;
use super::clicks::Click;
use super::dice::Dice;
use super::output::OutputFile;

/// Lines written between two reports of progress: many a second, but none that costs.
const PROGRESS_LINES: u64 = 8_192;

/// One line of the events and its key.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// The value, any bytes but a newline.
    pub(super) value: Vec<u8>,
    /// The key, empty where there is none.
    pub(super) key: Vec<u8>,
}

impl Line {
    /// Empties the line but keeps its buffers.
    pub(super) fn clear(&mut self) {
        self.value.clear();
        self.key.clear();
    }
}

/// Where lines go when they leave the window.
pub(super) struct Topic<'o> {
    /// The file of values.
    pub(super) events: &'o mut OutputFile,
    /// The file of keys, line by line.
    pub(super) keys: &'o mut OutputFile,
    /// Told now and then how many lines have been written.
    pub(super) progress: &'o mut dyn FnMut(u64),
    /// Lines written so far.
    pub(super) written: u64,
}

impl Topic<'_> {
    fn write(&mut self, line: &Line) -> Result<(), GenerateError> {
        self.events.line(&line.value)?;
        self.keys.line(&line.key)?;
        self.written += 1;
        if self.written.is_multiple_of(PROGRESS_LINES) {
            (self.progress)(self.written);
        }
        Ok(())
    }
}

/// The latest lines, which may still change places.
#[derive(Debug)]
pub(super) struct LateWindow {
    /// The line at place `n` of the stream is in slot `n % capacity`.
    slots: Vec<Line>,
    capacity: usize,
    /// Lines taken so far.
    taken: u64,
}

impl LateWindow {
    /// A window that holds `capacity` lines, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Self { slots: Vec::new(), capacity: capacity.max(1), taken: 0 }
    }

    /// Takes a line and leaves an empty one; the oldest line goes out where the window is full.
    pub(super) fn push(&mut self, line: &mut Line, topic: &mut Topic) -> Result<(), GenerateError> {
        let slot = self.slot(self.taken);
        match self.slots.get_mut(slot) {
            None => self.slots.push(mem::take(line)),
            Some(oldest) => {
                topic.write(oldest)?;
                mem::swap(oldest, line);
                line.clear();
            }
        }
        self.taken += 1;
        Ok(())
    }

    /// Lets the latest line and the one `distance` before it change places, or the oldest at hand.
    ///
    /// Lines of one key stay as they are: the broker keeps the order of a key.
    pub(super) fn swap_back(&mut self, distance: u64) {
        let at_hand = (self.slots.len() as u64).saturating_sub(1);
        let latest = self.taken.saturating_sub(1);
        let (a, b) = (self.slot(latest), self.slot(latest - distance.min(at_hand)));
        if at_hand > 0 && self.slots[a].key != self.slots[b].key {
            self.slots.swap(a, b);
        }
    }

    /// Lets all lines go, in order.
    pub(super) fn finish(self, topic: &mut Topic) -> Result<(), GenerateError> {
        let first = self.taken - self.slots.len() as u64;
        (first..self.taken).try_for_each(|place| topic.write(&self.slots[self.slot(place)]))
    }

    fn slot(&self, place: u64) -> usize {
        (place % self.capacity as u64) as usize
    }
}

/// The latest clicks, which may be delivered again.
#[derive(Debug)]
pub(super) struct RecentClicks {
    clicks: Vec<Click>,
    capacity: usize,
    /// Where the next click goes: over the oldest.
    next: usize,
}

impl RecentClicks {
    /// A window that holds `capacity` clicks, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Self { clicks: Vec::new(), capacity: capacity.max(1), next: 0 }
    }

    /// Takes a click, forgets the oldest where the window is full.
    pub(super) fn push(&mut self, click: Click) {
        match self.clicks.get_mut(self.next) {
            None => self.clicks.push(click),
            Some(oldest) => *oldest = click,
        }
        self.next = (self.next + 1) % self.capacity;
    }

    /// One of the clicks at hand. There must have been one.
    pub(super) fn any(&self, dice: &mut Dice) -> Click {
        dice.pick(&self.clicks)
    }
}

#[cfg(test)]
mod tests {
    use super::super::dice::Stream;
    use super::super::output::Output;
    use super::super::record::tests::sample;
    use super::*;

    /// Sends lines `0`, `1`, ... through a window, each after what `each` does; keys as given.
    fn sent(
        lines: u64,
        capacity: usize,
        key: impl Fn(u64) -> u64,
        mut each: impl FnMut(u64, &mut LateWindow),
    ) -> Vec<u64> {
        let folder = tempfile::tempdir().unwrap();
        let mut output = Output::create(folder.path()).unwrap();
        let mut topic = Topic {
            events: &mut output.events,
            keys: &mut output.keys,
            progress: &mut |_| (),
            written: 0,
        };
        let mut window = LateWindow::new(capacity);
        let mut line = Line::default();
        for n in 0..lines {
            line.value.extend_from_slice(n.to_string().as_bytes());
            line.key.extend_from_slice(key(n).to_string().as_bytes());
            window.push(&mut line, &mut topic).unwrap();
            assert!(line.value.is_empty() && line.key.is_empty());
            assert!(window.slots.len() <= capacity);
            each(n, &mut window);
        }
        window.finish(&mut topic).unwrap();
        assert_eq!(topic.written, lines);
        output.keep().unwrap();
        let text = std::fs::read_to_string(folder.path().join("events.ndjson")).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    #[test]
    fn lines_keep_their_order_where_nothing_is_late() {
        for (lines, capacity) in [(0, 3), (1, 3), (3, 3), (10, 3), (10, 1)] {
            let order = sent(lines, capacity, |n| n, |_, window| window.swap_back(0));
            assert_eq!(order, (0..lines).collect::<Vec<_>>());
        }
    }

    #[test]
    fn late_line_changes_places_with_one_at_hand() {
        let swap = |at, distance| {
            move |n, window: &mut LateWindow| {
                if n == at {
                    window.swap_back(distance);
                }
            }
        };
        assert_eq!(sent(6, 3, |n| n, swap(4, 2)), [0, 1, 4, 3, 2, 5]);
        // Farther than the window: the oldest at hand; at the very start: nothing.
        assert_eq!(sent(6, 3, |n| n, swap(4, 99)), [0, 1, 4, 3, 2, 5]);
        assert_eq!(sent(6, 3, |n| n, swap(1, 99)), [1, 0, 2, 3, 4, 5]);
        assert_eq!(sent(6, 3, |n| n, swap(0, 99)), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn lines_of_one_key_do_not_change_places() {
        let order = sent(6, 3, |_| 7, |_, window| window.swap_back(1));
        assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn every_line_comes_out_once_whatever_is_swapped() {
        let mut dice = Dice::new(1, Stream::Delivery, 0);
        let mut order = sent(5_000, 100, |n| n, |_, window| window.swap_back(dice.below(200)));
        assert!(!order.is_sorted());
        order.sort_unstable();
        assert_eq!(order, (0..5_000).collect::<Vec<_>>());
    }

    #[test]
    fn only_recent_clicks_are_at_hand() {
        let mut recent = RecentClicks::new(3);
        let mut dice = Dice::new(1, Stream::Delivery, 0);
        for student in 1..=10 {
            recent.push(Click { student, ..sample() });
            assert!(recent.clicks.len() <= 3);
        }
        let mut drawn: Vec<u32> = (0..100).map(|_| recent.any(&mut dice).student).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn, [8, 9, 10]);
    }
}
