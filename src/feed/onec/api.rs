//! How a base of 1C is asked: the few questions that a feed needs.
//!
//! Shape: plain values in; entries as they are written out.
//!
//! Invariants: a page that is refused is asked for in half; an answer that breaks off is an error;
//! of what the base says nothing is told but statuses.

use std::{io::Read, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::value::RawValue;
use ureq::http::StatusCode;

use super::stream::{self, Take};
use crate::{
    config::{ConfigError, OneCConfig},
    feed::{
        Kind, SystemError,
        http::{self, Answer, Client, Question, percent_coded},
        number::Number,
    },
};

/// How long an answer may take: a page, a message of changes, its confirmation, and one entry that
/// shows that the base gives any.
const PAGE_PATIENCE: Duration = Duration::from_secs(300);
const MESSAGE_PATIENCE: Duration = Duration::from_secs(900);
const CONFIRM_PATIENCE: Duration = Duration::from_secs(30);
const WITNESS_PATIENCE: Duration = Duration::from_secs(30);

/// How many entries the first page has; the next ones as many as make about so many bytes.
const PROBE: usize = 20;

/// How many entries before a page are read once more, where half a page is not less.
const OVERLAP: usize = 20;

/// How much further back it is read on where none of those came again.
const FURTHER_BACK: usize = 1_000;
const PAGE_BYTES: usize = 32 << 20;
const PAGE_ENTRIES_MAX: usize = 10_000;

/// How many bytes a page may have: its first entries say little of the others.
const PAGE_BYTES_MAX: u64 = 512 << 20;

/// An entry, as it is written.
pub(super) struct Entry<'a> {
    /// Its key.
    pub(super) id: String,
    /// Its version; 0 where it does not say.
    pub(super) version: u64,
    /// Whether it bears the mark of deletion.
    pub(super) is_marked: bool,
    /// What it says.
    pub(super) source: &'a RawValue,
}

/// Takes the entries of a page; `None` stands for one without a key.
pub(super) type TakePage<'t, E> = dyn FnMut(&[Option<Entry<'_>>]) -> Result<(), E> + 't;

/// The feed's node in its plan of exchange.
pub(super) struct Node {
    /// The plan and the node, as the base wants them named.
    point: String,
    /// The number of the next message.
    message: u64,
}

/// The questions.
pub(super) struct Api {
    client: Client,
    url: String,
    entity: String,
    exchange: Option<(String, String)>,
    message_bytes_max: u64,
    /// What is asked for of an entry.
    select: Vec<String>,
    /// Entries of the next page.
    top: usize,
    /// The keys with which the last page ended.
    tail: Vec<String>,
}

impl<'a> Entry<'a> {
    /// Reads one; `None` where it has no key.
    pub(super) fn of(source: &'a RawValue) -> Option<Entry<'a>> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(rename = "Ref_Key")]
            id: String,
            #[serde(rename = "DataVersion", default)]
            version: String,
            #[serde(rename = "DeletionMark", default)]
            is_marked: bool,
        }
        let Head { id, version, is_marked } = serde_json::from_str(source.get()).ok()?;
        let version = BASE64.decode(version).ok().and_then(|bytes| bytes.try_into().ok());
        let version = version.map_or(0, u64::from_be_bytes);
        Some(Entry { id: id.to_lowercase(), version, is_marked, source })
    }
}

impl Api {
    /// Questions of a base, of whose entries these properties are asked for.
    pub(super) fn new(config: &OneCConfig, fields: Vec<String>) -> Result<Api, ConfigError> {
        let mut select = fields;
        for field in ["Ref_Key", "DataVersion", "DeletionMark"] {
            if !select.iter().any(|known| known == field) {
                select.push(field.to_owned());
            }
        }
        Ok(Api {
            client: Client::new(config.http()?)?,
            url: config.url.trim_end_matches('/').to_owned(),
            entity: config.entity.clone(),
            exchange: config.exchange.clone().zip(config.node.clone()),
            message_bytes_max: config.message_bytes_max,
            select,
            top: PROBE,
            tail: Vec::new(),
        })
    }

    /// Begins with the first page again.
    pub(super) fn begin_pages(&mut self) {
        self.top = PROBE;
        self.tail.clear();
    }

