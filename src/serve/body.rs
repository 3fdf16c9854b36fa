//! What is sent: JSON bodies, queries and paths, refused with a problem where they are not
//! understood.

use axum::{
    extract::{
        FromRequest, FromRequestParts, Request,
        rejection::{JsonRejection, PathRejection},
    },
    http::{StatusCode, request::Parts},
};
use axum_extra::extract::QueryRejection;
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::ToSchema;

use super::problem::Problem;
use crate::time::Day;

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, Problem> {
        let body = axum::Json::from_request(request, state).await;
        let body = body.map_err(|error: JsonRejection| {
            let status = match error.status() {
                StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
                status => status,
            };
            Problem::new(status, format!("Запрос не понят: {}", error.body_text()))
        })?;
        Ok(Body(body.0))
    }
}

/// What stands behind the question mark.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query<T>, Problem> {
        let query = axum_extra::extract::Query::from_request_parts(parts, state).await;
        let query = query.map_err(|error: QueryRejection| {
            Problem::bad_request(format!("Запрос не понят: {error}"))
        });
        Ok(Query(query?.0))
    }
}

/// What stands in the path.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path<T>, Problem> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        // Nothing is there under such a name.
        let path = path.map_err(|error: PathRejection| Problem::not_found(error.body_text()));
        Ok(Path(path?.0))
    }
}

/// A text that says something.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(pattern = r"[\s\S]")]
pub(super) struct Text(pub(super) String);

impl TryFrom<String> for Text {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Text, &'static str> {
        if text.is_empty() { Err("a text may not be empty") } else { Ok(Text(text)) }
    }
}

/// A day, as it is written.
pub(super) fn day(name: &str, text: Option<&str>) -> Result<Option<Day>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let day = Day::parse(text.as_bytes());
    day.map(Some).ok_or_else(|| {
        let detail = format!("{name} is a day, YYYY-MM-DD");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    })
}

/// The path is right, the method is not.
pub(super) async fn no_such_method() -> Problem {
    let detail = "there is something here, but not for this method; see /v1/openapi.json";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}
