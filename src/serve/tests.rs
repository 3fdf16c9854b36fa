//! What is answered before the past is known, and to who asks too much, or badly.

use std::path::Path;

use axum::{body::Body, http::Method};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::journal::log::LineLog;

const LESSONS: &str = concat!(
    r#"{"journal":7,"group":"A","lesson":42,"date":"2025-03-21","slot":1,"kind":"лек.","#,
    r#""locked":false,"teachers":[100],"deaneries":[101],"leader":200}"#,
);

/// A journal over files in a folder.
struct Served {
    _folder: tempfile::TempDir,
    shown: Arc<Shown>,
    desk: Arc<Desk>,
    routes: Router,
}

impl Served {
    fn new(door: Door) -> Served {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("lessons"), LESSONS).unwrap();
        let spec = include_str!("../../dataflows/attendance.toml");
        let spec = Arc::new(Spec::parse(Path::new("attendance.toml"), spec).unwrap());
        let timetable = Arc::new(Timetable::new(Journals::load(&path("lessons")).unwrap()));
        let mut people = People::new(Arc::clone(&spec));
        let student = r#"{"_id":"s","_source":{"PERSONAL":{"type":"student","BITRIX_USER_ID":"201"},
            "EDUCATION":[{"department":{"short_title":"A"}}]}}"#;
        assert!(people.take(student.as_bytes()));
        let people = Arc::new(RwLock::new(people));
        let (shown, clock) = (Arc::new(Shown::default()), Arc::new(Clock::default()));
        shown.expect_history(0);
        let (of_desk, shown_there) = (Arc::clone(&timetable), Arc::clone(&shown));
        let desk = Desk::new(&spec, of_desk, Arc::clone(&people), shown_there, Arc::clone(&clock));
        let desk = Arc::new(desk);
        let clicks = LineLog::open(&path("events")).unwrap();
        let lines = clicks.counter();
        desk.write_to(clicks, |error| panic!("{error}")).unwrap();
        let changes = Mutex::new(LineLog::open(&path("changes")).unwrap());
        let serving = Serving {
            spec,
            timetable,
            people,
            place: Place::Demo { lines, changes },
            shown: Arc::clone(&shown),
            desk: Arc::clone(&desk),
            clock,
            door,
            limits: Limits::default(),
            begun: Instant::now(),
            started_ms: 0,
        };
        let routes = routes(Arc::new(serving), Router::new());
        Served { _folder: folder, shown, desk, routes }
    }

    /// Asks; returns the status, the headers as text, and the body.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, String, Value) {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.header("content-type", "application/json");
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let answer = self.routes.clone().oneshot(request).await.unwrap();
        let (status, headers) = (answer.status().as_u16(), format!("{:?}", answer.headers()));
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, headers, serde_json::from_slice(&body).unwrap_or_default())
    }
}

