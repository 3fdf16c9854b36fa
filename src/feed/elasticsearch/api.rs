//! How Elasticsearch is asked: the few calls that the poll is made of.
//!
//! Shape: plain values in; plain values out, or why there are none, with what to do.
//!
//! Invariants: an answer in part (`timed_out`, failed shards) is an error; of what a server says
//! nothing is told but statuses and kinds of errors.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};
use ureq::http::StatusCode;

use super::{
    answers::{Broadcast, Copy, Found, Head, OfIndex, Opened, Refused, Settings, Stats},
    identity,
};
use crate::feed::{
    Kind, SystemError,
    http::{self, Answer, Client, Question},
};

/// How long an answer may take, and how long a page of documents.
const PATIENCE: Duration = Duration::from_secs(30);
const PAGE_PATIENCE: Duration = Duration::from_secs(120);

/// How many bytes an answer may have, and a page of documents.
const BYTES_MAX: u64 = 16 << 20;
const PAGE_BYTES_MAX: u64 = 256 << 20;

/// How long a point in time is kept between two questions.
const KEEP_ALIVE: &str = "2m";

/// A shard of an index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    /// The index.
    pub index: String,
    /// Its number.
    pub number: u32,
}

/// How far a shard is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The history that its numbers are of.
    pub history: String,
    /// The highest number that was given out.
    pub highest: i64,
    /// Up to which all copies have everything.
    pub checkpoint: i64,
}

/// How far all shards are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Whether that may not be asked: then nothing is said of histories and numbers.
    pub is_blind: bool,
    /// By index, which one of that name it is.
    pub uuids: BTreeMap<String, String>,
    /// By shard, how far it is.
    pub shards: BTreeMap<Shard, Progress>,
    /// About how many documents there are: nested ones count there.
    pub documents: u64,
}

impl Probe {
    /// Which collection it is.
    pub fn identity(&self) -> Value {
        let mut histories = BTreeMap::<_, BTreeMap<_, _>>::new();
        for (shard, progress) in &self.shards {
            let of_index = histories.entry(&shard.index).or_default();
            of_index.insert(shard.number.to_string(), &progress.history);
        }
        self.uuids
            .iter()
            .map(|(name, uuid)| {
                (name.clone(), json!({ "uuid": uuid, "histories": histories.get(name) }))
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// What is known of the shards where it may not be asked how far they are.
    pub fn blind(settings: BTreeMap<String, Setting>) -> Probe {
        let mut probe = Probe { is_blind: true, ..Probe::default() };
        for (index, Setting { uuid, shards, .. }) in settings {
            for number in 0..shards {
                let progress =
                    Progress { history: String::new(), highest: -1, checkpoint: i64::MAX };
                probe.shards.insert(Shard { index: index.clone(), number }, progress);
            }
            probe.uuids.insert(index, uuid);
        }
        probe
    }

    /// Whether it is that collection, but for shards that are missing.
    pub fn is_part_of(&self, collection: &Value) -> bool {
        let same_index = |(name, uuid): (&String, &String)| collection[name]["uuid"] == **uuid;
        let same_shard = |(shard, progress): (&Shard, &Progress)| {
            let Shard { index, number } = shard;
            identity::is_same_history(
                &collection[index]["histories"][number.to_string()],
                &progress.history,
            )
        };
        let names = collection.as_object().map_or(0, serde_json::Map::len);
        self.uuids.len() == names
            && self.uuids.iter().all(same_index)
            && self.shards.iter().all(same_shard)
    }
}

/// A document that was found.
#[derive(Debug, Deserialize)]
pub struct Hit<'a> {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: String,
    /// The number of the operation that made it so.
    #[serde(rename = "_seq_no")]
    pub number: i64,
    /// What it says, where that was asked for and the index keeps it.
    #[serde(rename = "_source", borrow, default)]
    pub source: Option<&'a RawValue>,
}

/// A shard as it was at a moment.
#[derive(Debug)]
pub struct PointInTime {
    id: String,
}

/// How many documents a shard holds, and the highest number among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// How many.
    pub documents: u64,
    /// The highest number; -1 where there is none.
    pub highest: i64,
}

/// How an index is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Which one of its name it is.
    pub uuid: String,
    /// How many shards it has.
    pub shards: u32,
    /// After how long what was done is visible by itself; never where it is not said.
    pub refresh: Option<Duration>,
}

/// The calls.
pub struct Api {
    client: Client,
    /// Indices and aliases, with commas between.
    index: String,
    /// What is asked for of a document.
    fields: Vec<String>,
    /// Documents a page.
    page: u16,
}

impl Api {
    /// Calls of an index.
    pub fn new(client: Client, index: String, fields: Vec<String>, page: u16) -> Api {
        Api { client, index, fields, page }
    }

