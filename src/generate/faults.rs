//! Variants and faults of a line: what a journal may write, and what must not become a record.
//!
//! Shape: dice and a filled record in; the record changed, or the bytes of a line out.
//!
//! Invariants: `vary` and `disguise` leave a line that is a record; `spoil` leaves one that is
//! none, whatever it draws.
//!
//! Not here: how often this happens, duplicates and late lines (`delivery`).

use super::dice::Dice;
use super::record::{Layout, Record};

/// How many kinds of fault there are.
pub(super) const FAULT_KINDS: u64 = 14;

/// Fields without which a click is no record.
const REQUIRED: [&str; 8] = [
    "ID",
    "JOURNAL_ID",
    "STUDENT_ID",
    "LESSON_ID",
    "LESSON_DATE",
    "ATTENDANCE_MARK",
    "MARKED_BY",
    "DATE_CREATE",
];

/// Lines that are no click at all.
const STRAY: [&str; 6] = ["null", "[]", "42", "\"text\"", "not json at all", "{}"];

/// Fields with values that they must not take, as JSON.
#[rustfmt::skip]
const WRONG: [(&str, &[&str]); 9] = [
    ("ID", &[r#""""#, r#""ee76e99f""#, "17", "null", r#""zz76e99f-e8fd-419f-833c-79875d0262d4""#]),
    (
        "JOURNAL_ID",
        &[
            "65536", "-1", "1.5", r#""x""#, "true", r#""+5""#, r#"" 7""#, r#""1_0""#, r#""-0""#,
            "100.0", r#""٥""#, r#""7\n""#,
        ],
    ),
    ("STUDENT_ID", &["0", "-5", "2147483648", r#""""#, "[1]", "null"]),
    ("LESSON_ID", &["-1", "18446744073709551616", r#""12a""#, "{}"]),
    (
        "LESSON_DATE",
        &[
            r#""2025-02-30""#, r#""13.08.2025""#, r#""""#, r#""0001-01-01""#, "20250813", "null",
            r#""2025-8-13""#, r#""1969-12-31""#, r#""2149-06-07""#,
        ],
    ),
    ("ATTENDANCE_MARK", &["6", "255", "-1", r#""да""#, "null", "false"]),
    (
        "DATE_CREATE",
        &[
            r#""2025-08-13""#, r#""2025-08-13 25:00:00""#, r#""now""#, r#""""#,
            r#""2025-08-13 10:00:00.1234567""#, "null", r#""2025-08-13T10:00:00""#,
            r#""2014-12-31 23:59:59""#, r#""2150-01-01 00:00:00""#, r#""2025-08-13 10:00:60""#,
            r#""2025-8-13 10:00:00""#,
        ],
    ),
    ("MARKED_BY_ROLE", &["4", "-1", r#""teacher""#, "1.0"]),
    ("MARKED_BY", &["4294967296", "-1", "null", r#""12.5""#]),
];

/// An unknown key with quotation marks, a backslash, a character of four bytes and depth.
const COMMENT: &str = r#"{"text":"опоздал \"на 5 минут\" \\ 🎓","nested":[1,[2,{"a":null}]]}"#;
/// The same in ASCII.
const COMMENT_ESCAPED: &str = concat!(
    r#"{"text":"\u043e\u043f\u043e\u0437\u0434\u0430\u043b \"\u043d\u0430 5 "#,
    r#"\u043c\u0438\u043d\u0443\u0442\" \\ \ud83c\udf93","nested":[1,[2,{"a":null}]]}"#
);
/// More digits than any number type holds.
const HUGE: &str = "999999999999999999999999999999";

/// The same click as other journals write it: numbers as text, another order, unknown keys, short
/// fractions, an ID in upper case; and now and then a teacher whose number is 0.
pub(super) fn vary(record: &mut Record, dice: &mut Dice) {
    if dice.chance(0.3) {
        record.quote("MARKED_BY");
    }
    if dice.chance(0.1) {
        record.quote("STUDENT_ID");
    }
    if dice.chance(0.1) {
        record.set("comment", COMMENT);
    }
    if dice.chance(0.1) {
        shorten(record, dice.pick(&[19, 21, 23]));
    }
    if dice.chance(0.05) {
        record.edit("ID", <[u8]>::make_ascii_uppercase);
    }
    if dice.chance(0.01) {
        record.set("MARKED_BY", "0");
        record.set("MARKED_BY_ROLE", "2");
    }
    if dice.chance(0.1) {
        record.set("TYPE_MARK", "null");
    }
    if dice.chance(0.05) {
        record.remove("MARKED_BY_ROLE");
    }
    record.shuffle(dice);
}

/// Cuts the instant after `length` characters.
fn shorten(record: &mut Record, length: usize) {
    // One more for the quotation mark in front; the one behind is put back.
    let cut = record.get("DATE_CREATE").get(1..=length).map(<[u8]>::to_vec).unwrap_or_default();
    record.set("DATE_CREATE", &String::from_utf8_lossy(&cut));
    record.quote("DATE_CREATE");
}

/// Writes the record to `line`, seldom in a way that tries a reader of JSON.
pub(super) fn disguise(record: &mut Record, dice: &mut Dice, line: &mut Vec<u8>) {
    if dice.chance(0.02) && record.has("comment") {
        record.set("comment", COMMENT_ESCAPED);
    }
    let trick = if dice.chance(0.01) { dice.below(4) } else { 4 };
    match trick {
        // A key twice, the first time wrong: the last counts.
        0 => record.put_first("JOURNAL_ID", r#""x""#),
        1 => record.rename("ID", "\\u0049D"),
        // A number that no type holds, where nobody looks.
        2 => record.set("n", HUGE),
        _ => {}
    }
    record.write(Layout::Compact, line);
    if trick == 3 {
        replace(line, b"-0", b"\\u002d0");
    }
}

/// Writes a line that must not become a record, of a random kind, and its key.
pub(super) fn spoil(record: &mut Record, dice: &mut Dice, line: &mut Vec<u8>, key: &mut Vec<u8>) {
    let kind = dice.below(FAULT_KINDS);
    spoil_as(kind, record, dice, line);
    // A line that could be read far enough to find an ID was keyed by it; kinds 0 to 3 have none.
    if kind > 3 {
        write_key(record, key);
    }
}

fn spoil_as(kind: u64, record: &mut Record, dice: &mut Dice, line: &mut Vec<u8>) {
    match kind {
        0 => {
            record.write(Layout::Spaced, line);
            line.truncate(1 + dice.place(60));
        }
        1 => {
            line.extend_from_slice(b"\xff\xfe");
            record.write(Layout::Spaced, line);
        }
        2 => {}
        3 => line.extend_from_slice(dice.pick(&STRAY).as_bytes()),
        4 => {
            record.remove(dice.pick(&REQUIRED));
            record.write(Layout::Spaced, line);
        }
        other => {
            let (name, values) = WRONG[(other - 5) as usize % WRONG.len()];
            record.set(name, dice.pick(values));
            record.write(Layout::Spaced, line);
        }
    }
}

/// Writes the key of a record: its ID in lower case, nothing where there is none.
pub(super) fn write_key(record: &Record, key: &mut Vec<u8>) {
    let id = record.get("ID");
    if id != b"null" {
        key.extend(id.iter().filter(|byte| **byte != b'"').map(u8::to_ascii_lowercase));
    }
}

fn replace(line: &mut Vec<u8>, from: &[u8], to: &[u8]) {
    let mut start = 0;
    while let Some(found) = line[start..].windows(from.len()).position(|part| part == from) {
        let at = start + found;
        line.splice(at..at + from.len(), to.iter().copied());
        start = at + to.len();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::dice::Stream;
    use super::super::record::tests::sample;
    use super::super::tests::{flaw, meaning};
    use super::*;

    fn record() -> Record {
        let mut record = Record::default();
        record.fill(&sample());
        record
    }

    #[test]
    fn spoilt_line_is_never_a_record() {
        let mut dice = Dice::new(1, Stream::Delivery, 0);
        for kind in 0..FAULT_KINDS {
            for _ in 0..200 {
                let mut line = Vec::new();
                spoil_as(kind, &mut record(), &mut dice, &mut line);
                assert!(flaw(&line).is_some(), "{kind}: {}", String::from_utf8_lossy(&line));
                assert!(!line.contains(&b'\n'));
            }
        }
    }

    #[test]
    fn every_wrong_value_is_json_and_no_value_of_its_field() {
        for (name, values) in WRONG {
            for value in values {
                let mut record = record();
                record.set(name, value);
                let mut line = Vec::new();
                record.write(Layout::Spaced, &mut line);
                assert_eq!(flaw(&line), Some(name), "{value}");
            }
        }
    }

    #[test]
    fn varied_and_disguised_lines_are_records_of_the_same_cell() {
        let mut dice = Dice::new(1, Stream::Delivery, 0);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..20_000 {
            let (mut record, mut line) = (record(), Vec::new());
            vary(&mut record, &mut dice);
            disguise(&mut record, &mut dice, &mut line);
            assert_eq!(flaw(&line), None, "{}", String::from_utf8_lossy(&line));
            assert_eq!(meaning(&line), meaning(&line_of_sample()));
            let text = String::from_utf8(line).unwrap();
            for part in PARTS {
                if text.contains(part) {
                    seen.insert(part);
                }
            }
        }
        assert_eq!(seen.len(), PARTS.len(), "{seen:?}");
    }

    /// One trace of every variant and disguise.
    const PARTS: [&str; 13] = [
        r#""MARKED_BY":"249""#,
        r#""STUDENT_ID":"21284""#,
        "🎓",
        "\\ud83c",
        r#"22:55:51","#,
        r#"22:55:51.0","#,
        r#"22:55:51.008","#,
        "EE76E99F",
        r#""MARKED_BY":0"#,
        r#""TYPE_MARK":null"#,
        r#"{"JOURNAL_ID":"x","#,
        r#""\u0049D":"#,
        "2025\\u002d08-13",
    ];

    fn line_of_sample() -> Vec<u8> {
        let mut line = Vec::new();
        record().write(Layout::Compact, &mut line);
        line
    }

    #[test]
    fn comment_says_the_same_in_ascii() {
        let plain: Value = serde_json::from_str(COMMENT).unwrap();
        assert_eq!(serde_json::from_str::<Value>(COMMENT_ESCAPED).unwrap(), plain);
        assert!(COMMENT_ESCAPED.is_ascii());
    }

    #[test]
    fn key_is_the_id_or_nothing() {
        let cases = [(r#""EE76e99f""#, "ee76e99f"), ("17", "17"), ("null", ""), (r#""""#, "")];
        for (id, expected) in cases {
            let (mut record, mut key) = (record(), Vec::new());
            record.set("ID", id);
            write_key(&record, &mut key);
            assert_eq!(String::from_utf8(key).unwrap(), expected);
        }
    }
}
