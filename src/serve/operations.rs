//! For operators: how far everything is, and what was no event; and the journal's clock.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Served,
    body::{Body, Query},
    live::now,
    problem::{NoAnswer, NoChange, Problem},
    who::who,
};
use crate::{
    journal::{clock, people::Kind, rules::Person, shown::News},
    process::resident_bytes,
    source::Input,
    time::Epoch,
};

/// Most dead letters of an answer.
const LETTERS_MAX: usize = 200;

/// Who acts.
#[derive(Serialize, ToSchema)]
pub(super) struct Acting {
    kind: &'static str,
    number: Option<u32>,
    name: Option<String>,
}

/// A journal to begin with.
#[derive(Serialize, ToSchema)]
pub(super) struct Suggested {
    journal: u16,
    group: String,
}

/// What a page must know at first.
#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    /// demo.
    mode: &'static str,
    /// The journal's time, Moscow.
    now: String,
    today: String,
    person: Option<Acting>,
    /// One with a lesson now, or today.
    suggested: Option<Suggested>,
    can_edit_people: bool,
    can_set_clock: bool,
    /// Whether the history was read.
    ready: bool,
    /// Which share of it was.
    share: f64,
}

/// What a page must know at first.
#[utoipa::path(get, path = "/v1/session",
    responses((status = 200, body = Session), NoAnswer))]
pub(super) async fn session(
    State(serving): Served,
    headers: HeaderMap,
) -> Result<Json<Session>, Problem> {
    let people = serving.people();
    let acting = |person| {
        let (kind, of, number) = match person {
            Person::Student(number) => ("student", Kind::Student, Some(number)),
            Person::Teacher(number) => ("teacher", Kind::Employee, number),
            Person::Deanery(number) => ("deanery", Kind::Employee, number),
        };
        let name = number.and_then(|number| people.by_number(of, number)?.name.clone());
        Acting { kind, number, name }
    };
    Ok(Json(Session {
        mode: "demo",
        now: now(&serving),
        today: serving.clock.now().day().to_string(),
        person: who(&headers, &serving.journals)?.map(acting),
        suggested: serving.journals.running(serving.clock.now()).map(|(journal, group)| {
            let group = group.to_owned();
            Suggested { journal, group }
        }),
        can_edit_people: true,
        can_set_clock: true,
        ready: serving.shown.is_live(),
        share: serving.shown.share(),
    }))
}

/// A time to set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetClock {
    /// YYYY-MM-DD HH:MM, with seconds or without, within the years in which clicks are admitted.
    #[schema(pattern = r"^\d{4}-\d{2}-\d{2} \d{2}:\d{2}(:\d{2})?$")]
    moment: String,
}

/// The journal's time.
#[derive(Serialize, ToSchema)]
pub(super) struct Now {
    now: String,
}

/// Sets the journal's clock, which runs on from there.
#[utoipa::path(put, path = "/v1/clock", request_body = SetClock,
    responses((status = 200, body = Now), NoChange))]
pub(super) async fn set_clock(
    State(serving): Served,
    Body(SetClock { moment: text }): Body<SetClock>,
) -> Result<Json<Now>, Problem> {
    let wrong = || {
        let detail = "moment is YYYY-MM-DD HH:MM, of the years 2015 to 2148";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    };
    serving.clock.set(clock::moment(&text).ok_or_else(wrong)?);
    serving.shown.tell(News::Clock);
    Ok(Json(Now { now: now(&serving) }))
}

/// Events, as far as they are read.
#[derive(Serialize, ToSchema)]
pub(super) struct EventsStatus {
    /// Lines that are in the views.
    lines: u64,
    /// Lines that are durable and in no view yet.
    behind: u64,
}

/// Documents, as far as they are read.
#[derive(Serialize, ToSchema)]
pub(super) struct DocumentsStatus {
    held: usize,
    /// Changes since the first start.
    changes: u64,
    /// Lines that are no documents.
    refused: u64,
    /// Changes that are durable and in no view yet.
    behind: u64,
}

/// Records that are held.
#[derive(Serialize, ToSchema)]
pub(super) struct RecordsStatus {
    held: usize,
    latest: usize,
    /// Records that wait for corrections.
    waiting: u64,
}

/// Clicks since the start.
#[derive(Serialize, ToSchema)]
pub(super) struct ClicksStatus {
    accepted: u64,
    refused: u64,
    failed: u64,
    /// From a click's arrival to its being durable, of the last thousand; absent where there is
    /// none.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Memory {
    resident_bytes: u64,
}

