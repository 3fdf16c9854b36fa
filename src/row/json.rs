//! JSON: reading tokens without building a tree, and writing values.
//!
//! Shape: a line of bytes in, its keys with their raw tokens out; values in, JSON text out.
//!
//! Invariants: the grammar is that of RFC 8259, with what the rules allow in places nobody looks at
//! (numbers of any size, lone surrogate escapes); of a key that stands twice the last counts, which
//! callers keep by overwriting; memory is bounded by the line, never by its depth.
//!
//! Not here: which keys are columns (`source::decode`, `reference::project`).

use std::{borrow::Cow, collections::HashMap, fmt};

use serde::{
    Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::Value;

/// Why bytes are no JSON object that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Not UTF-8.
    NotUtf8,
    /// Nested deeper than the limit.
    TooDeep,
    /// Not JSON.
    NotJson,
    /// JSON, but no object.
    NotObject,
}

/// Reads one JSON object and hands each key (unescaped) with its token to `take`, in order.
///
/// # Errors
/// When the bytes are no such object; `take` may have been called before that shows.
pub fn read_object<'a>(
    bytes: &'a [u8],
    depth_max: usize,
    take: impl FnMut(&str, &'a RawValue),
) -> Result<(), Malformed> {
    let text = str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)?;
    if deeper_than(bytes, depth_max) {
        return Err(Malformed::TooDeep);
    }
    if text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        entries(text, named(take)).map_err(|_| Malformed::NotJson)
    } else {
        let json = serde_json::from_str::<IgnoredAny>(text).is_ok();
        Err(if json { Malformed::NotObject } else { Malformed::NotJson })
    }
}

/// Hands each key of a token that is an object to `take`; nothing where it is none.
pub fn object<'a>(token: &'a RawValue, take: impl FnMut(&str, &'a RawValue)) {
    if token.get().starts_with('{') {
        entries(token.get(), named(take)).expect("a token was checked when its line was read");
    }
}

/// Hands each element of a token that is an array to `take`; nothing where it is none.
pub fn array<'a>(token: &'a RawValue, take: impl FnMut(usize, &'a RawValue)) {
    if token.get().starts_with('[') {
        let mut reader = serde_json::Deserializer::from_str(token.get());
        let read = reader.deserialize_seq(Elements(take));
        read.expect("a token was checked when its line was read");
    }
}

/// The text of a token; `None` for what is no string, or holds half a surrogate pair.
pub fn text(token: &RawValue) -> Option<Cow<'_, str>> {
    let inside = token.get().strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        serde_json::from_str::<String>(token.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inside))
    }
}

/// Whether a line that is JSON holds half a surrogate pair in a key or value that counts.
pub fn line_has_lone_surrogates(line: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(line).is_ok_and(lone_surrogates)
}

/// Whether a token holds half a surrogate pair in a key or value that counts.
fn lone_surrogates(token: &RawValue) -> bool {
    match token.get().as_bytes().first() {
        Some(b'"') => text(token).is_none(),
        Some(b'[') => {
            let mut found = false;
            array(token, |_, element| found = found || lone_surrogates(element));
            found
        }
        Some(b'{') => {
            let (mut last, mut in_key) = (HashMap::new(), false);
            let read = entries(token.get(), |key, value| match text(key) {
                Some(key) => drop(last.insert(key, value)),
                None => in_key = true,
            });
            read.expect("a token was checked when its line was read");
            in_key || last.values().any(|value| lone_surrogates(value))
        }
        _ => false,
    }
}

/// Whether the brackets outside of strings nest deeper than `depth_max`.
fn deeper_than(bytes: &[u8], depth_max: usize) -> bool {
    let brackets = bytes.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if brackets <= depth_max {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Hands on the keys that are text; half a surrogate pair is no column's name, and no error.
fn named<'a>(mut take: impl FnMut(&str, &'a RawValue)) -> impl FnMut(&'a RawValue, &'a RawValue) {
    move |key, value| {
        if let Some(key) = text(key) {
            take(&key, value);
        }
    }
}

fn entries<'a>(
    text: &'a str,
    take: impl FnMut(&'a RawValue, &'a RawValue),
) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.deserialize_map(Entries(take))?;
    reader.end()
}

struct Entries<F>(F);

impl<'de, F: FnMut(&'de RawValue, &'de RawValue)> Visitor<'de> for Entries<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key()? {
            (self.0)(key, map.next_value()?);
        }
        Ok(())
    }
}

struct Elements<F>(F);

impl<'de, F: FnMut(usize, &'de RawValue)> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        let mut position = 0;
        while let Some(element) = elements.next_element()? {
            (self.0)(position, element);
            position += 1;
        }
        Ok(())
    }
}

