//! End to end: the engine as a program against real brokers, with everything that goes wrong.
//!
//! `cargo test --release --test end_to_end` plays a sample. The whole game, with 200,000 events and
//! 40 crashes: `EVENTS=200000 CRASHES=40 cargo test --release --test end_to_end crashes`. A run
//! prints its seed; `SEED=n` draws the same faults again.

mod crashes;
mod docs;
mod game;
mod loss;
mod stack;