/// Dead letters in few words.
#[derive(Serialize, ToSchema)]
pub(super) struct LettersStatus {
    total: u64,
    by_reason: BTreeMap<&'static str, u64>,
}

/// How everything is.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    ready: bool,
    epoch: Epoch,
    uptime_s: u64,
    events: EventsStatus,
    documents: DocumentsStatus,
    records: RecordsStatus,
    clicks: ClicksStatus,
    memory: Memory,
    dead_letters: LettersStatus,
    /// Pages that hear of what happens.
    watchers: usize,
}

/// How everything is.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
pub(super) async fn status(State(serving): Served) -> Json<Status> {
    let tally = serving.desk.tally();
    let changes_written = serving.changes.lock().expect("nobody panics while holding it").lines();
    let (documents, refused) = {
        let people = serving.people();
        (people.documents(), people.refused())
    };
    let standing = serving.shown.standing();
    let (lines, changes) = (standing.event_lines(), standing.lines(Input::Changes));
    let times: Vec<Duration> = tally.times.iter().copied().collect();
    Json(Status {
        ready: serving.shown.is_live(),
        epoch: standing.epoch,
        uptime_s: serving.begun.elapsed().as_secs(),
        events: EventsStatus { lines, behind: serving.desk.lines().saturating_sub(lines) },
        documents: DocumentsStatus {
            held: documents,
            changes: changes_written,
            refused,
            behind: changes_written.saturating_sub(changes),
        },
        records: RecordsStatus {
            held: standing.events.len(),
            latest: standing.marks.len(),
            waiting: standing.waiting,
        },
        clicks: ClicksStatus {
            accepted: tally.accepted,
            refused: tally.refused,
            failed: tally.failed,
            p50_ms: quantile(times.clone(), 0.5),
            p99_ms: quantile(times, 0.99),
        },
        memory: Memory { resident_bytes: resident_bytes() },
        dead_letters: LettersStatus {
            total: standing.letter_counts.values().sum(),
            by_reason: standing.letter_counts.clone(),
        },
        watchers: serving.shown.watchers(),
    })
}

fn quantile(mut times: Vec<Duration>, share: f64) -> Option<f64> {
    times.sort_unstable();
    let place = (times.len() as f64 * share).ceil() as usize;
    let time = times.get(place.saturating_sub(1))?;
    Some((time.as_secs_f64() * 100_000.0).round() / 100.0)
}

/// What was no event.
#[derive(Serialize, ToSchema)]
pub(super) struct LetterView {
    number: u64,
    file: &'static str,
    /// From 0.
    line: u64,
    reason: &'static str,
    column: Option<String>,
    size: usize,
    /// The bytes, at most the first 4 096.
    base64: String,
}

/// Dead letters, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Letters {
    total: u64,
    letters: Vec<LetterView>,
}

#[derive(Deserialize, IntoParams)]
pub(super) struct Before {
    /// Only those before this one.
    #[serde(default = "newest")]
    #[param(minimum = 0)]
    before: i64,
    /// At most so many, up to 200.
    #[serde(default = "limit")]
    #[param(minimum = 1, maximum = 200)]
    limit: usize,
}

fn newest() -> i64 {
    i64::MAX
}

fn limit() -> usize {
    50
}

/// Lines of the events that are no events, newest first; the last thousand are held.
#[utoipa::path(get, path = "/v1/dead-letters", params(Before),
    responses((status = 200, body = Letters), NoAnswer))]
pub(super) async fn dead_letters(
    State(serving): Served,
    Query(Before { before, limit }): Query<Before>,
) -> Result<Json<Letters>, Problem> {
    let before = u64::try_from(before);
    let before = before.map_err(|_| Problem::bad_request("before is 0 or more"))?;
    if !(1..=LETTERS_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit is 1 to {LETTERS_MAX}")));
    }
    let standing = serving.shown.standing();
    let older = standing.letters.iter().rev();
    let older = older.filter(|letter| letter.number < before);
    let letters = older.take(limit).map(|letter| LetterView {
        number: letter.number,
        file: "events.ndjson",
        line: letter.line,
        reason: letter.reason,
        column: letter.column.clone(),
        size: letter.size,
        base64: BASE64_STANDARD.encode(&letter.bytes),
    });
    let letters = letters.collect();
    Ok(Json(Letters { total: standing.letter_counts.values().sum(), letters }))
}
