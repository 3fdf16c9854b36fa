//! Problems: errors as RFC 9457 wants them.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

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
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (status, kind, body + "\n").into_response()
    }
}

/// Why a question is not answered.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "said in the description of the API; answers are `Problem`s")]
pub enum NoAnswer {
    /// What is asked for is not understood.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// Asked by a name of elsewhere, or as somebody who one is not.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// It is not there.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// What is asked for is understood, and none that there can be.
    #[response(status = 422, content_type = "application/problem+json")]
    Unprocessable(Problem),
    /// The past is being read; ask again.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}

/// Why nothing is changed.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "said in the description of the API; answers are `Problem`s")]
pub enum NoChange {
    /// What is asked for is not understood.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(Problem),
    /// Nobody is said to act.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(Problem),
    /// Asked by a page of elsewhere, or as somebody who one is not.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(Problem),
    /// It is not there.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(Problem),
    /// The ID is that of another click.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// What is sent is too long.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(Problem),
    /// What is sent is not said to be JSON.
    #[response(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(Problem),
    /// A rule refuses it; nothing was changed.
    #[response(status = 422, content_type = "application/problem+json")]
    Unprocessable(Problem),
    /// Too much in a second; nothing was changed.
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(Problem),
    /// It did not become durable, as far as one knows; ask again.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(Problem),
}
