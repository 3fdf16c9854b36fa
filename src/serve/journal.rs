//! The journal over HTTP: grids of groups, and clicks in them.

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value as JsonValue;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    Served, Serving,
    body::{Body, Path, Query},
    door::Visitor,
    problem::{NoAnswer, NoChange, Problem},
    who::who,
};
use crate::{
    journal::{
        desk::{Set, Unconfirmed},
        lessons::{Journal, SLOTS},
        marks::{Cell, Mark},
        people::{Kind, People},
        rules::{Click, Refusal},
    },
    time::{Day, Epoch},
};

/// Groups.
#[derive(Serialize, ToSchema)]
pub(super) struct Groups {
    groups: Vec<String>,
}

/// The groups that have lessons or students; of a student those in whose journals he is.
#[utoipa::path(get, path = "/v1/groups", responses((status = 200, body = Groups)))]
pub(super) async fn groups(
    State(serving): Served,
    Extension(visitor): Extension<Visitor>,
) -> Json<Groups> {
    let (people, journals) = (serving.people(), serving.journals());
    let is_theirs = |group: &&str| {
        visitor.student().is_none()
            || journals.of_group(group).any(|(_, journal)| may_look(visitor, journal, &people))
    };
    let groups = people.groups().chain(journals.groups()).filter(is_theirs);
    let mut groups: Vec<String> = groups.map(str::to_owned).collect();
    groups.sort_unstable();
    groups.dedup();
    Json(Groups { groups })
}

/// Somebody by number and name.
#[derive(Serialize, ToSchema)]
pub(super) struct Named {
    number: u32,
    name: Option<String>,
}

/// A journal in few words.
#[derive(Serialize, ToSchema)]
pub(super) struct Summary {
    journal: u16,
    groups: Vec<String>,
    teachers: Vec<Named>,
    deaneries: Vec<Named>,
    leaders: Vec<Named>,
    /// Of the group that was asked for.
    lessons: usize,
    /// Of those, today's.
    today: usize,
}

/// Journals.
#[derive(Serialize, ToSchema)]
pub(super) struct Summaries {
    journals: Vec<Summary>,
}

#[derive(Deserialize, IntoParams)]
pub(super) struct OfGroup {
    /// A group's short title.
    group: String,
}

/// The journals in which a group has lessons, of a student those in which he is.
#[utoipa::path(get, path = "/v1/journals", params(OfGroup),
    responses((status = 200, body = Summaries), NoAnswer))]
pub(super) async fn journals(
    State(serving): Served,
    Extension(visitor): Extension<Visitor>,
    Query(OfGroup { group }): Query<OfGroup>,
) -> Json<Summaries> {
    let (people, today) = (serving.people(), serving.clock.now().day());
    let summary = |(number, journal): (u16, &Journal)| {
        let lessons = journal.lessons.iter().filter(|lesson| lesson.group == group);
        Summary {
            journal: number,
            groups: journal.leaders.keys().cloned().collect(),
            teachers: named(&people, Kind::Employee, journal.teachers.iter()),
            deaneries: named(&people, Kind::Employee, journal.deaneries.iter()),
            leaders: named(&people, Kind::Student, journal.leaders.values()),
            lessons: lessons.clone().count(),
            today: lessons.filter(|lesson| lesson.date == today).count(),
        }
    };
    let journals = serving.journals();
    let theirs = journals.of_group(&group).filter(|(_, j)| may_look(visitor, j, &people));
    Json(Summaries { journals: theirs.map(summary).collect() })
}

fn named<'n>(people: &People, kind: Kind, numbers: impl Iterator<Item = &'n u32>) -> Vec<Named> {
    let named = |number: &u32| Named { number: *number, name: name(people, kind, *number) };
    numbers.map(named).collect()
}

fn name(people: &People, kind: Kind, number: u32) -> Option<String> {
    people.by_number(kind, number)?.name.clone()
}

