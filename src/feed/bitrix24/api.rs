//! How a portal of Bitrix24 is asked: the few methods that a feed needs.
//!
//! Shape: plain values in; items as they are written, and what happened to which, out.
//!
//! Invariants: every question keeps the portal's pace; an answer in part is an error; of what the
//! portal says nothing is told but the names of errors; secrets stand in paths and bodies, never in
//! what is told.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use ureq::http::StatusCode;

use super::{app::App, pace::Pace};
use crate::{
    config::{Bitrix24Config, ConfigError, Entity},
    feed::{
        SystemError,
        http::{self, Answer, Client, Question},
        number::Number,
    },
};

/// How long an answer may take: a portal gives up after 60 s itself.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);

/// How many bytes an answer may have: 50 pages of 50 items.
pub(super) const BYTES_MAX: u64 = 256 << 20;

/// Items of a page.
const PAGE: usize = 50;

/// Pages that are asked for at once, each beyond the last item of the one before.
const PAGES: usize = 50;

/// Where nothing says when to ask again.
const AGAIN: Duration = Duration::from_secs(2);

/// An item, as it is written.
pub(super) struct Item<'a> {
    /// Its number.
    pub(super) id: u64,
    /// When it was changed last, as the portal writes it.
    pub(super) changed: Option<String>,
    /// What it says.
    pub(super) source: &'a RawValue,
}

/// What happened, of those that the portal's queue holds.
pub(super) struct Happened {
    /// What the portal calls this handful: it is put aside under that until it is cleared.
    pub(super) process: String,
    /// The items to which something happened.
    pub(super) ids: BTreeSet<u64>,
    /// Whether it is as large as one may be, so that there may be more.
    pub(super) is_full: bool,
}

/// Takes the items of a page.
pub(super) type TakePage<'t, E> = dyn FnMut(&[Item<'_>]) -> Result<(), E> + 't;

/// How one is let in.
enum Access {
    Webhook(String),
    App(Box<App>),
}

/// The methods.
pub(super) struct Api {
    client: Client,
    access: Access,
    pace: Pace,
    entity: Entity,
    /// What is asked for of an item.
    select: Vec<String>,
}

impl Api {
    /// Methods of a portal, of whose items these fields are asked for.
    pub(super) fn new(config: &Bitrix24Config, fields: Vec<String>) -> Result<Api, ConfigError> {
        let client = Client::new(config.http()?)?;
        let access = match (&config.webhook, &config.app) {
            (Some(webhook), _) => {
                let webhook = webhook.read("webhook")?;
                let is_one = |c: char| c.is_ascii_alphanumeric() || c == '/';
                if webhook.is_empty() || !webhook.chars().all(is_one) {
                    let cause = "it is USER/CODE, as it stands in its address behind /rest/";
                    let (option, cause) = ("webhook".to_owned(), cause.to_owned());
                    return Err(ConfigError::Unsound { option, cause });
                }
                Access::Webhook(webhook.trim_matches('/').to_owned())
            }
            (None, Some(app)) => Access::App(Box::new(App::new(app)?)),
            (None, None) => unreachable!("one of both was asked for"),
        };
        let pace = Pace::of(&config.url, config.requests_per_second);
        let mut select = fields;
        select.extend(["id", "updatedTime"].map(str::to_owned));
        Ok(Api { client, access, pace, entity: config.entity, select })
    }

    /// Whether the portal can say what happens: to an application, where its plan has that.
    pub(super) fn says_what_happens(&mut self) -> Result<bool, SystemError> {
        if matches!(self.access, Access::Webhook(_)) {
            return Ok(false);
        }
        let tried = "ask whether the portal says what happens";
        let asked = json!({ "CODE": "rest_offline_extended" });
        let answer = self.call(tried, "feature.get", asked)?;
        let feature: Feature<'_> = result(tried, &answer)?;
        Ok(feature.value == "Y")
    }

