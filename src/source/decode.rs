//! Decoding: from the bytes of an event to a packed row, or the reason why it is no record.
//!
//! Shape: one JSON object in, its columns normalized and packed out.
//!
//! Invariants: every input has an outcome, and the same one wherever and whenever it is decoded;
//! two events that say the same have equal rows. No tree of the JSON is built: keys that are no
//! columns are passed over, and values are read from their tokens in place.
//!
//! Not here: whether the key came before (`dataflow::dedupe`).

use std::sync::Arc;

use serde_json::value::RawValue;

use super::{Reason, Refusal};
use crate::{
    row::{
        ColumnId, Misfit, Row, RowBuilder,
        json::{self, Malformed},
    },
    spec::Spec,
};

/// Decodes the events of one dataflow.
pub struct Decoder {
    spec: Arc<Spec>,
    scratch: String,
}

impl Decoder {
    /// A decoder for the events of `spec`.
    pub fn new(spec: Arc<Spec>) -> Decoder {
        Decoder { spec, scratch: String::new() }
    }

    /// Decodes one event.
    ///
    /// # Errors
    /// When it is no record; which is a value to keep, not a fault.
    pub fn decode(&mut self, event: &[u8]) -> Result<Row, Refusal> {
        let events = &self.spec.events;
        if event.len() > events.bytes_max {
            return Err(Reason::TooLong.into());
        }
        let mut tokens: Vec<Option<&RawValue>> = vec![None; events.columns.len()];
        json::read_object(event, events.depth_max, |key, token| {
            let column = events.columns.iter().position(|column| column.name == key);
            if let Some(place) = column {
                tokens[place] = Some(token);
            }
        })?;
        let mut row = RowBuilder::new(&events.layout);
        for (place, (column, token)) in events.columns.iter().zip(tokens).enumerate() {
            let id = ColumnId(place as u16);
            let refuse = |reason| Refusal { reason, column: Some(id) };
            match token.filter(|token| token.get() != "null") {
                None if column.optional => {}
                None => return Err(refuse(Reason::Missing)),
                Some(token) => {
                    let value = events.layout.kind(id).read(token, &mut self.scratch);
                    row.put(id, value.map_err(|misfit| refuse(misfit.into()))?);
                }
            }
        }
        Ok(row.finish())
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Refusal {
        let reason = match malformed {
            Malformed::NotUtf8 => Reason::NotUtf8,
            Malformed::TooDeep => Reason::TooDeep,
            Malformed::NotJson => Reason::NotJson,
            Malformed::NotObject => Reason::NotObject,
        };
        reason.into()
    }
}

impl From<Misfit> for Reason {
    fn from(misfit: Misfit) -> Reason {
        match misfit {
            Misfit::Form => Reason::WrongForm,
            Misfit::Range => Reason::OutOfRange,
        }
    }
}
