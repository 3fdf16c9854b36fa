//! For operators: how far everything is, and what was no event; and the journal's clock.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    ClusterState, Place, Served, Serving,
    body::{Body, Query},
    door::Visitor,
    live::now,
    problem::{NoAnswer, NoChange, Problem},
    who::who,
};
use crate::{
    engine::InputStatus,
    journal::{Journals, People, clock, people::Kind, rules::Person, shown::News},
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
    /// demo: all is invented; open: everyone may act as anyone; login: one is who one has logged in
    /// as.
    mode: &'static str,
    /// The parts of the pages that one may look at.
    sections: &'static [&'static str],
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
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
) -> Result<Json<Session>, Problem> {
    let (people, journals) = (serving.people(), serving.journals());
    let is_demo = matches!(serving.place, Place::Demo { .. });
    let mode = match is_demo {
        true => "demo",
        false if serving.door.is_open() => "open",
        false => "login",
    };
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
        mode,
        sections: visitor.sections(),
        now: now(&serving),
        today: serving.clock.now().day().to_string(),
        person: who(visitor, &headers, &journals)?.map(acting),
        suggested: suggest(&serving, visitor, &journals, &people).map(|(journal, group)| {
            let group = group.to_owned();
            Suggested { journal, group }
        }),
        can_edit_people: is_demo,
        can_set_clock: may_set_clock(&serving),
        ready: serving.shown.is_live(),
        share: serving.shown.share(),
    }))
}

/// A journal to begin with: of a student, one of theirs.
fn suggest<'j>(
    serving: &Serving,
    visitor: Visitor,
    journals: &'j Journals,
    people: &People,
) -> Option<(u16, &'j str)> {
    let student = visitor.student();
    let own = student.and_then(|student| people.by_number(Kind::Student, student)?.group.as_ref());
    let is_wanted = |group: &str| student.is_none() || own.is_some_and(|own| own == group);
    journals.running(serving.clock.now(), is_wanted)
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

/// Where nobody's marks depend on it.
fn may_set_clock(serving: &Serving) -> bool {
    matches!(serving.place, Place::Demo { .. }) || serving.door.is_open()
}

/// Sets the clock, where everyone may act as anyone, which runs on from there.
#[utoipa::path(put, path = "/v1/clock", request_body = SetClock,
    responses((status = 200, body = Now), NoChange))]
pub(super) async fn set_clock(
    State(serving): Served,
    Body(SetClock { moment: text }): Body<SetClock>,
) -> Result<Json<Now>, Problem> {
    if !may_set_clock(&serving) {
        let detail = "Часы здесь идут сами";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
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
    /// Lines, or offsets of the topic's partitions, that are in the views.
    lines: u64,
    /// Those that are durable and in no view yet.
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
    /// Of a cluster at most so many: the ends of transactions count too.
    total: u64,
    /// Of those that were read.
    #[schema(value_type = BTreeMap<String, u64>)]
    by_reason: BTreeMap<Box<str>, u64>,
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
    /// Of a cluster its writers, inputs, rates and feeds, as `tributary status --json` says them;
    /// some seconds old.
    #[schema(value_type = Option<Object>)]
    cluster: Option<ClusterState>,
}

/// How everything is.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
pub(super) async fn status(State(serving): Served) -> Json<Status> {
    let tally = serving.desk.tally();
    let (held, refused) = {
        let people = serving.people();
        (people.documents(), people.refused())
    };
    let cluster = match &serving.place {
        Place::Demo { .. } => None,
        Place::Cluster { state, .. } => {
            state.read().expect("nobody panics while holding it").clone()
        }
    };
    let standing = serving.shown.standing();
    let (events, documents, waiting) = match (&serving.place, &cluster) {
        (Place::Demo { lines: written, changes }, _) => {
            let changes = changes.lock().expect("nobody panics while holding it").lines();
            let (lines, seen) = (standing.event_lines(), standing.lines(Input::Changes));
            let behind = written.load(Ordering::Relaxed).saturating_sub(lines);
            let events = EventsStatus { lines, behind };
            let behind = changes.saturating_sub(seen);
            (events, DocumentsStatus { held, changes, refused, behind }, standing.waiting)
        }
        (Place::Cluster { reference, .. }, Some(ClusterState { engine, .. })) => {
            let is_log = |input: &&InputStatus| input.topic == *reference;
            let (log, of_events): (Vec<_>, Vec<_>) = engine.inputs.iter().partition(is_log);
            let sum = |inputs: &[&InputStatus], of: fn(&InputStatus) -> u64| -> u64 {
                inputs.iter().map(|input| of(input)).sum()
            };
            let at = |input: &InputStatus| input.held.unwrap_or(input.begin);
            let events =
                EventsStatus { lines: sum(&of_events, at), behind: sum(&of_events, |i| i.lag) };
            let (changes, behind) = (sum(&log, at), sum(&log, |input| input.lag));
            let waiting = engine.writers.iter().map(|writer| writer.says.waiting).sum();
            (events, DocumentsStatus { held, changes, refused, behind }, waiting)
        }
        (Place::Cluster { .. }, None) => {
            let documents = DocumentsStatus { held, changes: 0, refused, behind: 0 };
            (EventsStatus { lines: 0, behind: 0 }, documents, 0)
        }
    };
    let times: Vec<Duration> = tally.times.iter().copied().collect();
    Json(Status {
        ready: serving.shown.is_live(),
        epoch: standing.epoch,
        uptime_s: serving.begun.elapsed().as_secs(),
        events,
        documents,
        records: RecordsStatus {
            held: standing.events.len(),
            latest: standing.marks.len(),
            waiting,
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
            total: standing.letters_ever(),
            by_reason: standing.letter_counts.clone(),
        },
        watchers: serving.shown.watchers(),
        cluster,
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
    /// The file of events, or topic and partition.
    #[schema(value_type = String)]
    input: Box<str>,
    /// The line there, or the offset; from 0.
    line: u64,
    #[schema(value_type = String)]
    reason: Box<str>,
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
        input: letter.input.clone(),
        line: letter.line,
        reason: letter.reason.clone(),
        column: letter.column.clone(),
        size: letter.size,
        base64: BASE64_STANDARD.encode(&letter.bytes),
    });
    let letters = letters.collect();
    Ok(Json(Letters { total: standing.letters_ever(), letters }))
}