/// A column of the grid.
#[derive(Serialize, ToSchema)]
pub(super) struct LessonColumn {
    lesson: u64,
    /// From 1, in the order of the lessons of this group in this journal.
    ordinal: usize,
    date: String,
    slot: u8,
    /// HH:MM, Moscow time; absent where the slot is none of a day.
    begin: Option<String>,
    end: Option<String>,
    kind: String,
    locked: bool,
    today: bool,
}

/// A row of the grid.
#[derive(Serialize, ToSchema)]
pub(super) struct StudentInGroup {
    student: u32,
    name: Option<String>,
    leader: bool,
}

/// Who set a mark.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct By {
    number: u32,
    name: Option<String>,
    /// 0 student, 1 leader, 2 teacher, 3 deanery; absent where the event did not say.
    role: Option<u8>,
}

/// A mark where it stands.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct CellView {
    journal: u16,
    student: u32,
    lesson: u64,
    mark: u8,
    by: By,
    /// Moscow time.
    when: String,
    certificate: Option<u8>,
    id: Uuid,
}

/// The grid of a group in a journal.
#[derive(Serialize, ToSchema)]
pub(super) struct Grid {
    journal: u16,
    group: String,
    groups: Vec<String>,
    today: String,
    teachers: Vec<Named>,
    deaneries: Vec<Named>,
    lessons: Vec<LessonColumn>,
    students: Vec<StudentInGroup>,
    cells: Vec<CellView>,
    /// Everything up to this epoch is in it.
    epoch: Epoch,
}

#[derive(Deserialize, IntoParams)]
pub(super) struct MaybeOfGroup {
    /// A group's short title; the journal's first where none is given.
    group: Option<String>,
}

/// The grid of a group in a journal: students, lessons, and the marks that count.
#[utoipa::path(get, path = "/v1/journals/{journal}",
    params(("journal" = u16, Path, description = "JOURNAL_ID"), MaybeOfGroup),
    responses((status = 200, body = Grid), NoAnswer))]
pub(super) async fn journal(
    State(serving): Served,
    Extension(visitor): Extension<Visitor>,
    Path(number): Path<u16>,
    Query(MaybeOfGroup { group }): Query<MaybeOfGroup>,
) -> Result<Json<Grid>, Problem> {
    let journals = serving.journals();
    let journal = journals.journal(number);
    let journal = journal.ok_or_else(|| Problem::not_found("Журнал не найден"))?;
    if !may_look(visitor, journal, &serving.people()) {
        return Err(Problem::new(StatusCode::FORBIDDEN, Refusal::Access.to_string()));
    }
    let group = group.or_else(|| journal.leaders.keys().next().cloned()).unwrap_or_default();
    let leader = journal.leaders.get(&group);
    let leader = *leader.ok_or_else(|| Problem::not_found("Этой группы нет в журнале"))?;
    let (people, today) = (serving.people(), serving.clock.now().day());
    let mut students: Vec<StudentInGroup> = people
        .of_group(&group)
        .map(|person| StudentInGroup {
            student: person.number,
            name: person.name.clone(),
            leader: person.number == leader,
        })
        .collect();
    if !students.iter().any(|student| student.leader) {
        // Of whom there is no document, or one that says another group.
        let name = name(&people, Kind::Student, leader);
        students.push(StudentInGroup { student: leader, name, leader: true });
    }
    students.sort_by(|a, b| {
        (a.name.is_none(), &a.name, a.student).cmp(&(b.name.is_none(), &b.name, b.student))
    });
    let of_group = journal.lessons.iter().filter(|lesson| lesson.group == group);
    let lessons: Vec<LessonColumn> = of_group
        .zip(1..)
        .map(|(lesson, ordinal)| {
            let times = usize::from(lesson.slot).checked_sub(1).and_then(|slot| SLOTS.get(slot));
            let time = |(hour, minute): (u8, u8)| format!("{hour:02}:{minute:02}");
            LessonColumn {
                lesson: lesson.number,
                ordinal,
                date: lesson.date.to_string(),
                slot: lesson.slot,
                begin: times.map(|times| time(times.0)),
                end: times.map(|times| time(times.1)),
                kind: lesson.kind.clone(),
                locked: lesson.is_locked(today),
                today: lesson.date == today,
            }
        })
        .collect();
    let dates = journal.lessons.iter().filter(|lesson| lesson.group == group);
    let dates: Vec<(u64, Day)> = dates.map(|lesson| (lesson.number, lesson.date)).collect();
    let cells: Vec<Cell> = students
        .iter()
        .flat_map(|student| {
            dates.iter().map(|(lesson, date)| Cell {
                journal: number,
                student: student.student,
                lesson: *lesson,
                date: *date,
            })
        })
        .collect();
    let (cells, epoch) = (views_of(&serving, &people, &cells), serving.shown.standing().epoch);
    Ok(Json(Grid {
        journal: number,
        groups: journal.leaders.keys().cloned().collect(),
        today: today.to_string(),
        teachers: named(&people, Kind::Employee, journal.teachers.iter()),
        deaneries: named(&people, Kind::Employee, journal.deaneries.iter()),
        lessons,
        students,
        cells,
        epoch,
        group,
    }))
}

