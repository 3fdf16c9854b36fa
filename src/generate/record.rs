//! A click as JSON: fields that can be replaced, dropped and put in another order, then a line.
//!
//! Shape: a click in; its fields in the order of the journal; bytes out.
//!
//! Invariants: one record serves all clicks in turn, so that a click costs no allocation. Names
//! and values are stored as they are written: what is set must be JSON already, or the line is
//! meant to be none.
//!
//! Not here: which variants and faults there are (`faults`).

use std::ops::Range;

use jiff::civil::{Date, DateTime};

use super::clicks::{Certificate, Click};
use super::dice::Dice;

/// How the fields of a line are set apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// No spaces, as the journal writes.
    Compact,
    /// A space after each comma and colon.
    Spaced,
}

/// The fields of one line.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Values one after another; those that were replaced remain until the next click.
    text: Vec<u8>,
    fields: Vec<(&'static str, Range<usize>)>,
}

impl Record {
    /// Forgets all fields and takes those of a click, as the journal orders them.
    pub(super) fn fill(&mut self, click: &Click) {
        self.text.clear();
        self.fields.clear();
        self.number("JOURNAL_ID", click.journal.into());
        self.number("STUDENT_ID", click.student.into());
        self.number("LESSON_ID", click.lesson);
        self.value("LESSON_DATE", |text| {
            text.push(b'"');
            push_date(text, click.date);
            text.push(b'"');
        });
        self.number("ATTENDANCE_MARK", click.mark.into());
        self.number("MARKED_BY", click.hand.by.into());
        self.value("ID", |text| {
            text.push(b'"');
            let mut hyphenated = [0; uuid::fmt::Hyphenated::LENGTH];
            text.extend_from_slice(click.id.hyphenated().encode_lower(&mut hyphenated).as_bytes());
            text.push(b'"');
        });
        self.value("DATE_CREATE", |text| push_instant(text, click.at));
        self.number("TYPE_MARK", 0);
        match click.hand.role {
            Some(role) => self.number("MARKED_BY_ROLE", role.into()),
            None => self.set("MARKED_BY_ROLE", "null"),
        }
        match click.certificate {
            Certificate::Unsaid => {}
            Certificate::Null => self.set("NUMBER_CERT", "null"),
            Certificate::Number(number) => self.number("NUMBER_CERT", number.into()),
        }
    }

    /// The value of a field as it is written, empty where there is none.
    pub(super) fn get(&self, name: &str) -> &[u8] {
        let field = self.fields.iter().find(|(known, _)| *known == name);
        field.map_or(&[], |(_, range)| &self.text[range.clone()])
    }

    /// Whether there is a field of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(known, _)| *known == name)
    }

    /// Replaces the value of a field, or appends the field.
    pub(super) fn set(&mut self, name: &'static str, value: &str) {
        self.value(name, |text| text.extend_from_slice(value.as_bytes()));
    }

    /// Replaces the value of a field by text: the same characters in quotation marks.
    pub(super) fn quote(&mut self, name: &'static str) {
        let value = self.get(name).to_vec();
        self.value(name, |text| {
            text.push(b'"');
            text.extend_from_slice(&value);
            text.push(b'"');
        });
    }

    /// Changes the bytes of a value where they stand.
    pub(super) fn edit(&mut self, name: &str, edit: impl FnOnce(&mut [u8])) {
        if let Some((_, range)) = self.fields.iter().find(|(known, _)| *known == name) {
            edit(&mut self.text[range.clone()]);
        }
    }

    /// Drops a field.
    pub(super) fn remove(&mut self, name: &str) {
        self.fields.retain(|(known, _)| *known != name);
    }

    /// Writes a field's name in another way.
    pub(super) fn rename(&mut self, name: &str, other: &'static str) {
        for (known, _) in self.fields.iter_mut().filter(|(known, _)| *known == name) {
            *known = other;
        }
    }

    /// Puts a field before all others, even where one of its name stands already.
    pub(super) fn put_first(&mut self, name: &'static str, value: &str) {
        let start = self.text.len();
        self.text.extend_from_slice(value.as_bytes());
        self.fields.insert(0, (name, start..self.text.len()));
    }

    /// Puts the fields in random order.
    pub(super) fn shuffle(&mut self, dice: &mut Dice) {
        dice.shuffle(&mut self.fields);
    }

    /// Appends the record to `line` as a JSON object.
    pub(super) fn write(&self, layout: Layout, line: &mut Vec<u8>) {
        let (comma, colon) = match layout {
            Layout::Compact => (",", "\":"),
            Layout::Spaced => (", ", "\": "),
        };
        line.push(b'{');
        for (n, (name, range)) in self.fields.iter().enumerate() {
            if n > 0 {
                line.extend_from_slice(comma.as_bytes());
            }
            line.push(b'"');
            line.extend_from_slice(name.as_bytes());
            line.extend_from_slice(colon.as_bytes());
            line.extend_from_slice(&self.text[range.clone()]);
        }
        line.push(b'}');
    }

    fn number(&mut self, name: &'static str, number: u64) {
        self.value(name, |text| push_number(text, number));
    }

    fn value(&mut self, name: &'static str, push: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        push(&mut self.text);
        let range = start..self.text.len();
        match self.fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = range,
            None => self.fields.push((name, range)),
        }
    }
}

