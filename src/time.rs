//! Time: the engine's logical epoch, and the civil days and moments that events carry.
//!
//! Shape: text of a fixed form in, packed numbers out whose order is the order of time.
//!
//! Invariants: a `Day` and a `Moment` are always real (no 30 February, no second 60); comparing the
//! packed numbers compares the times; nothing here reads a clock, so results never depend on one
//! (P12).
//!
//! Not here: zones. A moment is wall time as it was written; the spec is only accepted when its
//! zone keeps one offset over the whole range of the column (`spec::resolve`), so wall order is
//! true order.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The engine's logical time: all updates of an epoch become visible together. Only a label; it
/// orders work and never enters a result.
pub type Epoch = u64;

/// How far a dataflow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Frontier {
    /// This is the first epoch that can still bring something; those before it are sealed.
    At(Epoch),
    /// All epochs are sealed, and none comes any more.
    End,
}

impl Frontier {
    /// Whether nothing more comes to an epoch.
    pub fn has_sealed(self, epoch: Epoch) -> bool {
        self > Frontier::At(epoch)
    }
}

const YEAR_MAX: u16 = 9999;

/// A calendar day between the years 1 and 9999, packed as year, month (4 bits), day (5 bits).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Day(u32);

impl Day {
    /// The first day that can be written, 0001-01-01.
    pub const MIN: Day = Day((1 << 9) | (1 << 5) | 1);
    /// The last day that can be written, 9999-12-31.
    pub const MAX: Day = Day(((YEAR_MAX as u32) << 9) | (12 << 5) | 31);

    /// The day of these numbers, or `None` where the calendar has none.
    pub fn new(year: u16, month: u8, day: u8) -> Option<Day> {
        let real = (1..=YEAR_MAX).contains(&year)
            && jiff::civil::Date::new(year as i16, month as i8, day as i8).is_ok();
        real.then_some(Day(u32::from(year) << 9 | u32::from(month) << 5 | u32::from(day)))
    }

    /// Reads exactly `YYYY-MM-DD` in ASCII digits.
    pub fn parse(text: &[u8]) -> Option<Day> {
        let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return None };
        let year = u16::from(two(*y1, *y2)?) * 100 + u16::from(two(*y3, *y4)?);
        Day::new(year, two(*m1, *m2)?, two(*d1, *d2)?)
    }

    /// The year, 1 to 9999.
    pub fn year(self) -> u16 {
        (self.0 >> 9) as u16
    }

    /// The month, 1 to 12.
    pub fn month(self) -> u8 {
        (self.0 >> 5 & 0xf) as u8
    }

    /// The day of the month, 1 to 31.
    pub fn day(self) -> u8 {
        (self.0 & 0x1f) as u8
    }

    /// The packed number; its order is the order of days.
    pub fn packed(self) -> u32 {
        self.0
    }

    /// The day behind a number that `packed` gave.
    pub fn from_packed(packed: u32) -> Day {
        Day(packed)
    }

    /// `YYYY-MM-DD` in ASCII.
    pub fn digits(self) -> [u8; 10] {
        let mut digits = *b"0000-00-00";
        write_digits(&mut digits[..4], self.year().into());
        write_digits(&mut digits[5..7], self.month().into());
        write_digits(&mut digits[8..], self.day().into());
        digits
    }

    /// Days since the begin of 1970; negative before it.
    pub fn since_1970(self) -> i32 {
        // Years begin in March here, so that the day that some have and others not is their last.
        let (month, is_late) = match self.month() {
            month @ 3.. => (i32::from(month) - 3, 0),
            month => (i32::from(month) + 9, 1),
        };
        let year = i32::from(self.year()) - is_late;
        let leaps = year / 4 - year / 100 + year / 400;
        365 * year + leaps + (153 * month + 2) / 5 + i32::from(self.day()) - 1 - 719_468
    }

    /// Whole years from this day to a later one, negative when it is not later. Who was born on
    /// 29 February has the birthday on 1 March in years without that day.
    pub fn whole_years_until(self, later: Day) -> i32 {
        let years = i32::from(later.year()) - i32::from(self.year());
        let birthday_is_ahead = (later.month(), later.day()) < (self.month(), self.day());
        years - i32::from(birthday_is_ahead)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.digits()).expect("digits are ASCII"))
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A wall-clock moment with microseconds, packed as day, hour (5 bits), minute (6), second (6) and
/// microsecond (20).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment(u64);

impl Moment {
    /// Midnight at which a day begins.
    pub fn start_of(day: Day) -> Moment {
        Moment(u64::from(day.0) << 37)
    }

    /// The last microsecond of a day.
    pub fn end_of(day: Day) -> Moment {
        Moment::at(day, 23, 59, 59, 999_999)
    }