    /// Has the portal keep what happens to items from now on.
    pub(super) fn listen(&mut self) -> Result<(), SystemError> {
        let tried = "have what happens kept";
        let answer = self.call(tried, "event.get", json!({}))?;
        let known: Vec<Binding<'_>> = result(tried, &answer)?;
        for what in ["add", "update", "delete"] {
            let event = self.entity.event(what);
            let is_it = |known: &Binding<'_>| {
                let is_offline = known.offline.as_ref().and_then(Number::number) == Some(1);
                is_offline && known.event.eq_ignore_ascii_case(&event)
            };
            if !known.iter().any(is_it) {
                self.call(tried, "event.bind", json!({ "event": event, "event_type": "offline" }))?;
            }
        }
        Ok(())
    }

    /// The handfuls that were put aside and not cleared.
    pub(super) fn put_aside(&mut self) -> Result<Vec<Happened>, SystemError> {
        let tried = "ask what was put aside of what happened";
        let (mut found, mut beyond) = (BTreeMap::<String, BTreeSet<u64>>::new(), 0);
        loop {
            let filter = json!({ "EVENT_NAME": self.events(), "!PROCESS_ID": "", ">ID": beyond });
            let asked = json!({ "filter": filter, "order": { "ID": "ASC" } });
            let answer = self.call(tried, "event.offline.list", asked)?;
            let rows: Vec<Row<'_>> = result(tried, &answer)?;
            for row in &rows {
                beyond = beyond.max(row.id.number().unwrap_or(0));
                if let Some(process) = row.process.as_deref().filter(|process| !process.is_empty())
                {
                    // Without its number nobody knows to whom it happened.
                    let item = row.item().ok_or_else(|| not_bitrix(tried))?;
                    found.entry(process.to_owned()).or_default().insert(item);
                }
            }
            if rows.len() < PAGE {
                let happened = |(process, ids)| Happened { process, ids, is_full: true };
                return Ok(found.into_iter().map(happened).collect());
            }
        }
    }

    /// Puts aside what happened since.
    pub(super) fn happened(&mut self) -> Result<Option<Happened>, SystemError> {
        let tried = "ask what happened";
        let asked = json!({ "clear": 0, "limit": PAGE, "filter": { "EVENT_NAME": self.events() } });
        let answer = self.call(tried, "event.offline.get", asked)?;
        let got: Got<'_> = result(tried, &answer)?;
        let Some(process) = got.process_id.filter(|_| !got.events.is_empty()) else {
            return Ok(None);
        };
        let ids: Option<BTreeSet<u64>> = got.events.iter().map(Row::item).collect();
        let ids = ids.ok_or_else(|| not_bitrix(tried))?;
        let is_full = got.events.len() >= PAGE;
        Ok(Some(Happened { process: process.into_owned(), ids, is_full }))
    }

    /// Clears a handful for good.
    pub(super) fn clear(&mut self, process: &str) -> Result<(), SystemError> {
        let asked = json!({ "process_id": process });
        self.call("clear what happened", "event.offline.clear", asked).map(drop)
    }

    /// The newest moment at which an item was changed, as the portal writes it; `None` where it has
    /// no item.
    pub(super) fn newest(&mut self) -> Result<Option<String>, SystemError> {
        let mut newest = None;
        let newest_first = json!({ "updatedTime": "DESC" });
        self.list(json!({}), newest_first, &mut |items: &[Item<'_>]| {
            newest = items.first().and_then(|item| item.changed.clone());
            Ok::<_, SystemError>(())
        })?;
        Ok(newest)
    }

    /// Hands out items in the order of their numbers, many pages of them, beyond one; returns
    /// beyond which there may be more.
    pub(super) fn pages_beyond<E: From<SystemError>>(
        &mut self,
        mut beyond: u64,
        take: &mut TakePage<'_, E>,
    ) -> Result<Option<u64>, E> {
        let tried = "read items";
        let mut command = serde_json::Map::new();
        for page in 0..PAGES {
            let beyond = match page {
                0 => beyond.to_string(),
                _ => format!("$result[{}][items][{}][id]", name_of(page - 1), PAGE - 1),
            };
            command.insert(name_of(page), self.list_query(&beyond).into());
        }
        let asked = json!({ "halt": 1, "cmd": command });
        let answer = self.call(tried, "batch", asked)?;
        let batch: Batch<'_> = result(tried, &answer)?;
        if !is_empty(batch.errors) {
            return Err(in_part(tried).into());
        }
        let pages = pages(batch.result).ok_or_else(|| not_bitrix(tried))?;
        for page in 0..PAGES {
            let Some(listed) = pages.get(&name_of(page)) else {
                return Err(in_part(tried).into());
            };
            let items = items(listed)?;
            take(&items)?;
            // What follows a page that is not full was asked for beyond nobody.
            match items.last() {
                Some(last) if items.len() == PAGE => beyond = last.id,
                _ => return Ok(None),
            }
        }
        Ok(Some(beyond))
    }

    /// Hands out the items that were changed at a moment or later, in the order of their numbers.
    pub(super) fn each_changed_since<E: From<SystemError>>(
        &mut self,
        since: &str,
        take: &mut TakePage<'_, E>,
    ) -> Result<(), E> {
        let mut beyond = 0;
        loop {
            let filter = json!({ ">=updatedTime": since, ">id": beyond });
            let (last, count) = self.list(filter, by_number(), take)?;
            match last {
                Some(last) if count == PAGE => beyond = last,
                _ => return Ok(()),
            }
        }
    }

    /// Hands out items by their numbers, those that there are.
    pub(super) fn by_ids<E: From<SystemError>>(
        &mut self,
        ids: &[u64],
        take: &mut TakePage<'_, E>,
    ) -> Result<(), E> {
        for ids in ids.chunks(PAGE) {
            self.list(json!({ "@id": ids }), by_number(), take)?;
        }
        Ok(())
    }

    /// Hands out a page; returns its last number, and how many items it has.
    fn list<E: From<SystemError>>(
        &mut self,
        filter: Value,
        order: Value,
        take: &mut TakePage<'_, E>,
    ) -> Result<(Option<u64>, usize), E> {
        let tried = "read items";
        let asked = json!({
            "entityTypeId": self.entity.number(),
            "select": self.select,
            "order": order,
            "filter": filter,
            "start": -1,
        });
        let answer = self.call(tried, "crm.item.list", asked)?;
        let listed: &RawValue = result(tried, &answer)?;
        let items = items(listed)?;
        take(&items)?;
        Ok((items.last().map(|item| item.id), items.len()))
    }

    /// The items beyond one, as a batch asks for them.
    fn list_query(&self, beyond: &str) -> String {
        let mut query = format!("entityTypeId={}", self.entity.number());
        for (place, field) in self.select.iter().enumerate() {
            query += &format!("&select[{place}]={field}");
        }
        format!("crm.item.list?{query}&order[id]=ASC&filter[>id]={beyond}&start=-1")
    }

    fn events(&self) -> [String; 3] {
        ["add", "update", "delete"].map(|what| self.entity.event(what))
    }

    /// Calls a method; a token that has expired is changed for another, once.
    fn call(&mut self, tried: &str, method: &str, asked: Value) -> Result<Vec<u8>, SystemError> {
        let answer = self.ask(tried, method, &asked)?;
        match good(tried, answer) {
            Err(Refusal { is_expired: true, error }) => {
                let Access::App(app) = &mut self.access else { return Err(error) };
                app.refresh()?;
                let answer = self.ask(tried, method, &asked)?;
                good(tried, answer).map_err(|refusal| refusal.error)
            }
            answered => answered.map_err(|refusal| refusal.error),
        }
    }

    fn ask(&mut self, tried: &str, method: &str, asked: &Value) -> Result<Answer, SystemError> {
        let (path, body) = match &self.access {
            Access::Webhook(webhook) => (format!("/rest/{webhook}/{method}.json"), asked.clone()),
            Access::App(app) => {
                let mut asked = asked.clone();
                asked["auth"] = app.token().into();
                (format!("/rest/{method}.json"), asked)
            }
        };
        let body = body.to_string();
        self.pace.wait();
        let (method, body) = ("POST", Some(&*body));
        let (patience, bytes_max) = (PATIENCE, BYTES_MAX);
        self.client.ask(tried, Question { method, path: &path, body, patience, bytes_max })
    }
}

