//! HTTP: whether a process lives, whether it is ready, and its metrics; and listening for it.
//!
//! Shape: requests in; `/livez`, `/readyz`, `/metrics` out.
//!
//! Invariants: where anyone but this machine can ask, a bearer token is asked for, but for
//! `/livez` and `/readyz`, which say nothing of the data; nothing here can stop the engine, and who
//! opens connections and says nothing takes no more than a few.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::sync::Semaphore;

use crate::engine::{Metrics, Replay};

/// A worker that has not gone on for so long is stuck.
pub const STUCK_PATIENCE: Duration = Duration::from_secs(60);

/// Most connections at once, where metrics alone are served; who comes later waits.
const CONNECTIONS_MAX: usize = 64;

/// Most connections at once, where people look: each page holds one as long as it is looked at.
const CONNECTIONS_OF_PEOPLE_MAX: usize = 4_096;

/// Longest that a connection may take to say what it asks, or say nothing.
const HEADER_PATIENCE: Duration = Duration::from_secs(10);

/// What is served.
#[derive(Clone)]
struct Served {
    metrics: Arc<Metrics>,
    token: Option<Arc<str>>,
}

/// It cannot be listened there.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for HTTP at {address}; give an address of this machine that is free")]
pub struct Unheard {
    address: SocketAddr,
    source: io::Error,
}

/// Serves health and metrics on a thread of its own, as long as the process lives; returns where.
///
/// # Errors
/// When nobody can listen there.
pub fn serve(
    address: SocketAddr,
    token: Option<String>,
    metrics: Arc<Metrics>,
) -> Result<SocketAddr, Unheard> {
    let listening = Listening::at(address)?;
    let address = listening.address;
    listening.answer_at_once(health(token, metrics), CONNECTIONS_MAX)?;
    Ok(address)
}

/// A place where people are heard, once they are answered.
pub struct Listening {
    listener: TcpListener,
    /// Where.
    pub address: SocketAddr,
}

impl Listening {
    /// Listens somewhere; who comes waits.
    ///
    /// # Errors
    /// When nobody can listen there.
    pub fn at(address: SocketAddr) -> Result<Listening, Unheard> {
        let unheard = |source| Unheard { address, source };
        let listener = TcpListener::bind(address).map_err(unheard)?;
        listener.set_nonblocking(true).map_err(unheard)?;
        let address = listener.local_addr().map_err(unheard)?;
        Ok(Listening { listener, address })
    }

    /// Answers people, on a thread of its own, as long as the process lives.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn answer(self, routes: Router) -> Result<(), Unheard> {
        self.answer_at_once(routes, CONNECTIONS_OF_PEOPLE_MAX)
    }

    fn answer_at_once(self, routes: Router, most: usize) -> Result<(), Unheard> {
        let Listening { listener, address } = self;
        let unheard = |source| Unheard { address, source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(unheard)?;
        let run = move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                answer(listener, routes, most).await
            })
        };
        let named = thread::Builder::new().name("http".to_owned());
        // A listener that fails later is missed by who asks; the engine goes on.
        named.spawn(move || drop(run())).map_err(unheard)?;
        Ok(())
    }
}

/// Health and metrics of an engine.
pub fn health<S: Clone + Send + Sync + 'static>(
    token: Option<String>,
    metrics: Arc<Metrics>,
) -> Router<S> {
    let served = Served { metrics, token: token.map(Arc::from) };
    Router::new()
        .route("/metrics", get(metrics_text))
        .layer(middleware::from_fn_with_state(served.clone(), let_in))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(served)
}

/// Answers whoever comes, so many at once.
async fn answer(listener: tokio::net::TcpListener, routes: Router, most: usize) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(most));
    loop {
        let place = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
        let Ok((stream, _)) = listener.accept().await else {
            // Of this one connection, or since the process has too many files open.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Small answers follow each other: none is to wait for the one before to be taken.
        let _ = stream.set_nodelay(true);
        let routes = TowerToHyperService::new(routes.clone());
        tokio::spawn(async move {
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE);
            // Who went away in between misses nothing.
            let _ = server.serve_connection(TokioIo::new(stream), routes).await;
            drop(place);
        });
    }
}

async fn live(State(served): State<Served>) -> Response {
    match served.metrics.stuck(STUCK_PATIENCE) {
        None => "live\n".into_response(),
        Some((worker, since)) => {
            let what = format!("worker {worker} has not gone on for {} s", since.as_secs());
            problem(StatusCode::SERVICE_UNAVAILABLE, "stuck", &what)
        }
    }
}

async fn ready(State(served): State<Served>) -> Response {
    if served.metrics.is_ready() {
        return "ready\n".into_response();
    }
    let what = match served.metrics.replay() {
        Some(replay) => {
            let Replay { share, a_second, left } = replay;
            format!(
                "starts, and reads again what an earlier run held: {:.0} % so far, {a_second:.0} \
                 offsets a second, {left} left, which take {:.0} s",
                share * 100.0,
                replay.time_left().as_secs_f64()
            )
        }
        None => "starts: nothing is read yet".to_owned(),
    };
    problem(StatusCode::SERVICE_UNAVAILABLE, "not ready", &what)
}

async fn metrics_text(State(served): State<Served>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], served.metrics.text()).into_response()
}

/// Lets in who shows the token, where there is one.
async fn let_in(
    State(served): State<Served>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    match &served.token {
        Some(token) if !is_same(token, shown) => {
            let what = "show the token of --http-token: Authorization: Bearer ...";
            problem(StatusCode::UNAUTHORIZED, "no token, or another one", what)
        }
        _ => next.run(request).await,
    }
}

/// Compares without telling by its time how much is right.
pub fn is_same(token: &str, shown: &str) -> bool {
    let differ = token.bytes().zip(shown.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    token.len() == shown.len() && differ == 0
}

/// An error as RFC 9457 wants it.
pub fn problem(status: StatusCode, title: &str, detail: &str) -> Response {
    let body = serde_json::json!({ "status": status.as_u16(), "title": title, "detail": detail });
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, format!("{body}\n")).into_response()
}
