//! The guard: which requests are heard at all, and what each answer says of itself.
//!
//! Shape: requests in; those that our own pages may make go on.
//!
//! Invariants: a request that changes something comes from a page of ours or from no page at all
//! (`Sec-Fetch-Site`, `Origin`), and its body says that it is JSON (`body`), which no foreign form
//! can; who asks by another name than this machine's own, or one that it was given, is refused, so
//! that a foreign name that points here reads nothing; a program that shows the token is none of a
//! page's doing; every answer forbids the browser to load or
//! run anything of elsewhere.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{Served, problem::Problem};

/// What pages may load and run: their own, nothing else, and nothing written into them.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// Lets a request on, or refuses it.
pub async fn guard(State(serving): Served, request: Request, next: Next) -> Response {
    let hosts = &serving.door.hosts;
    let refused = match serving.door.is_program(request.headers()) {
        true => None,
        false => refuses(request.method(), request.uri(), request.headers(), hosts),
    };
    let mut answer = match refused {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    };
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What people look at is never yesterday's.
    let is_told = headers.contains_key(header::CACHE_CONTROL);
    if !is_told {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    answer
}

fn refuses(method: &Method, uri: &Uri, headers: &HeaderMap, hosts: &[String]) -> Option<Problem> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let forbidden = |detail: &str| Some(Problem::new(StatusCode::FORBIDDEN, detail));
    let host = text(header::HOST).or_else(|| uri.authority().map(|authority| authority.as_str()));
    let Some(host) = host else { return forbidden("say Host") };
    if !is_own(host, hosts) {
        let detail = "ask by an address of this machine, 127.0.0.1 or localhost, or a name of \
                      serve.hosts";
        return forbidden(detail);
    }
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return None;
    }
    let site = text(HeaderName::from_static("sec-fetch-site"));
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return forbidden("another site's page may not change anything here");
    }
    let origin = text(header::ORIGIN);
    if origin.is_some_and(|origin| origin.split_once("://").is_none_or(|(_, at)| at != host)) {
        return forbidden("another site's page may not change anything here");
    }
    None
}

/// Whether a host, with its port, names this machine as it names itself, or is one of these.
fn is_own(host: &str, hosts: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let address = name.parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback())
        || hosts.iter().any(|host| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(method: Method, pairs: &[(&'static str, &str)]) -> Option<u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let hosts = ["journal.example".to_owned()];
        refuses(&method, &Uri::from_static("/"), &headers, &hosts).map(|problem| problem.status)
    }

    #[test]
    fn only_own_pages_and_programs_may_change_anything() {
        let own = ("host", "127.0.0.1:8080");
        assert_eq!(asks(Method::POST, &[own]), None);
        assert_eq!(asks(Method::POST, &[own, ("sec-fetch-site", "same-origin")]), None);
        assert_eq!(asks(Method::POST, &[own, ("origin", "http://127.0.0.1:8080")]), None);
        for foreign in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "http://127.0.0.1:8081"),
            ("origin", "null"),
        ] {
            assert_eq!(asks(Method::POST, &[own, foreign]), Some(403), "{foreign:?}");
        }
    }

    #[test]
    fn names_of_elsewhere_read_nothing() {
        for own in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1",
            "127.8.8.8:1",
            "[::1]:8080",
            "Journal.example",
        ] {
            assert_eq!(asks(Method::GET, &[("host", own)]), None, "{own}");
        }
        for foreign in [
            "evil.example",
            "x.journal.example",
            "localhost.evil.example:80",
            "10.0.0.1",
            "[::2]:1",
            "",
        ] {
            assert_eq!(asks(Method::GET, &[("host", foreign)]), Some(403), "{foreign}");
        }
        assert_eq!(asks(Method::GET, &[]), Some(403));
    }
}
