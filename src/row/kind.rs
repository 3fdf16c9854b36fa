//! Kinds: what values a column takes, and how JSON becomes one.
//!
//! Shape: one JSON token in, a `Value` or the reason why it is none out.
//!
//! Invariants: a value that a kind accepted lies in its range and fits its slot; equal values have
//! one form, however the JSON wrote them.
//!
//! Not here: whether a column may be absent (`source::decode`, `reference::project`).

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{Value, json};
use crate::time::{Day, Moment};

/// The type of a column with its inclusive range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` in hexadecimal digits of any case.
    Uuid,
    /// An integer, as a JSON integer or as text of 1 to 20 decimal digits without sign.
    Integer {
        /// Least value, at least -2^63.
        low: i128,
        /// Greatest value, at most 2^64-1.
        high: i128,
    },
    /// A real day, `YYYY-MM-DD`.
    Day {
        /// First day.
        low: Day,
        /// Last day.
        high: Day,
    },
    /// A real moment, `YYYY-MM-DD HH:MM:SS` with at most 6 digits of fraction.
    Moment {
        /// First day on which it may lie.
        low: Day,
        /// Last day on which it may lie.
        high: Day,
    },
    /// Text.
    Text {
        /// Longest text, in bytes of UTF-8.
        bytes_max: u32,
    },
}

/// Why a JSON token is no value of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// Not written in the form of the kind.
    Form,
    /// Of the right form, outside the range.
    Range,
}

impl Kind {
    /// Bytes of a slot in a packed row.
    pub fn width(&self) -> usize {
        match self {
            Kind::Uuid => 16,
            Kind::Integer { low, high } => match high - low {
                0..=0xff => 1,
                0x100..=0xffff => 2,
                0x1_0000..=0xffff_ffff => 4,
                0x1_0000_0000..=0xffff_ffff_ffff_ffff => 8,
                // No spec that is sound has such a range: `spec::terms::integers`.
                _ => 16,
            },
            Kind::Day { .. } => 4,
            Kind::Moment { .. } | Kind::Text { .. } => 8,
        }
    }

    /// The word for the kind in specs and in what `explain` prints.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Uuid => "uuid",
            Kind::Integer { .. } => "integer",
            Kind::Day { .. } => "date",
            Kind::Moment { .. } => "datetime",
            Kind::Text { .. } => "text",
        }
    }

    /// Reads a token that is not `null`; text that needs unescaping is put into `scratch`.
    pub fn read<'a>(
        &self,
        token: &'a RawValue,
        scratch: &'a mut String,
    ) -> Result<Value<&'a str>, Misfit> {
        match self {
            Kind::Integer { low, high } => {
                let number = integer(token).ok_or(Misfit::Form)?;
                within(number, *low, *high).map(Value::Integer)
            }
            _ => self.read_text(match json::text(token).ok_or(Misfit::Form)? {
                Cow::Borrowed(text) => text,
                Cow::Owned(text) => {
                    *scratch = text;
                    scratch
                }
            }),
        }
    }

    /// Reads text of a kind that is written as text.
    pub(crate) fn read_text<'a>(&self, text: &'a str) -> Result<Value<&'a str>, Misfit> {
        match self {
            Kind::Uuid => uuid(text).map(Value::Uuid).ok_or(Misfit::Form),
            Kind::Day { low, high } => {
                let day = Day::parse(text.as_bytes()).ok_or(Misfit::Form)?;
                within(day, *low, *high).map(Value::Day)
            }
            Kind::Moment { low, high } => {
                let moment = Moment::parse(text.as_bytes()).ok_or(Misfit::Form)?;
                within(moment.day(), *low, *high).map(|_| Value::Moment(moment))
            }
            Kind::Text { bytes_max } if text.len() > *bytes_max as usize => Err(Misfit::Range),
            Kind::Text { .. } => Ok(Value::Text(text)),
            Kind::Integer { .. } => Err(Misfit::Form),
        }
    }
}

fn within<T: PartialOrd>(value: T, low: T, high: T) -> Result<T, Misfit> {
    if low <= value && value <= high { Ok(value) } else { Err(Misfit::Range) }
}

/// The longest integer that any column can hold has 20 characters; beyond that only text with
/// leading zeros could fit, and the limit holds for it too.
const DIGITS_MAX: usize = 20;