    /// Hands out a page of entries from a position on, and some of those before it once more: what
    /// is deleted meanwhile moves those behind it forward. Returns the position of the next page,
    /// where there may be one; the same where that was too much for the base, which is asked for
    /// half as many then; further back where so many moved that some may have been passed.
    pub(super) fn page<E: From<SystemError>>(
        &mut self,
        skip: usize,
        take: &mut TakePage<'_, E>,
    ) -> Result<Option<usize>, E> {
        let tried = format!("read a page of {}", self.entity);
        let from = skip - OVERLAP.min(self.top / 2).min(skip);
        let path = format!(
            "/{}?$format=json&$orderby=Ref_Key&$skip={from}&$top={}&{}",
            percent_coded(&self.entity),
            self.top,
            self.selected(),
        );
        let answer = self.ask(&tried, "GET", &path, PAGE_PATIENCE, PAGE_BYTES_MAX);
        let answer = answer.and_then(|answer| good(&tried, answer));
        // The base, or what stands before it, may be too small for so much: it refuses, or an error
        // stands amid what it says.
        let is_too_much = match &answer {
            Ok(body) => serde_json::from_slice::<Page<'_>>(body).is_err(),
            Err(error) => error.kind == Kind::TooMuch,
        };
        if is_too_much && self.top > 1 {
            self.top /= 2;
            return Ok(Some(skip));
        }
        let body = answer?;
        if is_too_much {
            let error = SystemError { kind: Kind::TooMuch, ..not_odata(&tried) };
            return Err(error.into());
        }
        let page: Page<'_> = parse(&tried, &body)?;
        let entries: Vec<Option<Entry<'_>>> = page.value.into_iter().map(Entry::of).collect();
        let is_known = |entry: &Entry<'_>| self.tail.contains(&entry.id);
        if from < skip && !self.tail.is_empty() && !entries.iter().flatten().any(is_known) {
            self.tail.clear();
            return Ok(Some(from.saturating_sub(FURTHER_BACK)));
        }
        take(&entries)?;
        if entries.len() < self.top {
            return Ok(None);
        }
        let tail = entries.iter().rev().take(OVERLAP).flatten();
        self.tail = tail.map(|entry| entry.id.clone()).collect();
        let each = (body.len() / entries.len()).max(1);
        self.top = (PAGE_BYTES / each).clamp(1, (2 * self.top).min(PAGE_ENTRIES_MAX));
        Ok(Some(from + entries.len()))
    }

    /// Asks for the entries at positions, one after the other, as a page would; returns whether one
    /// was given, which it is not where there is none. An answer that takes long counts as none.
    ///
    /// # Errors
    /// When the base answers for none of them.
    pub(super) fn gives_one_of(&mut self, positions: &[usize]) -> Result<bool, SystemError> {
        let (entity, selected) = (percent_coded(&self.entity), self.selected());
        let mut answered = Err(None);
        for skip in positions {
            let tried = format!("read one of {}", self.entity);
            let path =
                format!("/{entity}?$format=json&$orderby=Ref_Key&$skip={skip}&$top=1&{selected}");
            let asked = self.ask(&tried, "GET", &path, WITNESS_PATIENCE, PAGE_BYTES_MAX);
            let body = asked.and_then(|answer| good(&tried, answer));
            let page = body.and_then(|body| {
                let page: Page<'_> = parse(&tried, &body)?;
                Ok(!page.value.is_empty())
            });
            match page {
                Ok(true) => return Ok(true),
                Ok(false) => answered = Ok(false),
                Err(error) => answered = answered.or(Err(Some(error))),
            }
        }
        answered.map_err(|error| error.expect("each position was asked for"))
    }

