//! Problems: errors as RFC 9457 wants them.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

/// What kind of answer it is.
pub const PROBLEM: &str = "application/problem+json";

/// Why a request is not answered, `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What kind of problem it is, in few words.
    pub title: String,
    /// What was tried, and what to do.
    pub detail: String,
    /// Of a click that a rule refuses: which rule, 1 to 6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<u8>,
}

impl Problem {
    /// A problem of a status; its title is the status's.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        let title = status.canonical_reason().unwrap_or("problem").to_owned();
        Problem { status: status.as_u16(), title, detail: detail.into(), rule: None }
    }

    /// What is asked for is not understood.
    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// What is asked for is not there.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let body = serde_json::to_string(&self).expect("a problem is plain data");
        let kind = [(header::CONTENT_TYPE, PROBLEM)];
        (status, kind, body + "\n").into_response()
    }
}
