//! Delivery: what becomes of clicks on their way to the topic.
//!
//! Shape: clicks in; lines with their keys out, with variants, malformed lines, duplicates, equal
//! IDs and late lines among them.
//!
//! Invariants: with a share of faults of 0 every click is delivered once, in order. The dice of
//! the delivery are its own: the clicks are the same whatever the faults.
//!
//! Not here: which clicks there are (`clicks`), what a faulty line looks like (`faults`).

use jiff::civil::{DateTime, date};

use super::clicks::Click;
use super::dice::{Dice, Stream};
use super::record::Record;
use super::window::{LateWindow, Line, RecentClicks, Topic};
use super::{GenerateError, Options, faults};

/// How far a late line goes, in lines: far enough to be met in another epoch, few enough to hold
/// all lines in between, some 8 MB.
const LATE_LINES: u32 = 20_000;
/// From how many clicks one is delivered again: some from the lesson just marked, most from
/// lessons long over.
const RECENT_CLICKS: usize = 5_000;
/// When the second click of an ID was made: later than the clicks of the first year, so that it
/// would win if it counted.
const LAST_INSTANT: DateTime = date(2025, 12, 31).at(23, 59, 59, 999_999_000);

/// The way from the journal to the topic.
pub(super) struct Delivery<'o> {
    dice: Dice,
    /// Share of clicks after which a malformed line follows, and again a duplicate.
    faults: f64,
    record: Record,
    line: Line,
    late: LateWindow,
    recent: RecentClicks,
    topic: Topic<'o>,
}

impl<'o> Delivery<'o> {
    /// A delivery to `topic`.
    pub(super) fn new(options: &Options, topic: Topic<'o>) -> Self {
        Self {
            dice: Dice::new(options.seed, Stream::Delivery, 0),
            faults: options.faults,
            record: Record::default(),
            line: Line::default(),
            late: LateWindow::new(LATE_LINES as usize + 1),
            recent: RecentClicks::new(RECENT_CLICKS),
            topic,
        }
    }

    /// Delivers a click, and now and then a faulty line after it.
    pub(super) fn take(&mut self, click: &Click) -> Result<(), GenerateError> {
        self.record.fill(click);
        if self.dice.chance(0.2) {
            faults::vary(&mut self.record, &mut self.dice);
        }
        self.send()?;
        self.recent.push(*click);
        let fault = self.dice.unit();
        if fault < self.faults {
            self.spoilt(click)
        } else if fault < 2.0 * self.faults {
            let again = self.recent.any(&mut self.dice);
            self.plain(&again)
        } else if fault < 2.02 * self.faults {
            let known = self.recent.any(&mut self.dice);
            self.plain(&Click { mark: 0, at: LAST_INSTANT, ..known })
        } else {
            Ok(())
        }
    }

    /// Delivers what is still on its way; returns the number of lines.
    pub(super) fn finish(mut self) -> Result<u64, GenerateError> {
        self.late.finish(&mut self.topic)?;
        (self.topic.progress)(self.topic.written);
        Ok(self.topic.written)
    }

    /// A line that is no record, made of another click on the same cell.
    fn spoilt(&mut self, click: &Click) -> Result<(), GenerateError> {
        self.record.fill(&Click { id: self.dice.uuid(), ..*click });
        let Line { value, key } = &mut self.line;
        faults::spoil(&mut self.record, &mut self.dice, value, key);
        self.pass_on()
    }

    fn plain(&mut self, click: &Click) -> Result<(), GenerateError> {
        self.record.fill(click);
        self.send()
    }

    /// Writes the record and sends it.
    fn send(&mut self) -> Result<(), GenerateError> {
        faults::write_key(&self.record, &mut self.line.key);
        faults::disguise(&mut self.record, &mut self.dice, &mut self.line.value);
        self.pass_on()
    }

    /// Sends the line; in a tenth of the share of faults it comes too early, another too late.
    fn pass_on(&mut self) -> Result<(), GenerateError> {
        self.late.push(&mut self.line, &mut self.topic)?;
        if self.dice.chance(self.faults / 10.0) {
            self.late.swap_back(self.dice.between(1, LATE_LINES).into());
        }
        Ok(())
    }
}