fn by_number() -> Value {
    json!({ "id": "ASC" })
}

fn name_of(page: usize) -> String {
    format!("p{page:02}")
}

/// An answer that is no good one.
struct Refusal {
    error: SystemError,
    is_expired: bool,
}

fn good(tried: &str, answer: Answer) -> Result<Vec<u8>, Refusal> {
    let Answer { status, after, body } = answer;
    let refused: Refused = serde_json::from_slice(&body).unwrap_or_default();
    if status.is_success() && refused.error.is_empty() {
        return Ok(body);
    }
    let is_kind = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let kind = Some(refused.error).filter(|kind| kind.chars().all(is_kind)).unwrap_or_default();
    let said = format!("the answer is {} {kind}", status.as_u16());
    let remedy = match status {
        _ if kind == "QUERY_LIMIT_EXCEEDED" => {
            "who else asks this portal from here? lower `requests_per_second`"
        }
        StatusCode::TOO_MANY_REQUESTS => "it has too much to do; it is asked again when it says",
        StatusCode::UNAUTHORIZED => "was the webhook or the application taken away?",
        StatusCode::FORBIDDEN => "the webhook or the application needs the right `crm`",
        _ => "it is asked again",
    };
    // It counts what was asked within ten minutes, and says when that begins anew.
    let reset = refused.time.and_then(|time| time.operating_reset_at);
    let reset = reset.filter(|_| status == StatusCode::TOO_MANY_REQUESTS).map(|at| {
        let now = crate::process::now_ms() as f64 / 1_000.0;
        Duration::from_secs_f64((at - now).clamp(0.0, 600.0))
    });
    let is_limit = status == StatusCode::SERVICE_UNAVAILABLE;
    let after = reset.or(after).or(is_limit.then_some(AGAIN));
    let (tried, kind_of) = (tried.to_owned(), http::kind(status));
    let error = SystemError { tried, said, remedy, after, kind: kind_of };
    Err(Refusal { error, is_expired: kind == "expired_token" })
}

