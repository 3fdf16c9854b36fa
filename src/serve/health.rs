//! Health of a journal before a cluster: whether it lives, whether it is ready, and its metrics.
//!
//! Shape: requests in; `/livez`, `/readyz` and `/metrics` out, as an engine's (`http`).
//!
//! Invariants: the first two say nothing of the data; metrics are read where they are kept, when
//! they are asked for; each stands in docs/metrics.md.

use std::sync::{Arc, atomic::AtomicU64};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::ConstCounter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::Serving;
use crate::{
    http::{STUCK_PATIENCE, problem},
    journal::follow::Follow,
    process::resident_bytes,
};

/// What is asked of.
#[derive(Clone)]
struct Of {
    serving: Arc<Serving>,
    follow: Arc<Follow>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

/// The routes that everyone may ask for, and those of who is let in.
pub fn routes(serving: Arc<Serving>, follow: Arc<Follow>) -> (Router, Router<Arc<Serving>>) {
    let of = Of { serving, follow };
    let open = Router::new().route("/livez", get(live)).route("/readyz", get(ready));
    let closed = Router::new().route("/metrics", get(metrics));
    (open.with_state(of.clone()), closed.with_state(of))
}

async fn live(State(of): State<Of>) -> Response {
    let unseen = of.follow.unseen();
    if unseen < STUCK_PATIENCE {
        return "live\n".into_response();
    }
    let what = format!("the topics are not followed for {} s", unseen.as_secs());
    problem(StatusCode::SERVICE_UNAVAILABLE, "stuck", &what)
}

async fn ready(State(of): State<Of>) -> Response {
    let shown = &of.serving.shown;
    if shown.is_live() {
        return "ready\n".into_response();
    }
    let share = (shown.share() * 100.0) as u32;
    let what = format!("reads the topics, {share} %, and waits until all clicks are visible");
    problem(StatusCode::SERVICE_UNAVAILABLE, "not ready", &what)
}

async fn metrics(State(of): State<Of>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text_of(&of.serving)).into_response()
}

fn text_of(serving: &Serving) -> String {
    let mut registry = Registry::with_prefix("tributary_journal");
    let tally = serving.desk.tally();
    let clicks = Family::<ByOutcome, Gauge<u64, AtomicU64>>::default();
    for (outcome, count) in
        [("confirmed", tally.accepted), ("refused", tally.refused), ("unwritten", tally.failed)]
    {
        clicks.get_or_create(&ByOutcome { outcome }).set(count);
    }
    registry.register("clicks", "Clicks since the start, by what became of them", clicks);
    let standing = serving.shown.standing();
    let (marks, events, epoch) = (standing.marks.len(), standing.events.len(), standing.epoch);
    drop(standing);
    let people = serving.people().documents();
    let gauges: [(&str, &str, u64); 8] = [
        ("ready", "Whether clicks are taken", serving.shown.is_live().into()),
        ("marks", "Marks that count", marks as u64),
        ("events", "Events that are visible", events as u64),
        ("people", "Documents of people", people as u64),
        ("lessons", "Journals that the file of lessons has", serving.journals().len() as u64),
        ("shown_epoch", "The epoch up to which everything is shown", epoch),
        ("pages", "Pages that hear of what happens", serving.shown.watchers() as u64),
        ("resident_bytes", "Memory that this process holds", resident_bytes()),
    ];
    for (name, help, value) in gauges {
        let gauge = Gauge::<u64, AtomicU64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
    let uptime = ConstCounter::new(serving.begun.elapsed().as_secs());
    registry.register("uptime_seconds", "Since when the process runs", uptime);
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("writing to memory");
    out
}
