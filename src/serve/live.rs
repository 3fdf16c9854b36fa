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

/// What happens from now on: `hello` at first, then `epoch` with the cells that changed, `person`
/// and `clock`. Who is too slow is told to look anew (`"more": true`).
#[utoipa::path(get, path = "/v1/changes",
    responses((status = 200, description = "text/event-stream", body = String,
               content_type = "text/event-stream")))]
pub(super) async fn changes(
    State(serving): Served,
    Extension(visitor): Extension<Visitor>,
) -> impl IntoResponse {
    // Heard from before what stands is looked at: nothing is missed in between.
    let news = BroadcastStream::new(serving.shown.watch());
    let epoch = serving.shown.standing().epoch;
    let hello = json!({ "epoch": epoch, "now": now(&serving) });
    let hello = tokio_stream::once(event("hello", &hello));
    let told = news.map(move |news| tell(&serving, visitor, news));
    let ends = Instant::now() + LOGIN_STANDS;
    let stands = move |_: &Event| !matches!(visitor, Visitor::Person(_)) || Instant::now() < ends;
    let stream = hello.chain(told).take_while(stands).map(Ok::<_, Infallible>);
    let stream = Sse::new(stream).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE));
    // A proxy between is to hand on each of them at once.
    ([("x-accel-buffering", "no")], stream)
}

fn tell(
    serving: &Arc<Serving>,
    visitor: Visitor,
    news: Result<News, BroadcastStreamRecvError>,
) -> Event {
    match news {
        Ok(News::Epoch(news)) => {
            let people = serving.people();
            let journals = serving.journals();
            let may_look = |cell: &&Cell| {
                let journal = journals.journal(cell.journal);
                journal.map_or(visitor.student().is_none(), |j| may_look(visitor, j, &people))
            };
            let cells: Vec<Cell> = news.cells.iter().filter(may_look).copied().collect();
            let cells = views_of(serving, &people, &cells);
            let (epoch, more, corrected) = (news.epoch, news.more, news.corrected);
            let told = json!({
                "epoch": epoch, "cells": cells, "more": more, "corrected": corrected,
            });
            event("epoch", &told)
        }
        Ok(News::Person(id)) => event("people", &json!({ "id": *id })),
        Ok(News::Clock) => event("clock", &json!({ "now": now(serving) })),
        Err(BroadcastStreamRecvError::Lagged(_)) => {
            let epoch = serving.shown.standing().epoch;
            event("epoch", &json!({ "epoch": epoch, "cells": [], "more": true, "corrected": 0 }))
        }
    }
}

fn event(name: &str, data: &serde_json::Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

pub(super) fn now(serving: &Serving) -> String {
    serving.clock.now().to_string()[..19].to_owned()
}

#[derive(Deserialize, IntoParams)]
pub(super) struct After {
    /// Only what came after this one.
    #[serde(default)]
    #[param(minimum = 0)]
    after: i64,
    /// At most so many, up to 500, the newest.
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
    let newer = standing.tail.iter().rev().take_while(|record| record.sequence > after);
    let mut records: Vec<RecordView> = newer.take(limit).map(record).collect();
    records.reverse();
    Ok(Json(Records { records }))
}

fn record(record: &TailRecord) -> RecordView {
    let TailRecord { sequence, epoch, is_new, before, after, .. } = record.clone();
    let kind = if is_new { Because::New } else { Because::Correction };
    RecordView { sequence, epoch, kind, before, after }
}