    fn at(day: Day, hour: u8, minute: u8, second: u8, micros: u32) -> Moment {
        let clock = u64::from(hour) << 32 | u64::from(minute) << 26 | u64::from(second) << 20;
        Moment(u64::from(day.0) << 37 | clock | u64::from(micros))
    }

    /// Reads `YYYY-MM-DD HH:MM:SS` with an optional fraction of 1 to 6 digits.
    pub fn parse(text: &[u8]) -> Option<Moment> {
        let (whole, rest) = text.split_at_checked(19)?;
        let micros = match rest {
            [] => 0,
            [b'.', fraction @ ..] => micros(fraction)?,
            _ => return None,
        };
        Moment::parse_whole(whole, b' ', micros)
    }

    /// Reads exactly `YYYY-MM-DDTHH:MM:SSZ`, the form of birth dates in documents.
    pub fn parse_utc(text: &[u8]) -> Option<Moment> {
        let (whole, rest) = text.split_at_checked(19)?;
        if rest != b"Z" { None } else { Moment::parse_whole(whole, b'T', 0) }
    }

    fn parse_whole(text: &[u8], separator: u8, micros: u32) -> Option<Moment> {
        let (day, clock) = text.split_at_checked(10)?;
        let [between, h1, h2, b':', m1, m2, b':', s1, s2] = clock else { return None };
        let (hour, minute, second) = (two(*h1, *h2)?, two(*m1, *m2)?, two(*s1, *s2)?);
        if *between != separator || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        Some(Moment::at(Day::parse(day)?, hour, minute, second, micros))
    }

    /// A minute of a day, `None` where the day has none.
    pub fn of_minute(day: Day, hour: u8, minute: u8) -> Option<Moment> {
        (hour < 24 && minute < 60).then(|| Moment::at(day, hour, minute, 0, 0))
    }

    /// So many ms after wall clocks showed the begin of 1970; the nearest that can be written,
    /// where it cannot be.
    pub fn of_ms(ms: i64) -> Moment {
        Moment::of_us(ms.saturating_mul(1_000))
    }

    /// The same in microseconds.
    pub fn of_us(us: i64) -> Moment {
        let time = jiff::Timestamp::from_microsecond(us).ok();
        let Some(civil) = time.map(|time| jiff::tz::Offset::UTC.to_datetime(time)) else {
            return if us < 0 { Moment::start_of(Day::MIN) } else { Moment::end_of(Day::MAX) };
        };
        let [hour, minute, second] = [civil.hour(), civil.minute(), civil.second()];
        let micros = civil.subsec_nanosecond() / 1_000;
        match Day::new(civil.year().max(0) as u16, civil.month() as u8, civil.day() as u8) {
            Some(day) => Moment::at(day, hour as u8, minute as u8, second as u8, micros as u32),
            None => Moment::start_of(Day::MIN),
        }
    }

    /// The day on which this moment lies.
    pub fn day(self) -> Day {
        Day((self.0 >> 37) as u32)
    }

    /// `YYYY-MM-DD HH:MM:SS.ffffff` in ASCII.
    pub fn digits(self) -> [u8; 26] {
        let mut digits = *b"0000-00-00 00:00:00.000000";
        digits[..10].copy_from_slice(&self.day().digits());
        let part = |shift: u32, mask: u64| (self.0 >> shift & mask) as u32;
        write_digits(&mut digits[11..13], part(32, 0x1f));
        write_digits(&mut digits[14..16], part(26, 0x3f));
        write_digits(&mut digits[17..19], part(20, 0x3f));
        write_digits(&mut digits[20..], part(0, 0xf_ffff));
        digits
    }

    /// Microseconds since wall clocks showed the begin of 1970; negative before that.
    pub fn since_1970_us(self) -> i64 {
        let part = |shift: u32, mask: u64| (self.0 >> shift & mask) as i64;
        let minutes = part(32, 0x1f) * 60 + part(26, 0x3f);
        let seconds = i64::from(self.day().since_1970()) * 86_400 + minutes * 60 + part(20, 0x3f);
        seconds * 1_000_000 + part(0, 0xf_ffff)
    }

    /// The packed number; its order is the order of moments.
    pub fn packed(self) -> u64 {
        self.0
    }

    /// The moment behind a number that `packed` gave.
    pub fn from_packed(packed: u64) -> Moment {
        Moment(packed)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.digits()).expect("digits are ASCII"))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes the lowest decimal digits of a number, as many as there is room for.
fn write_digits(room: &mut [u8], mut number: u32) {
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn two(tens: u8, ones: u8) -> Option<u8> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| (tens - b'0') * 10 + (ones - b'0'))
}