/// What a good answer says.
fn result<'a, T: Deserialize<'a>>(tried: &str, body: &'a [u8]) -> Result<T, SystemError> {
    #[derive(Deserialize)]
    struct Said<T> {
        result: T,
    }
    let said: Result<Said<T>, _> = serde_json::from_slice(body);
    said.map(|said| said.result).map_err(|_| not_bitrix(tried))
}

fn not_bitrix(tried: &str) -> SystemError {
    let said = "the answer is not what Bitrix24 answers".to_owned();
    let remedy = "is this its address, or that of something before it? it is asked again";
    SystemError::new(tried.to_owned(), said, remedy)
}

fn in_part(tried: &str) -> SystemError {
    let said = "the answer is not whole".to_owned();
    SystemError::new(tried.to_owned(), said, "it is asked again")
}

/// The items of a page.
fn items(listed: &RawValue) -> Result<Vec<Item<'_>>, SystemError> {
    #[derive(Deserialize)]
    struct Listed<'a> {
        #[serde(borrow)]
        items: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head<'a> {
        #[serde(borrow)]
        id: Number<'a>,
        updated_time: Option<String>,
    }
    let item = |source: &&'_ RawValue| -> Option<(u64, Option<String>)> {
        let head: Head<'_> = serde_json::from_str(source.get()).ok()?;
        Some((head.id.number()?, head.updated_time))
    };
    let read = || -> Option<Vec<Item<'_>>> {
        let listed: Listed<'_> = serde_json::from_str(listed.get()).ok()?;
        let items = listed.items.into_iter().map(|source| {
            let (id, changed) = item(&source)?;
            Some(Item { id, changed, source })
        });
        items.collect()
    };
    read().ok_or_else(|| not_bitrix("read items"))
}

/// The pages of a batch by name; what is empty is a list there.
fn pages(results: &RawValue) -> Option<BTreeMap<String, &RawValue>> {
    match is_empty(Some(results)) {
        true => Some(BTreeMap::new()),
        false => serde_json::from_str(results.get()).ok(),
    }
}

fn is_empty(value: Option<&RawValue>) -> bool {
    value.is_none_or(|value| matches!(value.get(), "[]" | "{}" | "null"))
}

#[derive(Deserialize)]
struct Feature<'a> {
    #[serde(borrow)]
    value: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Binding<'a> {
    event: String,
    #[serde(borrow, default)]
    offline: Option<Number<'a>>,
}

#[derive(Deserialize)]
struct Got<'a> {
    #[serde(borrow, default)]
    process_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    events: Vec<Row<'a>>,
}

/// A row of the portal's queue.
#[derive(Deserialize)]
struct Row<'a> {
    #[serde(rename = "ID", borrow)]
    id: Number<'a>,
    #[serde(rename = "PROCESS_ID", borrow, default)]
    process: Option<Cow<'a, str>>,
    #[serde(rename = "EVENT_DATA", borrow, default)]
    data: Option<EventData<'a>>,
}

impl Row<'_> {
    /// The number of the item to which something happened.
    fn item(&self) -> Option<u64> {
        self.data.as_ref()?.fields.id.number()
    }
}

#[derive(Deserialize)]
struct EventData<'a> {
    #[serde(rename = "FIELDS", borrow)]
    fields: Fields<'a>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "ID", borrow)]
    id: Number<'a>,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    result: &'a RawValue,
    #[serde(rename = "result_error", borrow, default)]
    errors: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refused {
    error: String,
    time: Option<Time>,
}

#[derive(Deserialize)]
struct Time {
    operating_reset_at: Option<f64>,
}
