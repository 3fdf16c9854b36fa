//! Views by key over HTTP: the latest marks, and the dataflow's views of counts.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use utoipa::ToSchema;

use super::{
    Place, Served,
    body::{Path, Query},
    problem::{NoAnswer, Problem},
};
use crate::{
    journal::marks::Cell,
    spec::{ViewId, ViewKind},
    time::Epoch,
};

/// Most rows of an answer.
const ROWS_MAX: usize = 10_000;

/// Rows of a view, at most 10 000.
#[derive(Serialize, ToSchema)]
pub(super) struct Rows {
    /// Everything up to this epoch is in it.
    epoch: Epoch,
    /// Columns by name; absent ones are left out.
    #[schema(value_type = Vec<Object>)]
    rows: Vec<Box<RawValue>>,
    /// Whether there are more of them than are answered: ask for fewer.
    more: bool,
}

/// What rows must say; any column of the key.
#[derive(Deserialize)]
pub(super) struct Wanted(BTreeMap<String, String>);

/// Rows of a view whose columns say what is asked for: `/v1/views/latest?JOURNAL_ID=972`. Of
/// `latest` the columns of its key can be asked for, of a view of counts all.
#[utoipa::path(get, path = "/v1/views/{view}",
    params(("view" = String, Path, description = "a view of the dataflow"),
           ("STUDENT_ID" = Option<u32>, Query, description = "a column, here of `latest`"),
           ("JOURNAL_ID" = Option<u16>, Query, description = "another one")),
    responses((status = 200, body = Rows), NoAnswer))]
pub(super) async fn view(
    State(serving): Served,
    Path(name): Path<String>,
    Query(Wanted(wanted)): Query<Wanted>,
) -> Result<Json<Rows>, Problem> {
    let place = serving.spec.views.iter().position(|view| view.name == name);
    let place = place.ok_or_else(|| {
        let names = serving.spec.views.iter().map(|view| view.name.as_str());
        let names: Vec<&str> = names.collect();
        Problem::not_found(format!("there is no such view; there are {}", names.join(", ")))
    })?;
    let standing = serving.shown.standing();
    let epoch = standing.epoch;
    // One more than is answered shows that there are more.
    let most = ROWS_MAX + 1;
    let mut rows = match &serving.spec.views[place].kind {
        ViewKind::Enriched => {
            let detail = "single records are not held; see /v1/tail, or the view \"latest\"";
            return Err(Problem::not_found(detail));
        }
        ViewKind::Latest { .. } => {
            let wanted = KeyWanted::read(&wanted)?;
            standing.marks.rows(|cell| wanted.admits(cell), most)
        }
        ViewKind::Counts { .. } if matches!(serving.place, Place::Cluster { .. }) => {
            let detail = "counts are held by the engine alone; see /v1/boards/groups";
            return Err(Problem::not_found(detail));
        }
        ViewKind::Counts { .. } => {
            let rows = standing.counts.get(&ViewId(place as u16));
            let rows = rows.into_iter().flatten().map(|(json, _)| json);
            let rows = rows.filter(|json| says(json, &wanted)).take(most);
            rows.map(|json| RawValue::from_string(json.to_string()))
                .map(|row| row.expect("what is rendered is JSON"))
                .collect::<Vec<_>>()
        }
    };
    let more = rows.len() > ROWS_MAX;
    rows.truncate(ROWS_MAX);
    Ok(Json(Rows { epoch, rows, more }))
}

/// Columns of the key of `latest`.
#[derive(Default)]
struct KeyWanted {
    journal: Option<u16>,
    student: Option<u32>,
    lesson: Option<u64>,
    date: Option<String>,
}

impl KeyWanted {
    fn read(wanted: &BTreeMap<String, String>) -> Result<KeyWanted, Problem> {
        fn number<N: std::str::FromStr>(name: &str, text: &str) -> Result<Option<N>, Problem> {
            let wrong = || Problem::bad_request(format!("{name} is a number within its range"));
            text.parse().map(Some).map_err(|_| wrong())
        }
        let mut key = KeyWanted::default();
        for (name, text) in wanted {
            match name.as_str() {
                "JOURNAL_ID" => key.journal = number(name, text)?,
                "STUDENT_ID" => key.student = number(name, text)?,
                "LESSON_ID" => key.lesson = number(name, text)?,
                "LESSON_DATE" => key.date = Some(text.clone()),
                _ => {
                    let detail = "ask for JOURNAL_ID, STUDENT_ID, LESSON_ID or LESSON_DATE";
                    return Err(Problem::bad_request(detail));
                }
            }
        }
        Ok(key)
    }

    fn admits(&self, cell: &Cell) -> bool {
        self.journal.is_none_or(|journal| journal == cell.journal)
            && self.student.is_none_or(|student| student == cell.student)
            && self.lesson.is_none_or(|lesson| lesson == cell.lesson)
            && self.date.as_ref().is_none_or(|date| *date == cell.date.to_string())
    }
}

/// Whether a row says all that is asked for, numbers as they are written.
fn says(json: &str, wanted: &BTreeMap<String, String>) -> bool {
    if wanted.is_empty() {
        return true;
    }
    let row: Map<String, Value> = serde_json::from_str(json).expect("a row is an object");
    wanted.iter().all(|(name, text)| match row.get(name) {
        Some(Value::String(value)) => value == text,
        Some(value) => serde_json::to_string(value).is_ok_and(|written| written == *text),
        None => false,
    })
}