    /// How many documents a page has at most.
    pub fn page(&self) -> usize {
        usize::from(self.page)
    }

    /// Asks how far all shards are. Reads no document and refreshes nothing.
    pub fn probe(&mut self) -> Result<Probe, SystemError> {
        const FILTER: &str = "_shards.failed,indices.*.uuid,indices.*.primaries.docs.count,\
                              indices.*.shards.*.seq_no,\
                              indices.*.shards.*.routing.primary,\
                              indices.*.shards.*.commit.user_data.history_uuid";
        let path = format!("/{}/_stats/docs?level=shards&filter_path={FILTER}", self.index);
        let tried = format!("ask how far index \"{}\" is", self.index);
        let needs = "it needs the privilege `monitor` on the index";
        let stats: Stats = self.get(&tried, needs, "GET", &path, None, PATIENCE)?;
        if stats.shards.failed > 0 {
            return Err(in_part(tried));
        }
        let mut probe = Probe::default();
        for (index, found) in stats.indices {
            probe.documents += found.primaries.docs.count;
            for (number, copies) in found.shards {
                let primary = copies.into_iter().find(|copy| copy.routing.primary);
                // A shard whose primary is being brought back says nothing of itself.
                let (Some(number), Some(Copy { seq_no: Some(at), commit: Some(commit), .. })) =
                    (number.parse().ok(), primary)
                else {
                    continue;
                };
                let shard = Shard { index: index.clone(), number };
                let progress = Progress {
                    history: commit.user_data.history_uuid,
                    highest: at.max_seq_no,
                    checkpoint: at.global_checkpoint,
                };
                probe.shards.insert(shard, progress);
            }
            probe.uuids.insert(index, found.uuid);
        }
        if probe.uuids.is_empty() {
            let said = "there is none".to_owned();
            let remedy = "is `index` its name, or that of an alias?";
            return Err(SystemError::new(tried, said, remedy));
        }
        Ok(probe)
    }

    /// Asks how each index is set.
    pub fn settings(&mut self) -> Result<BTreeMap<String, Setting>, SystemError> {
        const FILTER: &str = "*.settings.index.number_of_shards,*.settings.index.uuid,\
                              *.settings.index.refresh_interval";
        let path = format!("/{}/_settings?filter_path={FILTER}", self.index);
        let tried = format!("ask how index \"{}\" is set", self.index);
        let settings: BTreeMap<String, Settings> =
            self.get(&tried, NEEDS_METADATA, "GET", &path, None, PATIENCE)?;
        let setting = |(index, found): (String, Settings)| {
            let OfIndex { number_of_shards, uuid, refresh_interval } = found.settings.index;
            let setting = Setting {
                uuid,
                shards: number_of_shards.parse().ok()?,
                refresh: match refresh_interval {
                    None => Some(Duration::from_secs(1)),
                    Some(text) => duration(&text),
                },
            };
            Some((index, setting))
        };
        Ok(settings.into_iter().filter_map(setting).collect())
    }

    /// Refuses aliases that show a part of an index: what they leave out is not left out here.
    pub fn check_aliases(&mut self) -> Result<(), SystemError> {
        let path = format!("/_alias/{}", self.index);
        let tried = format!("ask what aliases \"{}\" are", self.index);
        let answer = self.ask(&tried, "GET", &path, None, PATIENCE)?;
        // Of a name that is no alias it says 404, and with that those that are.
        if answer.status != StatusCode::NOT_FOUND && !answer.status.is_success() {
            return good(&tried, NEEDS_METADATA, answer).map(drop);
        }
        let found: BTreeMap<String, Value> = parse(&tried, &answer.body)?;
        let aliases = found.values().filter_map(|index| index["aliases"].as_object());
        let is_part = |alias: &Value| {
            let parts = ["filter", "index_routing", "search_routing"];
            parts.iter().any(|part| alias.get(part).is_some())
        };
        let part = aliases.flatten().find(|(_, alias)| is_part(alias));
        match part {
            None => Ok(()),
            Some((name, _)) => {
                let said = format!("alias \"{name}\" shows a part of its index alone");
                let remedy = "name the index, or an alias without filter and routing, and let the \
                              lookup's `where` choose";
                Err(SystemError::new(tried, said, remedy))
            }
        }
    }

    /// Makes all that was done visible to searches.
    pub fn refresh(&mut self) -> Result<(), SystemError> {
        let tried = format!("refresh index \"{}\"", self.index);
        let needs = "it needs the privilege `maintenance` on the index";
        let path = format!("/{}/_refresh", self.index);
        let done: Broadcast = self.get(&tried, needs, "POST", &path, None, PATIENCE)?;
        match done.shards.failed {
            0 => Ok(()),
            _ => Err(in_part(tried)),
        }
    }

