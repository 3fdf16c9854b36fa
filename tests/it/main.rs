//! All integration tests, one binary: each module is a theme.

// A test that cannot go on fails, and says where.
#![allow(clippy::unwrap_used)]

mod agreement;
mod both;
mod bounds;
mod cluster;
mod command_line;
mod dataflow;
mod follow;
mod fuzzed;
mod horizon;
mod oracle;
mod orders;
mod spec;
mod support;
mod tidy;
