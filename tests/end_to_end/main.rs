//! End to end: the engine as a program against real brokers, with everything that goes wrong.
//!
//! `cargo test --release --test end_to_end` plays a sample; with `--features failpoints` processes
//! also die at each named step. The whole game:
//! `EVENTS=200000 CRASHES=44 cargo test --release --features failpoints --test end_to_end crashes`.
//! A run prints its seed; `SEED=n` draws the same faults again; `FAULTS=Kill,commit` plays those
//! alone whose names hold one of these.

mod archive;
mod away;
mod backfill;
mod bases;
mod boards;
mod clickhouse;
mod compaction;
mod crashes;
mod docs;
mod doubt;
mod elasticsearch;
mod feeds;
mod front;
mod game;
mod gateway;
mod halts;
mod history;
mod horizon;
mod indices;
mod journal;
mod judge;
mod kafka_engine;
mod leaders;
mod letters;
mod loss;
mod oauth;
mod outage;
mod portals;
mod proxy;
mod refusals;
mod relay;
mod secure;
mod sizes;
mod small;
mod soak;
mod stack;
mod starts;
mod state;
mod supervise;
mod tip;
mod topics;
mod university;
mod why;