/// Whether somebody may look at a journal: a student at one of theirs, everyone else at all.
pub(super) fn may_look(visitor: Visitor, journal: &Journal, people: &People) -> bool {
    visitor.student().is_none_or(|student| people.is_in(student, journal))
}

/// The marks in cells, as pages show them: what counts, or what was confirmed since.
pub(super) fn views_of(serving: &Serving, people: &People, cells: &[Cell]) -> Vec<CellView> {
    // Asked first: what becomes visible in between is found there.
    let confirmed = serving.desk.confirmed(cells.iter().copied());
    let standing = serving.shown.standing();
    let view = |cell: &Cell| {
        let visible = standing.marks.mark(cell);
        let newer =
            confirmed.get(cell).filter(|set| visible.is_none_or(|visible| visible.made < set.made));
        match newer {
            Some(set) => Some(set_view(people, set)),
            None => visible.map(|mark| mark_view(people, cell, mark)),
        }
    };
    cells.iter().filter_map(view).collect()
}

fn mark_view(people: &People, cell: &Cell, mark: &Mark) -> CellView {
    let Mark { id, made, mark, marked_by, role, certificate, .. } = *mark;
    let by = by(people, marked_by, role);
    let Cell { journal, student, lesson, .. } = *cell;
    CellView { journal, student, lesson, mark, by, when: made.to_string(), certificate, id }
}

fn set_view(people: &People, set: &Set) -> CellView {
    let Set { id, cell, mark, marked_by, role, certificate, made } = *set;
    let by = by(people, marked_by, Some(role as u8));
    let Cell { journal, student, lesson, .. } = cell;
    CellView { journal, student, lesson, mark, by, when: made.to_string(), certificate, id }
}

fn by(people: &People, number: u32, role: Option<u8>) -> By {
    // Students and leaders bear a number of the portal, employees one of the deanery.
    let kind = if role.is_some_and(|role| role >= 2) { Kind::Employee } else { Kind::Student };
    By { number, name: name(people, kind, number), role }
}

/// A click, as the journal's events say it. What is missing or wrong is refused by the rules, in
/// their words.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", deny_unknown_fields)]
pub(super) struct ClickBody {
    /// Made by who clicks; asked again under the same ID, a click is written once.
    id: Uuid,
    /// JOURNAL_ID, a positive integer.
    #[schema(value_type = Option<i64>)]
    journal_id: Option<JsonValue>,
    /// STUDENT_ID, a positive integer.
    #[schema(value_type = Option<i64>)]
    student_id: Option<JsonValue>,
    /// LESSON_ID, a positive integer.
    #[schema(value_type = Option<i64>)]
    lesson_id: Option<JsonValue>,
    /// 0 absent, 1 present, 2 to 5 special.
    #[schema(value_type = Option<i64>)]
    attendance_mark: Option<JsonValue>,
    /// The lesson's day, YYYY-MM-DD, to be checked.
    #[schema(value_type = Option<String>)]
    lesson_date: Option<JsonValue>,
    /// Of mark 2, 1 to 255.
    #[schema(value_type = Option<i64>)]
    number_cert: Option<JsonValue>,
}

