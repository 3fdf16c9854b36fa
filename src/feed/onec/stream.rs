//! Reading a list of entries as it comes.
//!
//! Shape: the bytes of `{"value": [...]}` in; each element, whole, out.
//!
//! Invariants: no more is held than one element, and one has an end; a text that breaks off is an
//! error, whatever was handed out before.

use std::{
    cell::Cell,
    fmt,
    io::{self, BufReader, Read},
};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// How many bytes an element may have.
const ELEMENT_BYTES_MAX: u64 = 64 << 20;

/// Takes an element; says whether more are wanted.
pub(super) type Take<'t> = dyn FnMut(&RawValue) -> bool + 't;

/// Hands out the elements of a list as they come.
///
/// # Errors
/// When it is none, breaks off, or nobody wants more.
pub(super) fn each(from: &mut dyn Read, take: &mut Take<'_>) -> io::Result<()> {
    let left = Cell::new(ELEMENT_BYTES_MAX);
    let from = BufReader::with_capacity(1 << 16, Bounded { from, left: &left });
    let mut from = serde_json::Deserializer::from_reader(from);
    let list = List { take, left: &left };
    from.deserialize_map(list).and_then(|()| from.end()).map_err(io::Error::from)
}

/// Reads so much until somebody says that it may be more.
struct Bounded<'r> {
    from: &'r mut dyn Read,
    left: &'r Cell<u64>,
}

impl Read for Bounded<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        match self.left.get().checked_sub(read as u64) {
            Some(left) => self.left.set(left),
            None => return Err(io::Error::other("an entry is too long")),
        }
        Ok(read)
    }
}

/// The object around the list, and then the list.
struct List<'t, 'f> {
    take: &'t mut Take<'f>,
    left: &'t Cell<u64>,
}

impl<'de> Visitor<'de> for List<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list of entries")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut is_there = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "value" {
                let List { take, left } = &mut self;
                map.next_value_seed(List { take: *take, left })?;
                is_there = true;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        is_there.then_some(()).ok_or_else(|| A::Error::custom("there is no list"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element::<Box<RawValue>>()? {
            self.left.set(ELEMENT_BYTES_MAX);
            if !(self.take)(&element) {
                return Err(A::Error::custom("nobody wants more"));
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for List<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, bool) {
        let mut found = Vec::new();
        let read = each(&mut text.as_bytes(), &mut |element| {
            found.push(element.get().to_owned());
            found.len() < 3
        });
        (found, read.is_ok())
    }

    #[test]
    fn elements_are_handed_out_and_what_breaks_off_is_an_error() {
        let of = |elements: &[&str]| elements.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            read(r#"{"a":[1],"value":[{"b":1},{}],"c":{}}"#),
            (of(&[r#"{"b":1}"#, "{}"]), true)
        );
        assert_eq!(read(r#"{"value":[]}"#), (of(&[]), true));
        for broken in [r#"{"value":[{},"#, r#"{"value":[{}]"#, r#"{"value":[{}]}x"#] {
            assert_eq!(read(broken), (of(&["{}"]), false), "{broken}");
        }
        for none in ["", "[]", "{}", r#"{"value":{}}"#] {
            assert_eq!(read(none), (of(&[]), false), "{none}");
        }
        assert_eq!(read(r#"{"value":[1,2,3,4]}"#), (of(&["1", "2", "3"]), false));
    }

    #[test]
    fn an_element_without_an_end_is_not_held() {
        let mut endless = r#"{"value":[""#.as_bytes().chain(io::repeat(b'x'));
        assert!(each(&mut endless, &mut |_| true).is_err());
    }
}