    /// Opens a point in time of one shard.
    pub fn open(&mut self, shard: &Shard) -> Result<PointInTime, SystemError> {
        let Shard { index, number } = shard;
        let tried = format!("read shard {number} of index \"{index}\"");
        let path = format!(
            "/{index}/_pit?keep_alive={KEEP_ALIVE}&preference=_shards:{number}\
             &allow_partial_search_results=false"
        );
        let opened: Opened = self.get(&tried, NEEDS_READ, "POST", &path, None, PATIENCE)?;
        match opened.shards.failed {
            0 => Ok(PointInTime { id: opened.id }),
            _ => Err(in_part(tried)),
        }
    }

    /// Closes a point in time; one that is not closed is forgotten in a while.
    pub fn close(&mut self, point: PointInTime) {
        let body = json!({ "id": point.id }).to_string();
        let _ = self.ask("close a point in time", "DELETE", "/_pit", Some(&body), PATIENCE);
    }

    /// Counts what a point in time holds.
    pub fn extent(&mut self, point: &mut PointInTime) -> Result<Extent, SystemError> {
        let search = json!({
            "size": 0,
            "track_total_hits": true,
            "aggs": { "highest": { "max": { "field": "_seq_no" } } },
        });
        let answer = self.search(point, search, PATIENCE)?;
        let found: Found<'_> = parse("count the documents of a shard", &answer)?;
        let highest = found.aggregations.and_then(|found| found.highest.value);
        Ok(Extent {
            documents: found.hits.total.map_or(0, |total| total.value),
            highest: highest.map_or(-1, |highest| highest as i64),
        })
    }

    /// Counts a point in time's documents by ranges of numbers: from one bound to before the next.
    pub fn count(
        &mut self,
        point: &mut PointInTime,
        bounds: &[(i64, i64)],
    ) -> Result<Vec<u64>, SystemError> {
        let range = |(from, to): &(i64, i64)| json!({ "from": from, "to": to });
        let ranges: Vec<Value> = bounds.iter().map(range).collect();
        let search = json!({
            "size": 0,
            "track_total_hits": false,
            "aggs": { "ranges": { "range": { "field": "_seq_no", "ranges": ranges } } },
        });
        let tried = "count the documents of a shard";
        let answer = self.search(point, search, PAGE_PATIENCE)?;
        let found: Found<'_> = parse(tried, &answer)?;
        let buckets = found.aggregations.map(|found| found.ranges.buckets).unwrap_or_default();
        // Buckets come sorted by their bounds, as they are asked for.
        match buckets.len() == bounds.len() {
            true => Ok(buckets.into_iter().map(|bucket| bucket.doc_count).collect()),
            false => Err(in_part(tried.to_owned())),
        }
    }