fn click(number: u128, mark: u8) -> String {
    let id = uuid::Uuid::from_u128(number);
    json!({
        "ID": id, "JOURNAL_ID": 7, "STUDENT_ID": 201, "LESSON_ID": 42, "ATTENDANCE_MARK": mark,
    })
    .to_string()
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

const TEACHER: (&str, &str) = ("tributary-person", "teacher:100");

#[test]
fn nothing_is_answered_from_a_past_that_is_read_in_part() {
    run(async {
        let served = Served::new(Door::open());
        served.shown.expect_history(4);
        served.shown.read_history(1);
        for path in ["/v1/groups", "/v1/views/latest", "/v1/boards/groups", "/v1/tail"] {
            let (status, headers, body) = served.ask(Method::GET, path, &[], "").await;
            assert_eq!((status, &body["status"]), (503, &json!(503)), "{path}");
            assert!(headers.contains("retry-after"), "{headers}");
            assert_eq!(body["detail"], "Журнал загружается: прочитано 25 %");
        }
        let (status, ..) = served.ask(Method::POST, "/v1/clicks", &[TEACHER], &click(1, 1)).await;
        assert_eq!(status, 503);
        // How far it is can be asked, and the pages come.
        let (status, _, session) = served.ask(Method::GET, "/v1/session", &[], "").await;
        assert_eq!(
            (status, &session["ready"], &session["share"]),
            (200, &json!(false), &json!(0.25))
        );
        for path in ["/v1/status", "/", "/people", "/assets/style.css"] {
            assert_eq!(served.ask(Method::GET, path, &[], "").await.0, 200, "{path}");
        }
        served.shown.go_live();
        assert_eq!(served.ask(Method::GET, "/v1/groups", &[], "").await.0, 200);
        let (status, ..) = served.ask(Method::POST, "/v1/clicks", &[TEACHER], &click(1, 1)).await;
        assert_eq!(status, 201);
        served.desk.close();
    });
}

#[test]
fn who_clicks_too_fast_is_told_so_and_nobody_else_is() {
    run(async {
        let served = Served::new(Door::open());
        let mut statuses = Vec::new();
        for number in 0..2 * u128::from(CLICKS_OF_PERSON_A_SECOND) {
            let body = click(number, (number % 2) as u8);
            let (status, headers, _) =
                served.ask(Method::POST, "/v1/clicks", &[TEACHER], &body).await;
            assert_eq!(status == 429, headers.contains("retry-after"), "{headers}");
            statuses.push(status);
        }
        let accepted = statuses.iter().filter(|status| **status == 201).count();
        assert!(accepted >= CLICKS_OF_PERSON_A_SECOND as usize, "{statuses:?}");
        assert!(statuses.contains(&429), "{statuses:?}");
        // What was too much changed nothing, and others go on.
        assert_eq!(served.desk.tally().accepted as usize, accepted);
        let deanery = [("tributary-person", "deanery:101")];
        let body = click(1_000, 2);
        assert_eq!(served.ask(Method::POST, "/v1/clicks", &deanery, &body).await.0, 201);
        served.desk.close();
    });
}

#[test]
fn bodies_and_senders_that_are_none_are_refused() {
    run(async {
        let served = Served::new(Door::open());
        let long = format!("{{\"ID\":\"{}\"}}", "x".repeat(BODY_BYTES_MAX));
        let (status, headers, _) = served.ask(Method::POST, "/v1/clicks", &[TEACHER], &long).await;
        assert_eq!(status, 413);
        assert!(headers.contains("problem+json") && headers.contains("default-src 'none'"));
        for (headers, body, expected) in [
            (&[TEACHER][..], "{", 400),
            (&[TEACHER], "{\"ID\":1}", 400),
            (&[], &click(1, 1), 401),
            (&[("tributary-person", "rector:1")], &click(1, 1), 400),
            (&[("tributary-person", "deanery:7")], &click(1, 1), 403),
            (&[TEACHER, ("sec-fetch-site", "cross-site")], &click(1, 1), 403),
            (&[TEACHER, ("origin", "https://evil.example")], &click(1, 1), 403),
        ] {
            let (status, ..) = served.ask(Method::POST, "/v1/clicks", headers, body).await;
            assert_eq!(status, expected, "{headers:?} {body}");
        }
        assert_eq!(served.desk.tally().accepted, 0);
        served.desk.close();
    });
}

#[test]
fn everyone_sees_what_is_confirmed_though_no_engine_shows_it() {
    run(async {
        let served = Served::new(Door::open());
        let request = Request::builder().uri("/v1/changes").header("host", "localhost");
        let request = request.body(Body::empty()).unwrap();
        let answer = served.routes.clone().oneshot(request).await.unwrap();
        let mut stream = answer.into_body().into_data_stream();
        let mut heard = String::new();
        let mut until = async |what: &str| {
            while !heard.contains(what) {
                let frame = tokio_stream::StreamExt::next(&mut stream).await.unwrap().unwrap();
                heard += str::from_utf8(&frame).unwrap();
            }
        };
        until("event: hello").await;
        let (status, ..) = served.ask(Method::POST, "/v1/clicks", &[TEACHER], &click(1, 1)).await;
        assert_eq!(status, 201);
        until("event: confirmed").await;
        until(r#""mark":1"#).await;
        let (_, _, grid) = served.ask(Method::GET, "/v1/journals/7", &[], "").await;
        assert_eq!(
            (&grid["cells"][0]["mark"], &grid["cells"][0]["student"]),
            (&json!(1), &json!(201))
        );
        // The boards and views are the engine's alone.
        let (_, _, board) = served.ask(Method::GET, "/v1/boards/groups", &[], "").await;
        assert_eq!(board["total"]["marks"], 0);
        served.desk.close();
    });
}

#[test]
fn doors_let_in_whom_they_are_to() {
    run(async {
        let closed =
            Door { token: Some("secret".to_owned()), without: Visitor::Reader, ..Door::open() };
        let served = Served::new(closed);
        let good = [("authorization", "Bearer secret"), TEACHER];
        assert_eq!(served.ask(Method::POST, "/v1/clicks", &good, &click(1, 1)).await.0, 201);
        for bad in ["Bearer secre", "Bearer secret2", "secret", "Bearer", ""] {
            let bad = [("authorization", bad), TEACHER];
            for path in ["/", "/v1/groups", "/v1/changes", "/v1/openapi.json", "/nothing"] {
                assert_eq!(served.ask(Method::GET, path, &bad, "").await.0, 401, "{path}");
            }
            assert_eq!(served.ask(Method::POST, "/v1/clicks", &bad, &click(2, 0)).await.0, 401);
        }
        served.desk.close();
        // Who only looks changes nothing, whoever he says that he is.
        let served = Served::new(Door { without: Visitor::Reader, ..Door::open() });
        assert_eq!(served.ask(Method::GET, "/v1/groups", &[], "").await.0, 200);
        for (method, path) in [
            (Method::POST, "/v1/clicks"),
            (Method::PATCH, "/v1/people/s"),
            (Method::PUT, "/v1/clock"),
        ] {
            assert_eq!(served.ask(method, path, &[TEACHER], &click(3, 1)).await.0, 403, "{path}");
        }
        served.desk.close();
    });
}
