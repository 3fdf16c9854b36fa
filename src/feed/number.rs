//! Numbers as systems of record write them.
//!
//! Shape: JSON in; a number, or that it is none, out.

use std::borrow::Cow;

use serde::Deserialize;

/// A number, which may be written as text.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Number<'a> {
    /// As a number is.
    Plain(u64),
    /// As text.
    Text(#[serde(borrow)] Cow<'a, str>),
}

impl Number<'_> {
    /// The number, where it is one.
    pub fn number(&self) -> Option<u64> {
        match self {
            Number::Plain(number) => Some(*number),
            Number::Text(text) => text.parse().ok(),
        }
    }
}
