//! Decoding: from the bytes of an event to a packed row, or the reason why it is no record.
//!
//! Shape: one JSON object in, its columns normalized and packed out.
//!
//! Invariants: every input has an outcome, and the same one wherever and whenever it is decoded;
//! two events that say the same have equal rows. No tree of the JSON is built: keys that are no
//! columns are passed over, and values are read from their tokens in place.
//!
//! Not here: whether the key came before (`dataflow::dedupe`); the short cut for events as a
//! producer usually writes them (`source::fast`).

use std::sync::Arc;

use serde_json::value::RawValue;

use super::{Reason, Refusal, fast::FastDecoder};
use crate::{
    row::{
        ColumnId, Misfit, RowBuilder,
        json::{self, Malformed},
    },
    spec::Spec,
};

/// Decodes the events of one dataflow.
pub struct Decoder {
    spec: Arc<Spec>,
    fast: FastDecoder,
    row: Vec<u8>,
    scratch: String,
}

impl Decoder {
    /// A decoder for the events of `spec`.
    pub fn new(spec: Arc<Spec>) -> Decoder {
        let fast = FastDecoder::new(&spec);
        Decoder { spec, fast, row: Vec::new(), scratch: String::new() }
    }

    /// Decodes one event to a packed row.
    ///
    /// # Errors
    /// When it is no record; which is a value to keep, not a fault.
    pub fn decode(&mut self, event: &[u8]) -> Result<&[u8], Refusal> {
        if event.len() > self.spec.events.bytes_max {
            return Err(Reason::TooLong.into());
        }
        self.row.clear();
        if self.fast.decode(&self.spec.events, event, &mut self.row).is_none() {
            self.row.clear();
            self.decode_any(event)?;
        }
        Ok(&self.row)
    }

    /// The refusal of an event that was made longer ago than the horizon allows.
    pub fn behind_horizon(&self) -> Refusal {
        Refusal { reason: Reason::BehindHorizon, column: Some(self.spec.events.time) }
    }

    /// Decodes an event however its JSON is written.
    fn decode_any(&mut self, event: &[u8]) -> Result<(), Refusal> {
        let events = &self.spec.events;
        let mut tokens: Vec<Option<&RawValue>> = vec![None; events.columns.len()];
        json::read_object(event, events.depth_max, |key, token| {
            let column = events.columns.iter().position(|column| column.name == key);
            if let Some(place) = column {
                tokens[place] = Some(token);
            }
        })?;
        let mut row = RowBuilder::new(&events.layout, &mut self.row);
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
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    const SPEC: &str = r#"
        name = "things"
        [events]
        key = "ID"
        shard_key = "N"
        time = "AT"
        zone = "UTC"
        [events.columns]
        ID = { type = "uuid" }
        N = { type = "integer", range = "-5..18446744073709551610" }
        AT = { type = "datetime" }
        WORD = { type = "text", bytes_max = 12, optional = true }
        DAY = { type = "date", optional = true }
        NAME = { type = "text", bytes_max = 8, optional = true }
        [views.enriched]
        kind = "enriched"
    "#;

    fn decoder() -> Decoder {
        static PARSED: LazyLock<Arc<Spec>> = LazyLock::new(|| {
            let spec = Spec::parse(std::path::Path::new("things.toml"), SPEC);
            Arc::new(spec.expect("the spec is sound"))
        });
        Decoder::new(Arc::clone(&PARSED))
    }

    /// One of many ways in which a value may be written, most of them right.
    fn token() -> impl Strategy<Value = String> {
        let written = [
            "7",
            "0",
            "-3",
            "-6",
            "-0",
            "007",
            "\"007\"",
            "\"\"",
            "\"-3\"",
            "1.0",
            "1e2",
            "null",
            "true",
            "[1]",
            "{}",
            "18446744073709551615",
            "18446744073709551616",
            "\"\\u0037\"",
            "9999999999999999999",
            "\"18446744073709551615\"",
            "\"00000000000000000000\"",
            "\"ee76e99f-e8fd-419f-833c-79875d0262d4\"",
            "\"EE76E99F-e8fd-419f-833c-79875d0262d4\"",
            "\"ee76e99fe8fd419f833c79875d0262d4\"",
            "\"{e76e99f-e8fd-419f-833c-79875d0262d}\"",
            "\"2025-08-13\"",
            "\"2025-02-29\"",
            "\"2025-08-13 22:55:51\"",
            "\"2025-08-13 22:55:51.5\"",
            "\"2025-08-13 22:55:61\"",
            "\"2025-08-13 22:55:51.1234567\"",
            "\"слово\"",
            "\"a\\nb\"",
            "\"too long a text\"",
            "\"\\ud800\"",
            "\"a\tb\"",
            "nul",
            "",
        ];
        proptest::sample::select(written.to_vec()).prop_map(str::to_owned)
    }

    fn name() -> impl Strategy<Value = String> {
        let names = ["ID", "N", "AT", "WORD", "DAY", "NAME", "OTHER", "\\u0049D", "id"];
        proptest::sample::select(names.to_vec()).prop_map(str::to_owned)
    }

    fn event() -> impl Strategy<Value = String> {
        let entry = (name(), token()).prop_map(|(name, token)| format!("\"{name}\":{token}"));
        let good = [
            "\"ID\":\"ee76e99f-e8fd-419f-833c-79875d0262d4\"",
            "\"N\":5",
            "\"AT\":\"2025-08-13 22:55:51\"",
            "\"WORD\":\"a\"",
            "\"NAME\":\"b\"",
            "\"DAY\":null",
        ];
        let good = Just(good.map(str::to_owned).to_vec()).prop_shuffle();
        let bad = proptest::collection::vec(entry, 0..4);
        let kept = proptest::collection::vec(any::<bool>(), 10);
        let space = proptest::sample::select(vec!["", "", "", " "]);
        (good, bad, kept, space).prop_map(|(good, bad, kept, space)| {
            let all = good.into_iter().zip(kept.into_iter().map(|kept| kept || space.is_empty()));
            let kept = all.filter_map(|(entry, kept)| kept.then_some(entry));
            let entries: Vec<String> = kept.chain(bad).collect();
            format!("{{{}}}{space}", entries.join(","))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn short_cut_decides_nothing_else(event in event()) {
            let mut decoder = decoder();
            let mut row = Vec::new();
            let short = decoder.fast.decode(&decoder.spec.events, event.as_bytes(), &mut row);
            let long = decoder.decode_any(event.as_bytes());
            if short.is_some() {
                prop_assert_eq!(long, Ok(()));
                prop_assert_eq!(row, decoder.row);
            }
        }
    }

    #[test]
    fn usual_events_take_the_short_cut() {
        let mut decoder = decoder();
        for event in [
            r#"{"ID":"ee76e99f-e8fd-419f-833c-79875d0262d4","N":5,"AT":"2025-08-13 22:55:51.5"}"#,
            r#"{"NAME":"b","AT":"2025-08-13 22:55:51","WORD":"","N":"-5","N":"6"}"#,
            concat!(
                r#"{"NAME":"я","AT":"2025-08-13 22:55:51","WORD":"","N":"06","DAY":null,"#,
                r#""ID":"ee76e99f-e8fd-419f-833c-79875d0262d4"}"#
            ),
        ] {
            let mut row = Vec::new();
            let short = decoder.fast.decode(&decoder.spec.events, event.as_bytes(), &mut row);
            assert_eq!(short.is_some(), !event.contains("\"N\":\"-5\""), "{event}");
        }
    }
}
