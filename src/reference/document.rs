//! Document lines: what one line of a documents or changes file says.
//!
//! Shape: `{"_id", "_source"}`, with `"op": "index" | "delete"` and `"after"` in files of changes.
//!
//! Invariants: every line has an outcome; a line that is none of these forms is refused as a whole,
//! and what was known stands.
//!
//! Not here: the content of `_source` (`reference::project`).

use serde_json::value::RawValue;

use super::{Claim, Projector};
use crate::row::{
    json::{self, Malformed},
    kind,
};

/// Deepest nesting of a document's line, the line's own object counted.
pub const DEPTH_MAX: usize = 64;

/// What a document now says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its `_id`.
    pub id: Box<str>,
    /// What it says.
    pub content: Content,
}

/// What a document says, or that it is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Its claims, in the order of the lookups.
    Claims(Vec<Claim>),
    /// It is no more.
    Deleted,
}

/// A line that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What the document now says.
    pub statement: Statement,
    /// How many lines of the first events file come before it, where the line says so.
    pub after: Option<u64>,
}

/// Why a line changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No JSON object, nested too deep, or with half a surrogate pair where it counts.
    Malformed,
    /// Without a text `_id`, a known `op`, or an object `_source`.
    NoDocument,
    /// What the spec takes of it is longer than `project::PROJECTED_BYTES_MAX`.
    TooLong,
}

/// A line as it is written.
#[derive(Clone, Debug)]
pub struct Raw<'l> {
    /// The document's `_id`.
    pub id: Box<str>,
    /// What it says; `None` where it is no more.
    pub source: Option<&'l RawValue>,
}

/// Reads one line.
///
/// # Errors
/// When the line is refused; which is counted, not a fault.
pub fn read(line: &[u8], projector: &Projector) -> Result<Line, Refused> {
    let fields = Fields::read(line)?;
    let Raw { id, source } = fields.raw()?;
    let content = match source {
        None => Content::Deleted,
        Some(source) => {
            Content::Claims(projector.claims(None, &id, source).ok_or(Refused::TooLong)?)
        }
    };
    let after = fields.after.and_then(kind::integer).and_then(|after| u64::try_from(after).ok());
    Ok(Line { statement: Statement { id, content }, after })
}

/// Reads one line, and leaves what the document says as it is written.
///
/// # Errors
/// When the line is refused.
pub fn raw(line: &[u8]) -> Result<Raw<'_>, Refused> {
    Fields::read(line)?.raw()
}

/// The keys of a line that mean something; of a key that stands twice the last.
#[derive(Default)]
struct Fields<'a> {
    id: Option<&'a RawValue>,
    op: Option<&'a RawValue>,
    source: Option<&'a RawValue>,
    after: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    fn read(line: &'a [u8]) -> Result<Fields<'a>, Refused> {
        let mut fields = Fields::default();
        json::read_object(line, DEPTH_MAX, |key, token| match key {
            "_id" => fields.id = Some(token),
            "op" => fields.op = Some(token),
            "_source" => fields.source = Some(token),
            "after" => fields.after = Some(token),
            _ => {}
        })
        .map_err(|_: Malformed| Refused::Malformed)?;
        if has_lone_surrogates(line) {
            return Err(Refused::Malformed);
        }
        Ok(fields)
    }

    fn raw(&self) -> Result<Raw<'a>, Refused> {
        let id = self.id.and_then(json::text).filter(|id| !id.is_empty());
        let id: Box<str> = id.ok_or(Refused::NoDocument)?.into();
        let op = match self.op {
            None => "index".into(),
            Some(token) => json::text(token).ok_or(Refused::NoDocument)?,
        };
        let source = match &*op {
            "delete" => None,
            "index" => {
                let source = self.source.filter(|token| token.get().starts_with('{'));
                Some(source.ok_or(Refused::NoDocument)?)
            }
            _ => return Err(Refused::NoDocument),
        };
        Ok(Raw { id, source })
    }
}

/// Whether a JSON object says half a surrogate pair anywhere where it counts.
pub fn has_lone_surrogates(object: &[u8]) -> bool {
    // Half a pair can come from an escape alone: what has none needs no second look.
    has_surrogate_escape(object) && json::line_has_lone_surrogates(object)
}

/// Whether `\ud8` to `\udf` stands anywhere: cheap, and right to say yes too often.
fn has_surrogate_escape(line: &[u8]) -> bool {
    line.windows(4).any(|four| matches!(four, [b'\\', b'u', b'd' | b'D', last] if *last > b'7'))
}