    /// Hands out an entry by its key; returns whether there is one.
    pub(super) fn by_key(
        &mut self,
        key: &str,
        take: &mut dyn FnMut(&Entry<'_>),
    ) -> Result<bool, SystemError> {
        let tried = format!("read one of {}", self.entity);
        let (entity, selected) = (percent_coded(&self.entity), self.selected());
        let path = format!("/{entity}(guid'{}')?$format=json&{selected}", percent_coded(key));
        let answer = self.ask(&tried, "GET", &path, PAGE_PATIENCE, PAGE_BYTES_MAX)?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        let body = good(&tried, answer)?;
        // An error may stand amid what it says, as in a page.
        let broken = || SystemError { kind: Kind::TooMuch, ..not_odata(&tried) };
        let entry: &RawValue = serde_json::from_slice(&body).map_err(|_| broken())?;
        take(&Entry::of(entry).ok_or_else(broken)?);
        Ok(true)
    }

    /// Whether a plan of exchange is named, by which it is told what changes.
    pub(super) fn exchanges(&self) -> bool {
        self.exchange.is_some()
    }

    /// The feed's node, where a plan is named.
    pub(super) fn node(&mut self) -> Result<Option<Node>, SystemError> {
        let Some((plan, code)) = self.exchange.clone() else { return Ok(None) };
        let tried = format!("ask {plan} for its nodes");
        let path = format!("/{}?$format=json", percent_coded(&plan));
        let answer = self.ask(&tried, "GET", &path, PAGE_PATIENCE, PAGE_BYTES_MAX)?;
        let body = good(&tried, answer)?;
        let nodes: Nodes<'_> = parse(&tried, &body)?;
        let is_it =
            |node: &NodeEntry<'_>| node.code.trim() == code && !node.is_own && !node.is_marked;
        let Some(node) = nodes.value.into_iter().find(is_it) else {
            let said = format!("there is no node \"{code}\" to exchange with");
            let remedy = "make one with that code in the plan; the base's own is none";
            return Err(SystemError::new(tried, said, remedy));
        };
        let point = format!("{}/{plan}(guid'{}')", self.url, node.key);
        let received = node.received.number().ok_or_else(|| not_odata(&tried))?;
        Ok(Some(Node { point, message: received + 1 }))
    }

    /// Hands out what has changed, as it comes.
    pub(super) fn changes(&mut self, node: &Node, take: &mut Take<'_>) -> Result<(), SystemError> {
        let tried = "ask what has changed";
        let path = format!("/SelectChanges?{}&$format=json", message(node));
        let (patience, bytes_max) = (MESSAGE_PATIENCE, self.message_bytes_max);
        let question = Question { method: "POST", path: &path, body: None, patience, bytes_max };
        let mut read = |body: &mut dyn Read| stream::each(body, take);
        let answer = self.client.ask_for_much(tried, question, &mut read)?;
        good(tried, answer).map(drop)
    }

    /// Confirms what was handed out last: the base forgets it.
    pub(super) fn confirm(&mut self, node: &Node) -> Result<(), SystemError> {
        let tried = "confirm what has changed";
        let path = format!("/NotifyChangesReceived?{}&$format=json", message(node));
        let answer = self.ask(tried, "POST", &path, CONFIRM_PATIENCE, PAGE_BYTES_MAX)?;
        good(tried, answer).map(drop)
    }

    fn selected(&self) -> String {
        let fields: Vec<String> = self.select.iter().map(|field| percent_coded(field)).collect();
        format!("$select={}", fields.join(","))
    }

    fn ask(
        &mut self,
        tried: &str,
        method: &'static str,
        path: &str,
        patience: Duration,
        bytes_max: u64,
    ) -> Result<Answer, SystemError> {
        self.client.ask(tried, Question { method, path, body: None, patience, bytes_max })
    }
}

fn message(node: &Node) -> String {
    let Node { point, message } = node;
    let point = percent_coded(&format!("'{point}'"));
    format!("DataExchangePoint={point}&MessageNo={message}")
}

fn good(tried: &str, answer: Answer) -> Result<Vec<u8>, SystemError> {
    let Answer { status, after, body } = answer;
    if status.is_success() {
        return Ok(body);
    }
    let remedy = match status {
        StatusCode::UNAUTHORIZED => {
            "was the password changed? put the new one where it is read from; it is read again"
        }
        StatusCode::FORBIDDEN => "give who asks the right to read it",
        StatusCode::NOT_FOUND => "is it published for OData in the base, and named as there?",
        _ => "look into the base's log of events; it is asked again",
    };
    let said = format!("the answer is {}", status.as_u16());
    let kind = match status {
        // So it says that it has no room for what it was asked for; or it died of that.
        StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_GATEWAY => Kind::TooMuch,
        status => http::kind(status),
    };
    Err(SystemError { tried: tried.to_owned(), said, remedy, after, kind })
}

fn parse<'a, T: Deserialize<'a>>(tried: &str, body: &'a [u8]) -> Result<T, SystemError> {
    serde_json::from_slice(body).map_err(|_| not_odata(tried))
}

fn not_odata(tried: &str) -> SystemError {
    let said = "the answer is not what 1C answers".to_owned();
    let remedy = "is this the address of its OData interface? it is asked again";
    SystemError::new(tried.to_owned(), said, remedy)
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    value: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Nodes<'a> {
    #[serde(borrow)]
    value: Vec<NodeEntry<'a>>,
}

#[derive(Deserialize)]
struct NodeEntry<'a> {
    #[serde(rename = "Ref_Key")]
    key: String,
    #[serde(rename = "Code")]
    code: String,
    #[serde(rename = "ReceivedNo", borrow)]
    received: Number<'a>,
    #[serde(rename = "ThisNode", default)]
    is_own: bool,
    #[serde(rename = "DeletionMark", default)]
    is_marked: bool,
}