/// An integer as a JSON integer (`-0` is none, nor is `1.0` or `1e2`) or as text of decimal digits.
pub fn integer(token: &RawValue) -> Option<i128> {
    let written = token.get();
    if written.starts_with('"') {
        let text = json::text(token)?;
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        return (plain && text.len() <= DIGITS_MAX).then(|| text.parse().ok()).flatten();
    }
    let digits = written.strip_prefix('-').unwrap_or(written);
    let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    (whole && written.len() <= DIGITS_MAX && written != "-0")
        .then(|| written.parse().ok())
        .flatten()
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    // `Uuid` also reads braces, URNs and 32 digits without hyphens, which are no keys here.
    if text.len() != uuid::fmt::Hyphenated::LENGTH {
        return None;
    }
    uuid::Uuid::try_parse(text).ok().map(uuid::Uuid::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &Kind, json: &str) -> Result<String, Misfit> {
        let token: &RawValue = serde_json::from_str(json).expect("a case is JSON");
        kind.read(token, &mut String::new()).map(|value| value.to_string())
    }

    #[test]
    fn integers_come_as_integers_or_as_digits() {
        let kind = Kind::Integer { low: 0, high: u64::MAX.into() };
        for (json, want) in [
            ("7", "7"),
            ("\"7\"", "7"),
            ("\"007\"", "7"),
            ("\"\\u0037\"", "7"),
            ("18446744073709551615", "18446744073709551615"),
            ("\"00000000000000000007\"", "7"),
        ] {
            assert_eq!(read(&kind, json).as_deref(), Ok(want), "{json}");
        }
        for json in [
            "true",
            "7.0",
            "1e2",
            "-0",
            "\"-0\"",
            "\"+5\"",
            "\" 7\"",
            "\"7\\n\"",
            "\"1_0\"",
            "\"٥\"",
            "\"\"",
            "[7]",
            "{}",
            "\"000000000000000000007\"",
            "100000000000000000000",
            "\"\\ud800\"",
        ] {
            assert_eq!(read(&kind, json), Err(Misfit::Form), "{json}");
        }
        assert_eq!(read(&kind, "18446744073709551616"), Err(Misfit::Range));
        assert_eq!(read(&kind, "-1"), Err(Misfit::Range));
        let signed = Kind::Integer { low: i64::MIN.into(), high: 5 };
        assert_eq!(read(&signed, "-9223372036854775808").as_deref(), Ok("-9223372036854775808"));
        assert_eq!(read(&signed, "\"-3\""), Err(Misfit::Form), "text has no sign");
    }

    #[test]
    fn uuids_are_lower_case_from_then_on() {
        let want = Ok("ee76e99f-e8fd-419f-833c-79875d0262d4");
        assert_eq!(read(&Kind::Uuid, "\"EE76E99F-e8fd-419f-833c-79875d0262D4\"").as_deref(), want);
        for json in [
            "\"ee76e99fe8fd419f833c79875d0262d4\"",
            "\"{ee76e99f-e8fd-419f-833c-79875d0262d4}\"",
            "\"ee76e99fe8fd419f833c79875d0262d4----\"",
            "\"ee76e99f-e8fd419f-833c-7987-5d0262d4\"",
            "\"gg76e99f-e8fd-419f-833c-79875d0262d4\"",
            "17",
        ] {
            assert_eq!(read(&Kind::Uuid, json), Err(Misfit::Form), "{json}");
        }
    }

    #[test]
    fn text_is_bounded_in_bytes() {
        let kind = Kind::Text { bytes_max: 4 };
        assert_eq!(read(&kind, "\"яя\"").as_deref(), Ok("яя"));
        assert_eq!(read(&kind, "\"яяя\""), Err(Misfit::Range));
        assert_eq!(read(&kind, "\"a\\tb\"").as_deref(), Ok("a\tb"));
        assert_eq!(read(&kind, "7"), Err(Misfit::Form));
    }

    #[test]
    fn slots_are_as_narrow_as_the_range() {
        for (low, high, width) in [
            (0, 255, 1),
            (1, 256, 1),
            (-1, 255, 2),
            (0, 65_535, 2),
            (0, 65_536, 4),
            (0, u32::MAX.into(), 4),
            (0, u64::MAX.into(), 8),
            (i64::MIN.into(), 0, 8),
            (i64::MIN.into(), i64::MAX.into(), 8),
        ] {
            assert_eq!(Kind::Integer { low, high }.width(), width, "{low}..{high}");
        }
    }
}
