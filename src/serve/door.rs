//! The door: who is let in, and what they may look at.
//!
//! Shape: a request's headers in; a visitor, whom handlers find in its extensions, or a problem,
//! out.
//!
//! Invariants: where a login is asked for, nothing is answered to who shows none; a person acts in
//! no other name, a program (which has the token) and, where everyone may act as anyone, a visitor
//! in the name that they say. Students see journals of theirs alone, and no boards; how the system
//! does, and lines that are no events, is for operators.
//!
//! Not here: which mark one may set (`journal::rules`).

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{Served, login::Login, problem::Problem};
use crate::{http::is_same, journal::rules::Person};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visitor {
    /// Anyone, where everyone may act as anyone.
    Anyone,
    /// Somebody on this machine who only looks.
    Reader,
    /// A program that has the token, and says in whose name it acts.
    Program,
    /// Somebody who has logged in.
    Person(Person),
    /// Somebody who looks after the system, and marks nobody.
    Operator,
}

/// How one is let in.
pub struct Door {
    /// Names by which one asks, beside those of this machine.
    pub hosts: Vec<String>,
    /// The token of programs.
    pub token: Option<String>,
    /// People.
    pub login: Option<Arc<Login>>,
    /// Who comes without any of it, where nothing of it is asked for.
    pub without: Visitor,
}

/// Parts of the pages.
const SECTIONS: [&str; 6] = ["journal", "groups", "teachers", "tail", "people", "operations"];

impl Door {
    /// One that lets everyone act as anyone.
    pub fn open() -> Door {
        Door { hosts: Vec::new(), token: None, login: None, without: Visitor::Anyone }
    }

    /// Whether a program asks, which no page of elsewhere can have a browser do.
    pub fn is_program(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|value| value.strip_prefix("Bearer "));
        self.token.as_ref().zip(shown).is_some_and(|(token, shown)| is_same(token, shown))
    }

    /// Who asks.
    async fn visitor(&self, headers: &HeaderMap) -> Result<Visitor, Problem> {
        let unauthorized = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, detail);
        if self.is_program(headers) {
            return Ok(Visitor::Program);
        }
        let Some(login) = &self.login else {
            return match &self.token {
                None => Ok(self.without),
                Some(_) => Err(unauthorized("show the token: Authorization: Bearer ...")),
            };
        };
        let detail = "Вход не выполнен: откройте журнал через страницу входа университета";
        let value = headers.get(login.header()).and_then(|value| value.to_str().ok());
        let value = value.ok_or_else(|| unauthorized(detail))?.to_owned();
        let login = Arc::clone(login);
        // It may have to fetch keys.
        let known = tokio::task::spawn_blocking(move || {
            login.refresh();
            login.visitor(&value)
        });
        let known = known.await.unwrap_or_else(|error| Err(error.to_string()));
        known.map_err(|what| {
            tracing::debug!(what, "a login is refused");
            unauthorized(&format!("Вход не принят: {what}"))
        })
    }

    /// Whether everyone may act as anyone.
    pub fn is_open(&self) -> bool {
        self.login.is_none() && self.token.is_none() && self.without == Visitor::Anyone
    }
}

impl Visitor {
    /// The parts of the pages that they may look at.
    pub fn sections(self) -> &'static [&'static str] {
        match self {
            Visitor::Person(Person::Student(_)) => &SECTIONS[..1],
            Visitor::Person(_) => &SECTIONS[..5],
            _ => &SECTIONS,
        }
    }

    /// The student who looks, where it is one.
    pub fn student(self) -> Option<u32> {
        match self {
            Visitor::Person(Person::Student(number)) => Some(number),
            _ => None,
        }
    }

    fn may(self, method: &Method, path: &str) -> bool {
        let (first, rest) = match path.strip_prefix("/v1/") {
            Some(of_api) => of_api.split_once('/').unwrap_or((of_api, "")),
            None => match path {
                "/boards/groups" => ("boards", "groups"),
                "/boards/teachers" => ("boards", "teachers"),
                "/tail" | "/people" | "/operations" | "/metrics" => (&path[1..], ""),
                _ => ("session", ""),
            },
        };
        let section = match first {
            "session" | "groups" | "journals" | "clicks" | "events" | "changes"
            | "openapi.json" => "journal",
            "boards" if rest == "teachers" => "teachers",
            "boards" | "views" => "groups",
            "tail" | "people" => first,
            _ => "operations",
        };
        let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let only_looks = matches!(self, Visitor::Reader | Visitor::Operator);
        self.sections().contains(&section) && !(changes && only_looks)
    }
}

/// Lets a request on with its visitor, or says why not.
pub async fn let_in(State(serving): Served, mut request: Request, next: Next) -> Response {
    let visitor = match serving.door.visitor(request.headers()).await {
        Ok(visitor) => visitor,
        Err(problem) => {
            return ([(header::WWW_AUTHENTICATE, "Bearer")], problem).into_response();
        }
    };
    if !visitor.may(request.method(), request.uri().path()) {
        return Problem::new(StatusCode::FORBIDDEN, "Нет доступа к этому разделу").into_response();
    }
    request.extensions_mut().insert(visitor);
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sees_what_is_theirs() {
        let student = Visitor::Person(Person::Student(1));
        let teacher = Visitor::Person(Person::Teacher(Some(1)));
        let get = |visitor: Visitor, path| visitor.may(&Method::GET, path);
        for path in ["/", "/v1/journals/7", "/v1/session", "/v1/changes", "/assets/style.css"] {
            assert!([student, teacher, Visitor::Operator].iter().all(|v| get(*v, path)), "{path}");
        }
        for path in ["/v1/boards/groups", "/v1/views/latest", "/v1/people/x", "/v1/tail", "/tail"] {
            assert!(!get(student, path), "{path}");
            assert!(get(teacher, path) && get(Visitor::Operator, path), "{path}");
        }
        for path in ["/v1/status", "/v1/dead-letters", "/operations"] {
            assert!(!get(student, path) && !get(teacher, path), "{path}");
            assert!(get(Visitor::Operator, path) && get(Visitor::Reader, path), "{path}");
        }
        for looker in [Visitor::Reader, Visitor::Operator] {
            assert!(!looker.may(&Method::POST, "/v1/clicks"));
        }
        for actor in [student, teacher, Visitor::Program, Visitor::Anyone] {
            assert!(actor.may(&Method::POST, "/v1/clicks"));
        }
    }
}