/// Appends a value as JSON: integers as numbers, everything else as text.
pub fn write_value(out: &mut Vec<u8>, value: Value<&str>) {
    match value {
        // 64 bits hold every integer of a column, and are written faster than 128.
        Value::Integer(number) => match (u64::try_from(number), i64::try_from(number)) {
            (Ok(number), _) => write_integer(out, number),
            (_, Ok(number)) => write_integer(out, number),
            _ => write_integer(out, number),
        },
        Value::Text(text) => write_text(out, text),
        Value::Uuid(bytes) => {
            let mut text = [b'"'; uuid::fmt::Hyphenated::LENGTH + 2];
            let inside = &mut text[1..=uuid::fmt::Hyphenated::LENGTH];
            uuid::Uuid::from_bytes(bytes).as_hyphenated().encode_lower(inside);
            out.extend_from_slice(&text);
        }
        Value::Day(day) => {
            out.push(b'"');
            out.extend_from_slice(&day.digits());
            out.push(b'"');
        }
        Value::Moment(moment) => {
            out.push(b'"');
            out.extend_from_slice(&moment.digits());
            out.push(b'"');
        }
    }
}

fn write_integer(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends text as a JSON string; letters outside ASCII stay as they are.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("text is always JSON");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(line: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
        let mut found = Vec::new();
        read_object(line, 64, |key, token| {
            found.push((key.to_owned(), token.get().to_owned()));
        })?;
        Ok(found)
    }

    #[test]
    fn objects_are_read_to_the_letter() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(
            keys(b" \t\r\n{\"a\": 1 , \"\\u0061\":[2]} \r"),
            Ok(vec![pair("a", "1"), pair("a", "[2]")])
        );
        assert_eq!(keys(b"{}"), Ok(vec![]));
        assert_eq!(keys(b"{\"n\":1e999999}").map(|k| k.len()), Ok(1));
        assert_eq!(keys(b"{\"n\":\"\\ud800\"}").map(|k| k.len()), Ok(1), "nobody looks");
        assert_eq!(keys(b"{\"\\ud800\":1}").map(|k| k.len()), Ok(0), "nobody's name");
    }

    #[test]
    fn what_is_no_object_is_named() {
        for (line, want) in [
            (&b""[..], Malformed::NotJson),
            (b"{", Malformed::NotJson),
            (b"{\"a\":1,}", Malformed::NotJson),
            (b"{\"a\":1}{}", Malformed::NotJson),
            (b"{\"a\":01}", Malformed::NotJson),
            (b"{\"a\":NaN}", Malformed::NotJson),
            (b"{\"a\":-Infinity}", Malformed::NotJson),
            (b"{\"a\":\"\n\"}", Malformed::NotJson),
            (b"{\"a\":\"\\x\"}", Malformed::NotJson),
            (b"{\"a\x01\":1}", Malformed::NotJson),
            (b"{\"a\\\\\r\":1}", Malformed::NotJson),
            (b"\xef\xbb\xbf{}", Malformed::NotJson),
            (b"\x0b{}", Malformed::NotJson),
            (b"\xff{}", Malformed::NotUtf8),
            (b"{\"a\":\"\xed\xa0\x80\"}", Malformed::NotUtf8),
            (b"[]", Malformed::NotObject),
            (b"null", Malformed::NotObject),
            (b"\"text\"", Malformed::NotObject),
            (b"[1", Malformed::NotJson),
        ] {
            assert_eq!(keys(line), Err(want), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn depth_is_counted_outside_of_strings() {
        let nested = |depth: usize| {
            format!("{{\"s\":\"[[{{\\\"[[\",\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth))
        };
        assert!(keys(nested(63).as_bytes()).is_ok());
        assert_eq!(keys(nested(64).as_bytes()), Err(Malformed::TooDeep));
        assert_eq!(keys(nested(100_000).as_bytes()), Err(Malformed::TooDeep));
        let side_by_side = format!("{{\"a\":[{}0]}}", "[],".repeat(1000));
        assert!(keys(side_by_side.as_bytes()).is_ok());
    }

    #[test]
    fn half_a_pair_is_found_where_it_counts() {
        for (json, want) in [
            (r#"{"a":"\ud83d\ude00"}"#, false),
            (r#"{"a":["\ud83d"]}"#, true),
            (r#"{"\udc00":1}"#, true),
            (r#"{"a":"\ud83d","a":1}"#, false),
            (r#"{"a":{"b":"\ude00\ud83d"}}"#, true),
        ] {
            let token: &RawValue = serde_json::from_str(json).expect("a case is JSON");
            assert_eq!(lone_surrogates(token), want, "{json}");
        }
    }

    #[test]
    fn values_are_written_as_they_are_shown() {
        let day = crate::time::Day::new(2025, 8, 3).expect("real");
        let moment = crate::time::Moment::parse(b"0987-06-05 04:03:02.000100").expect("real");
        for value in [
            Value::Integer(0),
            Value::Integer(u64::MAX.into()),
            Value::Integer(i64::MIN.into()),
            Value::Uuid([0xab; 16]),
            Value::Day(day),
            Value::Moment(moment),
        ] {
            let mut out = Vec::new();
            write_value(&mut out, value);
            let written = String::from_utf8(out).expect("UTF-8");
            assert_eq!(written.trim_matches('"'), value.to_string());
            assert_eq!(written.starts_with('"'), !matches!(value, Value::Integer(_)));
        }
    }

    #[test]
    fn text_is_escaped_only_where_json_asks() {
        let mut out = Vec::new();
        write_text(&mut out, "Кафедра \"Мосты\" \\ \u{2028}\u{1}");
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            "\"Кафедра \\\"Мосты\\\" \\\\ \u{2028}\\u0001\""
        );
    }
}
