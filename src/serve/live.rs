//! What happens, as it happens: server-sent events, and the live tail of records.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension, Json,
    extract::State,
    response::{
        IntoResponse, Sse,
        sse::{Event, KeepAlive},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use tokio_stream::{
    StreamExt,
    wrappers::{BroadcastStream, errors::BroadcastStreamRecvError},
};
use utoipa::{IntoParams, ToSchema};

use super::{
    Served, Serving,
    body::Query,
    door::Visitor,
    journal::{may_look, views_of},
    problem::{NoAnswer, Problem},
};
use crate::{
    journal::{
        marks::Cell,
        shown::{News, TailRecord},
    },
    time::Epoch,
};

/// Most records of an answer.
const RECORDS_MAX: usize = 500;

/// For so long a login stands while its page hears what happens; then the page asks anew.
const LOGIN_STANDS: Duration = Duration::from_secs(600);

/// Between two signs of life where nothing happens.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// What happens from now on: `hello` at first, which names the start of the process, then
/// `confirmed` with cells whose clicks are durable, `epoch` with those that changed in the views,
/// `people` and `clock`; where nothing happens, `alive` every 10 s. Who is too slow is told to look
/// anew (`"more": true`). A login's stream ends with what happens after ten minutes; then ask anew.
#[utoipa::path(get, path = "/v1/changes", params(Wanted),
    responses((status = 200, description = "text/event-stream", body = String,
               content_type = "text/event-stream")))]
pub(super) async fn changes(
    State(serving): Served,
    Extension(visitor): Extension<Visitor>,
    Query(wanted): Query<Wanted>,
) -> impl IntoResponse {
    // Heard from before what stands is looked at: nothing is missed in between.
    let news = BroadcastStream::new(serving.shown.watch());
    let epoch = serving.shown.standing().epoch;
    let hello = json!({ "epoch": epoch, "now": now(&serving), "start": serving.started_ms });
    let hello = tokio_stream::once(event("hello", &hello));
    let told = news.filter_map(move |news| tell(&serving, (visitor, &wanted), news));
    let ends = Instant::now() + LOGIN_STANDS;
    let stands = move |_: &Event| !matches!(visitor, Visitor::Person(_)) || Instant::now() < ends;
    let stream = hello.chain(told).take_while(stands).map(Ok::<_, Infallible>);
    let alive = KeepAlive::new().interval(SIGN_OF_LIFE).event(event("alive", &json!({})));
    let stream = Sse::new(stream).keep_alive(alive);
    // A proxy between is to hand on each of them at once.
    ([("x-accel-buffering", "no")], stream)
}

fn tell(
    serving: &Arc<Serving>,
    (visitor, wanted): (Visitor, &Wanted),
    news: Result<News, BroadcastStreamRecvError>,
) -> Option<Event> {
    let views = |cells: &[Cell]| {
        let (people, journals) = (serving.people(), serving.journals());
        let is_told = |cell: &&Cell| {
            let is_wanted = wanted.cells && wanted.journal.is_none_or(|j| j == cell.journal);
            let journal = is_wanted.then(|| journals.journal(cell.journal)).flatten();
            is_wanted
                && journal.map_or(visitor.student().is_none(), |j| may_look(visitor, j, &people))
        };
        let cells: Vec<Cell> = cells.iter().filter(is_told).copied().collect();
        views_of(serving, &people, &cells)
    };
    // Of one journal nothing is told while nothing happens there.
    let is_quiet = |cells: &[_]| cells.is_empty() && (wanted.journal.is_some() || !wanted.cells);
    let told = match news {
        Ok(News::Epoch(news)) => {
            let cells = views(&news.cells);
            if wanted.cells && is_quiet(&cells) && !news.more && news.corrected == 0 {
                return None;
            }
            let (epoch, more, corrected) = (news.epoch, news.more, news.corrected);
            let told = json!({
                "epoch": epoch, "cells": cells, "more": more, "corrected": corrected,
            });
            event("epoch", &told)
        }
        Ok(News::Confirmed(cells)) => {
            let cells = views(&cells);
            if is_quiet(&cells) {
                return None;
            }
            event("confirmed", &json!({ "cells": cells }))
        }
        Ok(News::Person(id)) => {
            // Who that is is not for students.
            let id = visitor.student().is_none().then_some(&*id);
            event("people", &json!({ "id": id }))
        }
        Ok(News::Clock) => event("clock", &json!({ "now": now(serving) })),
        Err(BroadcastStreamRecvError::Lagged(_)) => {
            let epoch = serving.shown.standing().epoch;
            event("epoch", &json!({ "epoch": epoch, "cells": [], "more": true, "corrected": 0 }))
        }
    };
    Some(told)
}

/// Of what a page wants to hear.
#[derive(Deserialize, IntoParams)]
pub(super) struct Wanted {
    /// Only of cells of this journal, and nothing while nothing happens there.
    journal: Option<u16>,
    /// Whether cells are told at all.
    #[serde(default = "all")]
    cells: bool,
}

fn all() -> bool {
    true
}

fn event(name: &str, data: &serde_json::Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

pub(super) fn now(serving: &Serving) -> String {
    serving.clock.now().to_string()[..19].to_owned()
}

#[derive(Deserialize, IntoParams)]
pub(super) struct After {
    /// Only what came after this one, oldest first; the newest where it is 0.
    #[serde(default)]
    #[param(minimum = 0)]
    after: i64,
    /// At most so many, up to 500.
    #[serde(default = "limit")]
    #[param(minimum = 1, maximum = 500)]
    limit: usize,
}

fn limit() -> usize {
    100
}

/// Whether an event is new, or a document changed what is shown of one.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Because {
    /// The event is new.
    New,
    /// What is known of the people in it has changed.
    Correction,
}

/// A record as it came.
#[derive(Serialize, ToSchema)]
pub(super) struct RecordView {
    sequence: u64,
    epoch: Epoch,
    kind: Because,
    /// What stood there, where that is known; nothing of a new event.
    #[schema(value_type = Option<Object>)]
    before: Option<Arc<RawValue>>,
    /// What stands there.
    #[schema(value_type = Object)]
    after: Arc<RawValue>,
}

/// Records, oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Records {
    records: Vec<RecordView>,
}

/// The newest enriched records since the start, corrections included.
#[utoipa::path(get, path = "/v1/tail", params(After),
    responses((status = 200, body = Records), NoAnswer))]
pub(super) async fn tail(
    State(serving): Served,
    Query(After { after, limit }): Query<After>,
) -> Result<Json<Records>, Problem> {
    let after = u64::try_from(after).map_err(|_| Problem::bad_request("after is 0 or more"))?;
    if !(1..=RECORDS_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit is 1 to {RECORDS_MAX}")));
    }
    let standing = serving.shown.standing();
    let newer = standing.tail.partition_point(|record| record.sequence <= after);
    let newest = if after == 0 { standing.tail.len().saturating_sub(limit) } else { newer };
    let records = standing.tail.iter().skip(newest).take(limit).map(record).collect();
    Ok(Json(Records { records }))
}

fn record(record: &TailRecord) -> RecordView {
    let TailRecord { sequence, epoch, is_new, before, after, .. } = record.clone();
    let kind = if is_new { Because::New } else { Because::Correction };
    RecordView { sequence, epoch, kind, before, after }
}