    /// Hands out a page of the documents of a point in time whose numbers are beyond one, in their
    /// order, with what they say, if that is asked for; returns the last number where there may be
    /// more.
    pub fn page_beyond<E: From<SystemError>>(
        &mut self,
        point: &mut PointInTime,
        beyond: i64,
        with_source: bool,
        take: &mut dyn FnMut(&[Hit<'_>]) -> Result<(), E>,
    ) -> Result<Option<i64>, E> {
        let page = self.page();
        let source = if with_source { json!(self.fields) } else { json!(false) };
        let search = json!({
            "size": page,
            "query": { "range": { "_seq_no": { "gt": beyond } } },
            "sort": [{ "_seq_no": "asc" }],
            "seq_no_primary_term": true,
            "track_total_hits": false,
            "_source": source,
        });
        let answer = self.search(point, search, PAGE_PATIENCE)?;
        let found: Found<'_> = parse("read a page of documents", &answer)?;
        let hits = found.hits.hits;
        take(&hits)?;
        Ok(hits.last().filter(|_| hits.len() == page).map(|last| last.number))
    }

    /// Hands out documents of a point in time by their ids.
    pub fn by_ids<E: From<SystemError>>(
        &mut self,
        point: &mut PointInTime,
        ids: &[String],
        take: &mut dyn FnMut(&[Hit<'_>]) -> Result<(), E>,
    ) -> Result<(), E> {
        for ids in ids.chunks(self.page()) {
            let search = json!({
                "size": ids.len(),
                "query": { "ids": { "values": ids } },
                "seq_no_primary_term": true,
                "track_total_hits": false,
                "_source": self.fields,
            });
            let answer = self.search(point, search, PAGE_PATIENCE)?;
            let found: Found<'_> = parse("read documents by their ids", &answer)?;
            take(&found.hits.hits)?;
        }
        Ok(())
    }

    /// Searches a point in time; what comes back is whole.
    fn search(
        &mut self,
        point: &mut PointInTime,
        mut search: Value,
        patience: Duration,
    ) -> Result<Vec<u8>, SystemError> {
        search["pit"] = json!({ "id": point.id, "keep_alive": KEEP_ALIVE });
        let body = search.to_string();
        let tried = "search a shard";
        let path = "/_search?allow_partial_search_results=false";
        let answer = self.ask(tried, "POST", path, Some(&body), patience)?;
        let answer = good(tried, NEEDS_READ, answer)?;
        let head: Head = parse(tried, &answer)?;
        if head.timed_out || head.shards.failed > 0 {
            return Err(in_part(tried.to_owned()));
        }
        if let Some(id) = head.pit_id {
            point.id = id;
        }
        Ok(answer)
    }

    fn get<T: DeserializeOwned>(
        &mut self,
        tried: &str,
        needs: &'static str,
        method: &'static str,
        path: &str,
        body: Option<&str>,
        patience: Duration,
    ) -> Result<T, SystemError> {
        let answer = self.ask(tried, method, path, body, patience)?;
        parse(tried, &good(tried, needs, answer)?)
    }

    fn ask(
        &mut self,
        tried: &str,
        method: &'static str,
        path: &str,
        body: Option<&str>,
        patience: Duration,
    ) -> Result<Answer, SystemError> {
        let bytes_max = if patience == PAGE_PATIENCE { PAGE_BYTES_MAX } else { BYTES_MAX };
        let answer = self.client.ask(tried, Question { method, path, body, patience, bytes_max });
        answer.map_err(|error| match error.kind {
            Kind::TooMuch if patience == PAGE_PATIENCE => {
                SystemError { remedy: SMALLER_PAGES, ..error }
            }
            _ => error,
        })
    }
}

/// A time as Elasticsearch writes it; `None` where it is none, as `-1`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let ms = match unit {
        "d" => 24 * 3_600_000,
        "h" => 3_600_000,
        "m" => 60_000,
        "s" => 1_000,
        "ms" => 1,
        _ => return None,
    };
    Some(Duration::from_millis(number * ms))
}

const SMALLER_PAGES: &str = "ask for smaller pages: `page`; it is asked again";
const NEEDS_METADATA: &str = "it needs the privilege `view_index_metadata` on the index";
const NEEDS_READ: &str = "it needs the privilege `read` on the index";

/// The body of a good answer.
fn good(tried: &str, needs: &'static str, answer: Answer) -> Result<Vec<u8>, SystemError> {
    let Answer { status, after, body } = answer;
    if status.is_success() {
        return Ok(body);
    }
    let refused: Refused = serde_json::from_slice(&body).unwrap_or_default();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name =
        Some(refused.error.name).filter(|name| name.len() <= 80 && name.chars().all(is_name));
    let name = name.unwrap_or_default();
    let said = format!("the answer is {} {name}", status.as_u16()).trim_end().to_owned();
    let remedy = match status {
        StatusCode::UNAUTHORIZED => {
            "was the key revoked, or the password changed? put the new one where it is read from; \
             it is read again"
        }
        StatusCode::FORBIDDEN => needs,
        StatusCode::NOT_FOUND if name == "index_not_found_exception" => {
            "is `index` its name, or that of an alias? what was known of it stands"
        }
        StatusCode::TOO_MANY_REQUESTS => "it has too much to do; it is asked less often",
        StatusCode::PAYLOAD_TOO_LARGE => SMALLER_PAGES,
        _ => "it is asked again",
    };
    let kind = http::kind(status);
    Err(SystemError { tried: tried.to_owned(), said, remedy, after, kind })
}

fn parse<'a, T: Deserialize<'a>>(tried: &str, body: &'a [u8]) -> Result<T, SystemError> {
    serde_json::from_slice(body).map_err(|_| {
        let said = "the answer is not what Elasticsearch answers".to_owned();
        let remedy = "is this its address, or that of something before it? it is asked again";
        SystemError::new(tried.to_owned(), said, remedy)
    })
}

/// Some shards did not answer.
pub fn in_part(tried: String) -> SystemError {
    let said = "the answer is not whole: shards are missing, or took too long".to_owned();
    SystemError::new(tried, said, "look at the cluster's health; it is asked again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_tell_nothing_but_kinds() {
        let said = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).expect("one");
            let answer = Answer { status, after: None, body: body.as_bytes().to_vec() };
            good("try", NEEDS_READ, answer).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(said(200, "{}"), Ok(()));
        let kind = |name: &str| format!(r#"{{"error":{{"type":"{name}","reason":"of Ivanov"}}}}"#);
        let error = said(400, &kind("parsing_exception"));
        assert_eq!(
            error,
            Err("cannot try: the answer is 400 parsing_exception; it is asked again".to_owned())
        );
        let long = "a".repeat(200);
        for none in [kind("born 2001-01-01"), kind(&long), kind("Иванов"), "<html>".to_owned()]
        {
            let error = said(400, &none);
            assert_eq!(error, Err("cannot try: the answer is 400; it is asked again".to_owned()));
        }
    }
}