/// Microseconds of a decimal fraction of 1 to 6 digits: `5` is half a second.
fn micros(fraction: &[u8]) -> Option<u32> {
    if fraction.is_empty() || fraction.len() > 6 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let written = fraction.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(written * 10u32.pow(6 - fraction.len() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_moments_are_counted_from_1970() {
        for day in
            ["0001-01-01", "1969-12-31", "1970-01-01", "2000-02-29", "2024-03-01", "9999-12-31"]
        {
            let civil: jiff::civil::Date = day.parse().expect(day);
            let since = civil.since((jiff::Unit::Day, jiff::civil::date(1970, 1, 1))).expect(day);
            assert_eq!(
                Day::parse(day.as_bytes()).expect(day).since_1970(),
                since.get_days(),
                "{day}"
            );
        }
        let moment = |text: &str| Moment::parse(text.as_bytes()).expect(text).since_1970_us();
        assert_eq!(moment("1970-01-01 00:00:00.000001"), 1);
        assert_eq!(moment("1969-12-31 23:59:59"), -1_000_000);
        assert_eq!(moment("2025-08-13 22:55:51.008465"), 1_755_125_751_008_465);
    }

    #[test]
    fn only_real_days_are_read() {
        for good in ["2025-08-13", "2024-02-29", "2000-02-29", "0001-01-01", "9999-12-31"] {
            let day = Day::parse(good.as_bytes()).expect(good);
            assert_eq!(day.to_string(), good);
        }
        for bad in [
            "",
            "2025-02-29",
            "1900-02-29",
            "2025-13-01",
            "2025-00-10",
            "2025-01-00",
            "0000-01-01",
            "2025-8-13",
            "2025-08-13 ",
            "٢٠٢٥-08-13",
            "2025/08/13",
            "-025-08-13",
        ] {
            assert_eq!(Day::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn moments_are_written_with_six_digits() {
        for (text, shown) in [
            ("2025-08-13 22:55:51", "2025-08-13 22:55:51.000000"),
            ("2025-08-13 22:55:51.5", "2025-08-13 22:55:51.500000"),
            ("2025-08-13 00:00:00.008465", "2025-08-13 00:00:00.008465"),
        ] {
            assert_eq!(Moment::parse(text.as_bytes()).expect(text).to_string(), shown);
        }
        for bad in [
            "2025-08-13",
            "2025-08-13T22:55:51",
            "2025-08-13 24:00:00",
            "2025-08-13 22:60:00",
            "2025-08-13 22:55:60",
            "2025-08-13 22:55:51.",
            "2025-08-13 22:55:51.1234567",
            "2025-02-30 22:55:51",
            "2025-08-13 22:55:51Z",
            "2025-08-13 22:55:51.12a",
        ] {
            assert_eq!(Moment::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn moments_are_counted_from_1970() {
        for (ms, shown) in [
            (0, "1970-01-01 00:00:00.000000"),
            (-1, "1969-12-31 23:59:59.999000"),
            (1_764_158_400_123, "2025-11-26 12:00:00.123000"),
            (-62_135_596_800_000, "0001-01-01 00:00:00.000000"),
            (-62_135_596_800_001, "0001-01-01 00:00:00.000000"),
            (i64::MIN, "0001-01-01 00:00:00.000000"),
            (i64::MAX, "9999-12-31 23:59:59.999999"),
        ] {
            assert_eq!(Moment::of_ms(ms).to_string(), shown, "{ms}");
        }
    }

    #[test]
    fn packed_order_is_the_order_of_time() {
        let written = [
            "2015-01-01 00:00:00",
            "2015-01-01 00:00:00.000001",
            "2015-01-01 00:00:01",
            "2015-01-01 00:01:00",
            "2015-01-01 01:00:00",
            "2015-01-02 00:00:00",
            "2015-02-01 00:00:00",
            "2149-12-31 23:59:59.999999",
        ];
        let read: Vec<_> = written.iter().map(|t| Moment::parse(t.as_bytes()).expect(t)).collect();
        assert!(read.is_sorted());
        assert_eq!(Moment::end_of(read[7].day()), read[7]);
        assert_eq!(Moment::start_of(read[0].day()), read[0]);
    }

    #[test]
    fn birthdays_count_from_the_day_itself() {
        let day = |text: &str| Day::parse(text.as_bytes()).expect(text);
        for (born, on, years) in [
            ("2004-02-29", "2025-02-28", 20),
            ("2004-02-29", "2025-03-01", 21),
            ("2004-02-29", "2024-02-29", 20),
            ("2004-08-13", "2025-08-12", 20),
            ("2004-08-13", "2025-08-13", 21),
            ("2031-01-01", "2025-08-13", -6),
        ] {
            assert_eq!(day(born).whole_years_until(day(on)), years, "{born} to {on}");
        }
    }
}
