//! The short cut of decoding: events as a producer usually writes them, all in one form.
//!
//! Shape: the same as `source::decode`, for a part of what that takes: no white space, no escapes,
//! no key that is no column, no key twice. A producer writes its keys in one order, so the key that
//! followed last time is tried first.
//!
//! Invariants: an event that is decoded here has the row that it would have there; whatever is
//! doubtful, malformed or out of range is left to it, so that there is one judge of what is wrong.

use crate::{
    row::{ColumnId, Kind, RowBuilder, Value},
    spec::{Spec, plan::Events},
    time::{Day, Moment},
};

/// Decodes events of the usual form.
#[derive(Debug)]
pub(super) struct FastDecoder {
    /// By column: `"NAME":`. Empty where there are more columns than bits in a mask.
    labels: Vec<Box<[u8]>>,
    /// By column: that which followed it last time; the last entry is for the begin of an event.
    followed_by: Vec<usize>,
    /// A bit for each column that every event must have.
    required: u64,
    has_text: bool,
}

impl FastDecoder {
    pub(super) fn new(spec: &Spec) -> FastDecoder {
        let columns = &spec.events.columns;
        let few = columns.len() <= u64::BITS as usize;
        let labels = columns.iter().filter(|_| few).map(|column| {
            // A name needs no escapes: `spec::terms::is_name`.
            format!("\"{}\":", column.name).into_bytes().into()
        });
        let required = columns.iter().enumerate().filter(|(_, column)| !column.optional);
        let is_text = |id| matches!(spec.events.layout.kind(ColumnId(id)), Kind::Text { .. });
        FastDecoder {
            labels: labels.collect(),
            followed_by: (1..=columns.len()).chain([0]).collect(),
            required: required.fold(0, |bits, (place, _)| bits | 1u64.unbounded_shl(place as u32)),
            has_text: (0..columns.len() as u16).any(is_text),
        }
    }

    /// Appends the row of an event; `None`, with anything appended, where its form is another.
    pub(super) fn decode(
        &mut self,
        events: &Events,
        event: &[u8],
        row: &mut Vec<u8>,
    ) -> Option<()> {
        let mut rest = event.strip_prefix(b"{")?;
        let mut builder = RowBuilder::new(&events.layout, row);
        let mut texts = [None; u64::BITS as usize];
        let (mut seen, mut previous) = (0u64, self.labels.len());
        loop {
            let column = self.column(previous, rest)?;
            rest = &rest[self.labels[column].len()..];
            if seen & 1 << column != 0 {
                return None;
            }
            seen |= 1 << column;
            previous = column;
            let id = ColumnId(column as u16);
            if let Some(after) = rest.strip_prefix(b"null") {
                seen &= !(self.required & 1 << column);
                rest = after;
            } else {
                let (value, after) = value(events.layout.kind(id), rest)?;
                rest = after;
                match value {
                    Value::Text(text) => texts[column] = Some(text),
                    value => builder.put(id, value),
                }
            }
            match rest.split_first()? {
                (b',', after) => rest = after,
                (b'}', []) => break,
                _ => return None,
            }
        }
        if seen & self.required != self.required {
            return None;
        }
        if self.has_text {
            for (place, text) in texts.iter().enumerate() {
                if let Some(text) = text {
                    builder.put(ColumnId(place as u16), Value::Text(text));
                }
            }
        }
        Some(())
    }

    /// The column whose label begins `rest`.
    fn column(&mut self, previous: usize, rest: &[u8]) -> Option<usize> {
        let likely = *self.followed_by.get(previous)?;
        if self.labels.get(likely).is_some_and(|label| begins_with(rest, label)) {
            return Some(likely);
        }
        let found = self.labels.iter().position(|label| rest.starts_with(label))?;
        self.followed_by[previous] = found;
        Some(found)
    }
}

/// `starts_with` in steps of 8 bytes: labels are too short for the general comparison to pay.
fn begins_with(rest: &[u8], label: &[u8]) -> bool {
    let Some(begin) = rest.get(..label.len()) else { return false };
    let (begin, begin_tail) = begin.as_chunks::<8>();
    let (label, label_tail) = label.as_chunks::<8>();
    begin == label && begin_tail.iter().eq(label_tail)
}

/// The value at the begin of `rest`, and what comes after it.
fn value<'e>(kind: &Kind, rest: &'e [u8]) -> Option<(Value<&'e str>, &'e [u8])> {
    match kind {
        Kind::Integer { low, high } => {
            let (number, after) = integer(rest)?;
            let within = *low <= number && number <= *high;
            within.then_some((Value::Integer(number), after))
        }
        Kind::Uuid => {
            let (text, after) = quoted(rest, uuid::fmt::Hyphenated::LENGTH)?;
            let uuid = uuid::Uuid::try_parse_ascii(text).ok()?;
            Some((Value::Uuid(uuid.into_bytes()), after))
        }
        Kind::Day { low, high } => {
            let (text, after) = quoted(rest, "YYYY-MM-DD".len())?;
            let day = Day::parse(text).filter(|day| low <= day && day <= high)?;
            Some((Value::Day(day), after))
        }
        Kind::Moment { low, high } => {
            let (text, after) = string(rest)?;
            let moment = Moment::parse(text)?;
            let day = moment.day();
            (*low <= day && day <= *high).then_some((Value::Moment(moment), after))
        }
        Kind::Text { bytes_max } => {
            let (text, after) = string(rest)?;
            let text = str::from_utf8(text).ok()?;
            (text.len() <= *bytes_max as usize).then_some((Value::Text(text), after))
        }
    }
}

/// A string of so many bytes, none of them a quote: what it holds is the caller's to judge, and
/// text of ASCII digits, letters and marks alone holds no escapes.
fn quoted(rest: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let (text, after) = rest.strip_prefix(b"\"")?.split_at_checked(length)?;
    Some((text, after.strip_prefix(b"\"")?))
}

/// A string without escapes and control characters.
fn string(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = rest.strip_prefix(b"\"")?;
    let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
    (rest[end] == b'"').then(|| (&rest[..end], &rest[end + 1..]))
}

/// An integer, as a number or as text of digits; `None` also for one of 20 digits or more.
fn integer(rest: &[u8]) -> Option<(i128, &[u8])> {
    if let Some(text) = rest.strip_prefix(b"\"") {
        let (number, digits) = digits(text)?;
        return Some((number.into(), text[digits..].strip_prefix(b"\"")?));
    }
    let (negative, rest) = match rest.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let (number, digits) = digits(rest)?;
    // As a number, no zero stands before another digit, and -0 is no integer here.
    if rest[0] == b'0' && (digits > 1 || negative) {
        return None;
    }
    let number = i128::from(number);
    Some((if negative { -number } else { number }, &rest[digits..]))
}

/// The number that digits begin with, and how many there are.
fn digits(rest: &[u8]) -> Option<(u64, usize)> {
    let (mut number, mut count) = (0u64, 0);
    while let Some(digit) = rest.get(count).map(|byte| byte.wrapping_sub(b'0')).filter(|d| *d < 10)
    {
        if count == 19 {
            return None; // It may not fit, and is rare.
        }
        number = number * 10 + u64::from(digit);
        count += 1;
    }
    (count > 0).then_some((number, count))
}
