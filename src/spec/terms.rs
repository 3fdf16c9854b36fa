//! Terms: the small texts within a spec (names, ranges, paths, zones).
//!
//! Shape: one text in; its meaning out, or `None` where it has none.
//!
//! Not here: reporting (`spec::resolve`).

use jiff::{civil, tz::TimeZone};

use super::{
    file::ScalarFile,
    plan::{Path, Step},
    violation::nearest,
};
use crate::{
    row::{Kind, Value},
    time::Day,
};

/// Names that topics of the engine's own bear, behind the dataflow's.
pub(super) const RESERVED_VIEWS: [&str; 6] =
    ["dead_letters", "events", "lead", "progress", "reference", "replayed"];

/// Longest name: with a dataflow's name before it, it is a topic's, which brokers cut at 249.
const NAME_CHARS_MAX: usize = 100;

/// A column's name: letters, digits and underscores of ASCII.
pub(super) fn is_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    first && rest && name.len() <= NAME_CHARS_MAX
}

/// A name of a dataflow, lookup or view: as a column's, in lower case.
pub(super) fn is_lower_name(name: &str) -> bool {
    is_name(name) && !name.contains(|c: char| c.is_ascii_uppercase())
}

/// A source's name: keys of the reference log begin with it.
pub fn is_source_name(name: &str) -> bool {
    let is_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(is_of_name)
}

pub(super) fn name_hint(only_case_is_wrong: bool) -> String {
    if only_case_is_wrong {
        "written in lower case".to_owned()
    } else {
        format!("1 to {NAME_CHARS_MAX} letters, digits and _ of ASCII, not beginning with a digit")
    }
}

/// All integers that a column can have: those that fit 64 bits, with or without sign.
pub(super) const INTEGERS: (i128, i128) = (i64::MIN as i128, u64::MAX as i128);

/// `LOW..HIGH` of integers that fit 64 bits, at most 2^64 of them: a slot of a packed row tells no
/// more apart.
pub(super) fn integers(range: &str) -> Option<(i128, i128)> {
    let (low, high) = range.split_once("..")?;
    let (low, high): (i128, i128) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
    let fits = INTEGERS.0 <= low && low <= high && high <= INTEGERS.1;
    (fits && high - low <= i128::from(u64::MAX)).then_some((low, high))
}

/// An integer as events may write it in text: 1 to 20 decimal digits.
pub(super) fn digits(text: &str) -> Option<i128> {
    let plain = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// `FIRST..LAST` of days.
pub(super) fn days(range: &str) -> Option<(Day, Day)> {
    let (low, high) = range.split_once("..")?;
    let day = |text: &str| Day::parse(text.trim().as_bytes());
    let (low, high) = (day(low)?, day(high)?);
    (low <= high).then_some((low, high))
}

/// Most steps of a path: documents are nested no deeper (`reference::document`).
const PATH_STEPS_MAX: usize = 64;

/// `NAME.NAME[0].NAME`.
pub(super) fn path(written: &str) -> Option<Path> {
    let mut steps = Vec::new();
    for part in written.split('.') {
        let (name, positions) = part.split_at(part.find('[').unwrap_or(part.len()));
        if name.is_empty() || name.contains([']', ' ']) {
            return None;
        }
        steps.push(Step::Name(name.to_owned()));
        let mut rest = positions;
        while !rest.is_empty() {
            let (position, after) = rest.strip_prefix('[')?.split_once(']')?;
            let digits = !position.is_empty() && position.bytes().all(|b| b.is_ascii_digit());
            steps.push(Step::Position(digits.then(|| position.parse().ok()).flatten()?));
            rest = after;
        }
    }
    (steps.len() <= PATH_STEPS_MAX).then_some(Path(steps))
}

/// Whether a zone is known and keeps one offset between two days; else why, and what to do.
pub(super) fn check_zone(
    name: &str,
    days: Option<(Day, Day)>,
) -> Result<(), (String, Option<String>)> {
    // The name goes into outputs, whose systems know zones by their exact names.
    // These two stand in the database, and are whatever a machine takes them for.
    let of_machine = ["localtime", "Factory"].contains(&name);
    let exact =
        |zone: &TimeZone| zone.iana_name() == Some(name) && !zone.is_unknown() && !of_machine;
    let Some(zone) = TimeZone::get(name).ok().filter(exact) else {
        let known: Vec<String> = jiff::tz::db().available().map(|n| n.to_string()).collect();
        let others = known.iter().map(String::as_str).filter(|known| *known != name);
        let hint = nearest(name, others)
            .or_else(|| Some("an IANA name, as \"Europe/Moscow\" or \"UTC\"".to_owned()));
        return Err((format!("zone \"{name}\" is not known"), hint));
    };
    let Some((low, high)) = days else { return Ok(()) };
    let day = |d: Day| civil::date(d.year() as i16, d.month() as i8, d.day() as i8);
    let Ok(start) = zone.to_zoned(day(low).at(0, 0, 0, 0)) else {
        return Err((format!("zone \"{name}\" cannot say when {low} begins"), None));
    };
    let start = start.timestamp();
    let offset = zone.to_offset(start);
    let changed = zone
        .following(start)
        .take_while(|transition| transition.timestamp().to_zoned(zone.clone()).date() <= day(high))
        .find(|transition| transition.offset() != offset);
    match changed {
        None => Ok(()),
        Some(transition) => {
            let on = transition.timestamp().to_zoned(zone.clone()).date();
            let cause = format!(
                "zone \"{name}\" changes its offset on {on}, within the time column's range"
            );
            let hint = "wall time would be ambiguous: narrow the range, or send times in \"UTC\"";
            Err((cause, Some(hint.to_owned())))
        }
    }
}

/// How far a zone's wall clocks are ahead of UTC, in ms, on a day.
pub(super) fn offset_ms(zone: &str, on: Day) -> Option<i64> {
    let zone = TimeZone::get(zone).ok()?;
    let day = civil::date(on.year() as i16, on.month() as i8, on.day() as i8);
    let start = zone.to_zoned(day.at(0, 0, 0, 0)).ok()?;
    Some(i64::from(start.offset().seconds()) * 1_000)
}

/// The most days of a horizon.
const HORIZON_DAYS_MAX: u32 = 36_500;

/// Whole days, as "400d".
pub(super) fn horizon_days(text: &str) -> Option<u32> {
    let digits = text.strip_suffix('d')?;
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    let days = is_plain.then(|| digits.parse().ok()).flatten()?;
    (1..=HORIZON_DAYS_MAX).contains(&days).then_some(days)
}

/// A kind and its range, as people read it.
pub fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Uuid => "uuid".to_owned(),
        Kind::Integer { low, high } => format!("integer {low}..{high}"),
        Kind::Day { low, high } => format!("date {low}..{high}"),
        Kind::Moment { low, high } => format!("datetime {low}..{high}"),
        Kind::Text { bytes_max } => format!("text, at most {bytes_max} bytes"),
    }
}