/// Decimal digits by hand: six numbers a click make formatting machinery the dearest part.
fn push_number(text: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[start..]);
}

/// The last `width` digits of a number, zeros in front.
fn push_padded(text: &mut Vec<u8>, number: u32, width: u32) {
    for place in (0..width).rev() {
        text.push(b'0' + (number / 10_u32.pow(place) % 10) as u8);
    }
}

/// `2025-08-13`
fn push_date(text: &mut Vec<u8>, date: Date) {
    push_padded(text, date.year().unsigned_abs().into(), 4);
    text.push(b'-');
    push_padded(text, date.month().unsigned_abs().into(), 2);
    text.push(b'-');
    push_padded(text, date.day().unsigned_abs().into(), 2);
}

/// `"2025-08-13 22:55:51.008465"`, with its quotation marks
fn push_instant(text: &mut Vec<u8>, at: DateTime) {
    text.push(b'"');
    push_date(text, at.date());
    for (before, number) in [(b' ', at.hour()), (b':', at.minute()), (b':', at.second())] {
        text.push(before);
        push_padded(text, number.unsigned_abs().into(), 2);
    }
    text.push(b'.');
    push_padded(text, at.subsec_nanosecond().unsigned_abs() / 1_000, 6);
    text.push(b'"');
}

#[cfg(test)]
pub(super) mod tests {
    use jiff::civil::date;
    use uuid::Uuid;

    use super::super::clicks::Hand;
    use super::*;

    /// The click that the documentation of the journal shows.
    pub(in super::super) fn sample() -> Click {
        Click {
            id: Uuid::from_u128(0xee76_e99f_e8fd_419f_833c_7987_5d02_62d4),
            journal: 972,
            student: 21_284,
            lesson: 132_644,
            date: date(2025, 8, 13),
            mark: 0,
            hand: Hand { by: 249, role: Some(2) },
            at: date(2025, 8, 13).at(22, 55, 51, 8_465_000),
            certificate: Certificate::Unsaid,
        }
    }

    fn written(record: &Record, layout: Layout) -> String {
        let mut line = Vec::new();
        record.write(layout, &mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn click_is_written_as_the_journal_writes_it() {
        let mut record = Record::default();
        record.fill(&sample());
        let expected = concat!(
            r#"{"JOURNAL_ID":972,"STUDENT_ID":21284,"LESSON_ID":132644,"#,
            r#""LESSON_DATE":"2025-08-13","ATTENDANCE_MARK":0,"MARKED_BY":249,"#,
            r#""ID":"ee76e99f-e8fd-419f-833c-79875d0262d4","#,
            r#""DATE_CREATE":"2025-08-13 22:55:51.008465","TYPE_MARK":0,"MARKED_BY_ROLE":2}"#
        );
        assert_eq!(written(&record, Layout::Compact), expected);
        let cert = Certificate::Number(255);
        record.fill(&Click { certificate: cert, ..sample() });
        assert!(written(&record, Layout::Spaced).ends_with(r#""NUMBER_CERT": 255}"#));
    }

    #[test]
    fn fields_are_replaced_where_they_stand() {
        let mut record = Record::default();
        record.fill(&sample());
        for name in ["LESSON_ID", "LESSON_DATE", "DATE_CREATE", "TYPE_MARK", "STUDENT_ID"] {
            record.remove(name);
        }
        record.set("JOURNAL_ID", "-1");
        record.quote("MARKED_BY");
        record.rename("ID", "\\u0049D");
        record.edit("MARKED_BY_ROLE", |value| value.fill(b'3'));
        record.put_first("JOURNAL_ID", "\"x\"");
        let expected = concat!(
            r#"{"JOURNAL_ID":"x","JOURNAL_ID":-1,"ATTENDANCE_MARK":0,"MARKED_BY":"249","#,
            r#""\u0049D":"ee76e99f-e8fd-419f-833c-79875d0262d4","MARKED_BY_ROLE":3}"#
        );
        assert_eq!(written(&record, Layout::Compact), expected);
        assert!(!record.has("TYPE_MARK") && record.has("MARKED_BY"));
        assert_eq!(record.get("TYPE_MARK"), b"");
    }

    #[test]
    fn numbers_of_any_size_are_whole() {
        for number in [0, 7, 10, 65_535, u64::MAX] {
            let mut text = Vec::new();
            push_number(&mut text, number);
            assert_eq!(String::from_utf8(text).unwrap(), number.to_string());
        }
    }
}