impl ClickBody {
    fn click(&self) -> Click {
        // What is no integer is none that any rule admits.
        let number =
            |value: &Option<JsonValue>| value.as_ref().map(|value| value.as_i64().unwrap_or(-1));
        Click {
            journal: number(&self.journal_id),
            student: number(&self.student_id),
            lesson: number(&self.lesson_id),
            mark: number(&self.attendance_mark),
            date: self.lesson_date.as_ref().map(|date| Day::parse(date.as_str()?.as_bytes())),
            certificate: number(&self.number_cert),
        }
    }
}

/// A click that is durable.
#[derive(Serialize, ToSchema)]
pub(super) struct Confirmed {
    cell: CellView,
}

/// Marks a student. Answered once the click is durable; it becomes visible some milliseconds later.
#[utoipa::path(post, path = "/v1/clicks", request_body = ClickBody,
    params(("Tributary-Person" = Option<String>, Header,
            description = "student:NUMBER, teacher:NUMBER or deanery:NUMBER, where one says it \
                           oneself; who has logged in is who they are")),
    responses((status = 201, body = Confirmed), NoChange))]
pub(super) async fn click(
    State(serving): Served,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Body(body): Body<ClickBody>,
) -> Result<(StatusCode, Json<Confirmed>), Response> {
    let person = who(visitor, &headers, &serving.journals());
    let Some(person) = person.map_err(IntoResponse::into_response)? else {
        let detail = "say who clicks: Tributary-Person: student:NUMBER";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, detail).into_response());
    };
    if !serving.limits.admit(person) {
        let detail = "Слишком много отметок за секунду, подождите немного";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
        return Err(([("retry-after", "1")], problem).into_response());
    }
    let set = serving.desk.click(body.id, &body.click(), person).await;
    let set = set.map_err(|error| unconfirmed(&error).into_response())?;
    let cell = set_view(&serving.people(), &set);
    Ok((StatusCode::CREATED, Json(Confirmed { cell })))
}

fn unconfirmed(error: &Unconfirmed) -> Problem {
    let status = match error {
        Unconfirmed::Refused(_) | Unconfirmed::NoEvent => StatusCode::UNPROCESSABLE_ENTITY,
        Unconfirmed::OtherClick => StatusCode::CONFLICT,
        Unconfirmed::Full | Unconfirmed::Unwritten | Unconfirmed::Loading => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    let rule = match error {
        Unconfirmed::Refused(refusal) => Some(refusal.rule()),
        _ => None,
    };
    Problem { rule, ..Problem::new(status, error.to_string()) }
}

/// How far an event is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum How {
    /// It is durable, and in no view yet.
    Accepted,
    /// It is in all views.
    Visible,
}

/// What became of an event.
#[derive(Serialize, ToSchema)]
pub(super) struct EventState {
    id: Uuid,
    state: How,
    /// With which epoch it became visible; of an event that was there at the start, in which the
    /// start read it.
    epoch: Option<Epoch>,
}

/// Whether an event is in all views, and since which epoch.
#[utoipa::path(get, path = "/v1/events/{id}", params(("id" = Uuid, Path, description = "ID")),
    responses((status = 200, body = EventState), NoAnswer))]
pub(super) async fn event(
    State(serving): Served,
    Path(id): Path<Uuid>,
) -> Result<Json<EventState>, Problem> {
    let standing = serving.shown.standing();
    let (seen, shown) = (standing.events.get(&id).copied(), standing.epoch);
    drop(standing);
    match seen {
        Some(seen) => {
            // Of a cluster's views one may be ahead of the other.
            let state = if seen.epoch <= shown { How::Visible } else { How::Accepted };
            Ok(Json(EventState { id, state, epoch: Some(seen.epoch) }))
        }
        None if serving.desk.is_under_way(id) => {
            Ok(Json(EventState { id, state: How::Accepted, epoch: None }))
        }
        None => Err(Problem::not_found("no such event was accepted, or seen so far")),
    }
}
