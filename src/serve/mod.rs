//! Serving the journal: its pages, its boards, and the API behind both.
//!
//! Shape: HTTP requests in; pages, JSON, and server-sent events out.
//!
//! Invariants: pages use nothing but the API; every error is `application/problem+json`; bodies,
//! lists and rates have limits; nothing here changes what stands but by a click or a changed
//! document that is durable first.
//!
//! In reading order: `guard` (what is heard), `door` and `login` (who is let in), `who` (in whose
//! name they act), `journal`, `boards`, `views`,
//! `people`, `live`, `operations` (what is answered), `pages`, `problem`, `body` (what is sent).

mod boards;
mod body;
mod door;
mod guard;
pub mod health;
mod journal;
mod live;
mod login;
mod operations;
mod pages;
mod people;
mod problem;
mod views;
mod who;

use std::{
    sync::{Arc, Mutex, RwLock, RwLockReadGuard, atomic::AtomicU64},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use problem::Problem;

use crate::{
    engine,
    feed::Mark,
    journal::{Clock, Desk, Journals, People, Shown, Timetable, log::LineLog, rules::Person},
    spec::Spec,
};

pub use door::{Door, Visitor};
pub use login::{Login, NoKeys};

/// How long it may take until an answer begins, what is sent included. A click whose transaction is
/// in doubt is confirmed later: asked again under its ID, it gets that answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// Most bytes of what is sent: a click has some 200, a changed document less than 4 KiB.
const BODY_BYTES_MAX: usize = 16 << 10;

/// What is served.
pub struct Serving {
    /// The dataflow.
    pub spec: Arc<Spec>,
    /// Lessons.
    pub timetable: Arc<Timetable>,
    /// People.
    pub people: Arc<RwLock<People>>,
    /// Whose journal it is.
    pub place: Place,
    /// What stands.
    pub shown: Arc<Shown>,
    /// Where clicks go.
    pub desk: Arc<Desk>,
    /// What time it is.
    pub clock: Arc<Clock>,
    /// Who is let in.
    pub door: Door,
    /// How much may be asked.
    pub limits: Limits,
    /// Since when: for how long, and by the system's clock, in ms since 1970.
    pub begun: Instant,
    /// See there.
    pub started_ms: i64,
}

/// Whose journal it is.
pub enum Place {
    /// That of an invented university, whose clock and people can be changed here.
    Demo {
        /// How many lines of events are durable.
        lines: Arc<AtomicU64>,
        /// Where changes of people go.
        changes: Mutex<LineLog>,
    },
    /// That of a cluster.
    Cluster {
        /// The topic of its reference log.
        reference: String,
        /// What was heard of it last.
        state: Arc<RwLock<Option<ClusterState>>>,
    },
}

/// How a cluster was when it was looked at.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ClusterState {
    /// When that was, in ms since 1970.
    pub looked_ms: i64,
    /// Writers, inputs, rates.
    #[serde(flatten)]
    pub engine: engine::Status,
    /// Feeds, by source.
    pub feeds: std::collections::BTreeMap<String, Mark>,
}

impl Serving {
    fn journals(&self) -> Arc<Journals> {
        self.timetable.now()
    }

    fn people(&self) -> RwLockReadGuard<'_, People> {
        self.people.read().expect("nobody panics while changing people")
    }
}

/// How much may be asked.
pub struct Limits {
    clicks: governor::DefaultDirectRateLimiter,
    of_person: governor::DefaultKeyedRateLimiter<Person>,
}

/// Clicks that all people together may make in a second.
const CLICKS_A_SECOND: u32 = 5_000;
/// Clicks that one person may make in a second; a teacher who marks a group by the keyboard makes
/// less.
const CLICKS_OF_PERSON_A_SECOND: u32 = 20;

impl Default for Limits {
    fn default() -> Limits {
        use governor::{Quota, RateLimiter};
        let quota = |number| {
            Quota::per_second(std::num::NonZeroU32::new(number).expect("a limit is positive"))
        };
        Limits {
            clicks: RateLimiter::direct(quota(CLICKS_A_SECOND)),
            of_person: RateLimiter::keyed(quota(CLICKS_OF_PERSON_A_SECOND)),
        }
    }
}

impl Limits {
    /// Whether somebody may click now.
    fn admit(&self, person: Person) -> bool {
        // Else who invents names would fill the memory.
        if self.of_person.len() > 100_000 {
            self.of_person.retain_recent();
        }
        // Who is too fast takes nothing from the others.
        self.of_person.check_key(&person).is_ok() && self.clicks.check().is_ok()
    }
}

type Served = State<Arc<Serving>>;

/// The journal's API.
#[derive(OpenApi)]
#[openapi(
    components(schemas(Problem)),
    info(
        title = "Tributary: the journal",
        description = "Clicks in an attendance journal, what they make of it at once, and the \
                       boards over it. Errors are application/problem+json; their details are in \
                       Russian where they are for users of the journal.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    )
)]
struct Api;

/// All routes, and others of who is let in.
pub fn routes(serving: Arc<Serving>, others: Router<Arc<Serving>>) -> Router {
    let (api, document) = OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(operations::session))
        .routes(routes!(operations::set_clock))
        .routes(routes!(journal::groups))
        .routes(routes!(journal::journals))
        .routes(routes!(journal::journal))
        .routes(routes!(journal::click))
        .routes(routes!(journal::event))
        .routes(routes!(boards::groups))
        .routes(routes!(boards::teachers))
        .routes(routes!(views::view))
        .routes(routes!(people::search))
        .routes(routes!(people::person, people::change))
        .routes(routes!(live::changes))
        .routes(routes!(live::tail))
        .routes(routes!(operations::status))
        .routes(routes!(operations::dead_letters))
        .split_for_parts();
    let document = Arc::new(document);
    api.route("/v1/openapi.json", get(move || async move { Json((*document).clone()) }))
        .merge(pages::routes())
        .merge(others)
        .fallback(pages::nothing)
        .method_not_allowed_fallback(body::no_such_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&serving), once_read))
        .layer(middleware::from_fn_with_state(Arc::clone(&serving), door::let_in))
        .layer(middleware::from_fn(in_time))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&serving), guard::guard))
        .with_state(serving)
}

/// What is not sent whole in time, or not answered, holds nobody's place any longer.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_PATIENCE, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let detail = "Ответа нет слишком долго, повторите попытку";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
        }
    }
}

/// Nothing is answered from a past that is read in part, but how far that is.
async fn once_read(State(serving): Served, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let waits = path.starts_with("/v1/")
        && !matches!(path, "/v1/session" | "/v1/status" | "/v1/changes" | "/v1/openapi.json");
    if waits && !serving.shown.is_live() {
        let share = (serving.shown.share() * 100.0) as u32;
        let detail = format!("Журнал загружается: прочитано {share} %");
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        return ([(header::RETRY_AFTER, "1")], problem).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests;
