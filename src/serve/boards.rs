//! The boards over HTTP.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Served,
    body::{Query, Text, day},
    problem::{NoAnswer, Problem},
};
use crate::journal::boards::{
    self, Days, GroupsBoard, StudentFilter, TeacherFilter, TeachersBoard,
};

#[derive(Deserialize, IntoParams)]
pub(super) struct GroupsQuery {
    /// Only these groups; all where none is given.
    #[serde(default)]
    #[param(inline)]
    group: Vec<Text>,
    /// Only these years of study.
    #[serde(default)]
    course: Vec<i64>,
    /// Only these specializations.
    #[serde(default)]
    #[param(inline)]
    specialization: Vec<Text>,
    /// The first day, YYYY-MM-DD.
    #[param(pattern = r"^(\d{4}-\d{2}-\d{2})?$")]
    since: Option<String>,
    /// The last day, YYYY-MM-DD.
    #[param(pattern = r"^(\d{4}-\d{2}-\d{2})?$")]
    until: Option<String>,
}

/// Attendance by groups: by day, in all, and by student.
#[utoipa::path(get, path = "/v1/boards/groups", params(GroupsQuery),
    responses((status = 200, body = GroupsBoard), NoAnswer))]
pub(super) async fn groups(
    State(serving): Served,
    Query(query): Query<GroupsQuery>,
) -> Result<Json<GroupsBoard>, Problem> {
    let days = days(query.since.as_deref(), query.until.as_deref())?;
    let filter = StudentFilter {
        groups: texts(query.group),
        courses: query.course,
        specializations: texts(query.specialization),
    };
    let today = serving.clock.now().day();
    let standing = serving.shown.standing();
    Ok(Json(boards::groups(&standing.marks, standing.epoch, today, days, &filter)))
}

#[derive(Deserialize, IntoParams)]
pub(super) struct TeachersQuery {
    /// Only these faculties; all where none is given.
    #[serde(default)]
    #[param(inline)]
    faculty: Vec<Text>,
    /// Only these chairs.
    #[serde(default)]
    #[param(inline)]
    kafedra: Vec<Text>,
    /// Only these teachers, by full name.
    #[serde(default)]
    #[param(inline)]
    teacher: Vec<Text>,
    /// The first day, YYYY-MM-DD.
    #[param(pattern = r"^(\d{4}-\d{2}-\d{2})?$")]
    since: Option<String>,
    /// The last day, YYYY-MM-DD.
    #[param(pattern = r"^(\d{4}-\d{2}-\d{2})?$")]
    until: Option<String>,
}

/// Attendance by teachers: by day, in all, and by teacher.
#[utoipa::path(get, path = "/v1/boards/teachers", params(TeachersQuery),
    responses((status = 200, body = TeachersBoard), NoAnswer))]
pub(super) async fn teachers(
    State(serving): Served,
    Query(query): Query<TeachersQuery>,
) -> Result<Json<TeachersBoard>, Problem> {
    let days = days(query.since.as_deref(), query.until.as_deref())?;
    let filter = TeacherFilter {
        faculties: texts(query.faculty),
        kafedras: texts(query.kafedra),
        teachers: texts(query.teacher),
    };
    let today = serving.clock.now().day();
    let standing = serving.shown.standing();
    Ok(Json(boards::teachers(&standing.marks, standing.epoch, today, days, &filter)))
}

fn days(since: Option<&str>, until: Option<&str>) -> Result<Days, Problem> {
    Ok(Days { since: day("since", since)?, until: day("until", until)? })
}

fn texts(texts: Vec<Text>) -> Vec<String> {
    texts.into_iter().map(|text| text.0).collect()
}
