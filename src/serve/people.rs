//! People over HTTP: found, and changed as their system of record would change them.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Place, Served, Serving,
    body::{Body, Path, Query},
    problem::{NoAnswer, NoChange, Problem},
};
use crate::journal::{
    people::{Edit, Kind, Person},
    shown::News,
};

/// Most people of an answer.
const PEOPLE_MAX: usize = 200;

/// Most characters of a text that is changed.
const TEXT_MAX: usize = 200;

/// Somebody, and what they do in journals.
#[derive(Serialize, ToSchema)]
pub(super) struct PersonView {
    #[serde(flatten)]
    person: Person,
    /// The journals that a student leads.
    leads: Vec<u16>,
    /// Whether an employee acts for a deanery.
    deanery: bool,
}

/// People.
#[derive(Serialize, ToSchema)]
pub(super) struct Found {
    people: Vec<PersonView>,
    /// How many there are.
    total: usize,
}

#[derive(Deserialize, IntoParams)]
pub(super) struct Search {
    /// A part of the name, or the number.
    #[serde(default)]
    query: String,
    /// student or employee; both where none is given.
    #[serde(default)]
    #[param(inline)]
    kind: Vec<Kind>,
    /// A group's short title.
    group: Option<String>,
    /// At most so many, up to 200.
    #[serde(default = "limit")]
    #[param(minimum = 1, maximum = 200)]
    limit: usize,
}

fn limit() -> usize {
    50
}

fn view(serving: &Serving, person: &Person) -> PersonView {
    let (is_student, number) = (person.kind == Kind::Student, person.number);
    let journals = serving.journals();
    let leads = if is_student { journals.led_by(number).collect() } else { Vec::new() };
    let deanery = !is_student && journals.is_deanery(number);
    PersonView { person: person.clone(), leads, deanery }
}

/// People by name, number, kind and group.
#[utoipa::path(get, path = "/v1/people", params(Search),
    responses((status = 200, body = Found), NoAnswer))]
pub(super) async fn search(
    State(serving): Served,
    Query(search): Query<Search>,
) -> Result<Json<Found>, Problem> {
    if !(1..=PEOPLE_MAX).contains(&search.limit) {
        return Err(Problem::bad_request(format!("limit is 1 to {PEOPLE_MAX}")));
    }
    let wanted = search.query.trim().to_lowercase();
    let passes = |person: &&Person| {
        let name = person.name.as_ref().map(|name| name.to_lowercase());
        (search.kind.is_empty() || search.kind.contains(&person.kind))
            && search.group.as_ref().is_none_or(|group| person.group.as_ref() == Some(group))
            && (wanted.is_empty()
                || person.number.to_string() == wanted
                || name.is_some_and(|name| name.contains(&wanted)))
    };
    let people = serving.people();
    let mut found: Vec<&Person> = people.all().filter(passes).collect();
    found.sort_by(|a, b| (&a.name, a.number).cmp(&(&b.name, b.number)));
    let total = found.len();
    let found = found.into_iter().take(search.limit);
    Ok(Json(Found { people: found.map(|person| view(&serving, person)).collect(), total }))
}

fn missing() -> Problem {
    Problem::not_found("Такого человека нет")
}

/// Somebody by document.
#[utoipa::path(get, path = "/v1/people/{id}",
    params(("id" = String, Path, description = "the document's _id")),
    responses((status = 200, body = PersonView), NoAnswer))]
pub(super) async fn person(
    State(serving): Served,
    Path(id): Path<String>,
) -> Result<Json<PersonView>, Problem> {
    let people = serving.people();
    let person = people.by_id(&id).ok_or_else(missing)?;
    Ok(Json(view(&serving, person)))
}

/// What is changed of somebody; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Changed {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Of a student.
    #[schema(min_length = 1, max_length = 200)]
    group: Option<String>,
    /// Of a student.
    #[schema(value_type = Option<u8>, maximum = 255)]
    course: Option<serde_json::Number>,
    /// Of a student.
    #[schema(min_length = 1, max_length = 200)]
    specialization: Option<String>,
    /// Of an employee.
    #[schema(min_length = 1, max_length = 200)]
    position: Option<String>,
    /// Of an employee.
    #[schema(min_length = 1, max_length = 200)]
    kafedra: Option<String>,
    /// Of an employee.
    #[schema(min_length = 1, max_length = 200)]
    faculty: Option<String>,
}

/// Changes what somebody's document says, in a demonstration. Answered once that is durable;
/// history follows within milliseconds.
#[utoipa::path(patch, path = "/v1/people/{id}", request_body = Changed,
    params(("id" = String, Path, description = "the document's _id")),
    responses((status = 200, body = PersonView), NoChange))]
pub(super) async fn change(
    State(serving): Served,
    Path(id): Path<String>,
    Body(changed): Body<Changed>,
) -> Result<Json<PersonView>, Problem> {
    let Place::Demo { changes, .. } = &serving.place else {
        let detail = "Карточки меняются там, где они ведутся, и приходят оттуда сами";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    };
    let Changed { name, group, course, specialization, position, kafedra, faculty } = changed;
    let texts = [&name, &group, &specialization, &position, &kafedra, &faculty];
    let is_sound = |text: &String| (1..=TEXT_MAX).contains(&text.chars().count());
    if !texts.into_iter().flatten().all(is_sound) {
        return Err(Problem::bad_request(format!("Текст: от 1 до {TEXT_MAX} знаков")));
    }
    let course = course.map(|course| whole(&course)).transpose()?;
    let edit = Edit { name, group, course, specialization, position, kafedra, faculty };
    // One change after the other, each from what the one before has made.
    let mut log = changes.lock().expect("nobody panics while holding it");
    let line = serving.people().edited(&id, &edit).ok_or_else(missing)?;
    if let Err(error) = log.append(format!("{line}\n").as_bytes()) {
        tracing::error!(%error, "a change of a person was not written");
        let detail = "Изменение не записано, повторите попытку";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    }
    serving.people.write().expect("nobody panics while changing people").take(line.as_bytes());
    drop(log);
    serving.shown.wake();
    serving.shown.tell(News::Person(id.as_str().into()));
    let people = serving.people();
    let person = people.by_id(&id).ok_or_else(missing)?;
    Ok(Json(view(&serving, person)))
}

/// A small whole number, be it written 2 or 2.0: JSON knows no difference.
fn whole(number: &serde_json::Number) -> Result<u8, Problem> {
    let value = number.as_f64().filter(|value| value.fract() == 0.0);
    let value = value.filter(|value| (0.0..=255.0).contains(value));
    value.map(|value| value as u8).ok_or_else(|| Problem::bad_request("course is 0 to 255"))
}