/// A value of a condition, where it can stand in a column of this kind. An integer may be written
/// as text of digits, as in events: TOML's own end at 2^63-1.
pub(super) fn scalar_value(kind: &Kind, scalar: &ScalarFile) -> Option<Value> {
    match (kind, scalar) {
        (Kind::Integer { low, high }, scalar) => {
            let number = match scalar {
                ScalarFile::Integer(number) => i128::from(*number),
                ScalarFile::Text(text) => digits(text)?,
            };
            (*low..=*high).contains(&number).then_some(Value::Integer(number))
        }
        (_, ScalarFile::Integer(_)) => None,
        (kind, ScalarFile::Text(text)) => kind.read_text(text).ok().map(|value| value.owned()),
    }
}

/// A value of a condition, as it was written.
pub(super) fn shown(scalar: &ScalarFile) -> String {
    match scalar {
        ScalarFile::Integer(number) => number.to_string(),
        ScalarFile::Text(text) => format!("\"{text}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_two_ends_in_order() {
        assert_eq!(integers("0..255"), Some((0, 255)));
        assert_eq!(integers("0 .. 18446744073709551615"), Some((0, u64::MAX.into())));
        assert_eq!(integers("-5..18446744073709551610"), Some((-5, 18_446_744_073_709_551_610)));
        let more_than_fit = "-5..18446744073709551611";
        for bad in [
            "",
            "5",
            "5..",
            "..5",
            "5..4",
            "0..18446744073709551616",
            "a..b",
            "0...5",
            "1,2",
            more_than_fit,
        ] {
            assert_eq!(integers(bad), None, "{bad:?}");
        }
        assert!(days("1970-01-01..2149-06-06").is_some());
        for bad in ["1970-01-01", "2149-06-06..1970-01-01", "1970-02-30..1971-01-01"] {
            assert_eq!(days(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn paths_name_keys_and_positions() {
        let name = |n: &str| Step::Name(n.to_owned());
        assert_eq!(path("PERSONAL.type"), Some(Path(vec![name("PERSONAL"), name("type")])));
        let matrix = vec![name("a"), Step::Position(0), Step::Position(12), name("b")];
        assert_eq!(path("a[0][12].b"), Some(Path(matrix)));
        for bad in [
            "", ".", "a.", ".a", "a..b", "[0]", "a[", "a[]", "a[-1]", "a[0", "a]0[", "a[x]",
            "a[0]b",
        ] {
            assert_eq!(path(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn zones_must_keep_one_offset() {
        let day = |y| Day::new(y, 1, 1).expect("real");
        assert_eq!(check_zone("Europe/Moscow", Some((day(2015), day(2149)))), Ok(()));
        assert_eq!(check_zone("UTC", Some((Day::MIN, Day::MAX))), Ok(()));
        assert!(check_zone("Europe/Moscow", Some((day(2010), day(2149)))).is_err());
        assert!(check_zone("Europe/Berlin", Some((day(2015), day(2149)))).is_err());
        let (_, hint) =
            check_zone("Europe/Moskow", Some((day(2015), day(2149)))).expect_err("unknown");
        assert_eq!(hint.as_deref(), Some("did you mean \"Europe/Moscow\"?"));
    }
}
