//! What Elasticsearch answers, as far as it is looked at.
//!
//! Shape: JSON in; plain values out.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::api::Hit;

#[derive(Deserialize)]
pub(super) struct Stats {
    #[serde(rename = "_shards")]
    pub(super) shards: Shards,
    #[serde(default)]
    pub(super) indices: BTreeMap<String, IndexStats>,
}

#[derive(Default, Deserialize)]
pub(super) struct Shards {
    #[serde(default)]
    pub(super) failed: u64,
}

#[derive(Deserialize)]
pub(super) struct IndexStats {
    pub(super) uuid: String,
    #[serde(default)]
    pub(super) primaries: Primaries,
    #[serde(default)]
    pub(super) shards: BTreeMap<String, Vec<Copy>>,
}

#[derive(Default, Deserialize)]
pub(super) struct Primaries {
    #[serde(default)]
    pub(super) docs: Docs,
}

#[derive(Default, Deserialize)]
pub(super) struct Docs {
    pub(super) count: u64,
}

#[derive(Deserialize)]
pub(super) struct Copy {
    pub(super) routing: Routing,
    pub(super) seq_no: Option<SeqNo>,
    pub(super) commit: Option<Commit>,
}

#[derive(Deserialize)]
pub(super) struct Routing {
    pub(super) primary: bool,
}

#[derive(Deserialize)]
pub(super) struct SeqNo {
    pub(super) max_seq_no: i64,
    pub(super) global_checkpoint: i64,
}

#[derive(Deserialize)]
pub(super) struct Commit {
    pub(super) user_data: UserData,
}

#[derive(Deserialize)]
pub(super) struct UserData {
    pub(super) history_uuid: String,
}

#[derive(Deserialize)]
pub(super) struct Settings {
    pub(super) settings: IndexSettings,
}

#[derive(Deserialize)]
pub(super) struct IndexSettings {
    pub(super) index: OfIndex,
}

#[derive(Deserialize)]
pub(super) struct OfIndex {
    pub(super) number_of_shards: String,
    pub(super) uuid: String,
    pub(super) refresh_interval: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Broadcast {
    #[serde(rename = "_shards")]
    pub(super) shards: Shards,
}

#[derive(Deserialize)]
pub(super) struct Opened {
    pub(super) id: String,
    #[serde(rename = "_shards", default)]
    pub(super) shards: Shards,
}

#[derive(Deserialize)]
pub(super) struct Head {
    #[serde(default)]
    pub(super) pit_id: Option<String>,
    #[serde(default)]
    pub(super) timed_out: bool,
    #[serde(rename = "_shards", default)]
    pub(super) shards: Shards,
}

#[derive(Deserialize)]
pub(super) struct Found<'a> {
    #[serde(borrow)]
    pub(super) hits: Hits<'a>,
    pub(super) aggregations: Option<Aggregations>,
}

#[derive(Deserialize)]
pub(super) struct Hits<'a> {
    pub(super) total: Option<Total>,
    #[serde(borrow, default)]
    pub(super) hits: Vec<Hit<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Total {
    pub(super) value: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Aggregations {
    pub(super) highest: Highest,
    pub(super) ranges: Ranges,
}

#[derive(Default, Deserialize)]
pub(super) struct Highest {
    pub(super) value: Option<f64>,
}

#[derive(Default, Deserialize)]
pub(super) struct Ranges {
    pub(super) buckets: Vec<Bucket>,
}

#[derive(Deserialize)]
pub(super) struct Bucket {
    pub(super) doc_count: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Refused {
    pub(super) error: Named,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    #[serde(rename = "type")]
    pub(super) name: String,
}
