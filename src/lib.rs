//! Tributary: streaming enrichment that corrects history.
//!
//! **The model on one page.** An *event* is one input message, say a click in a journal. A
//! *document* is what a system of record says of a person; it changes. A *lookup* says how events
//! find their document. An *enriched record* is an event with the documents it names; one exists
//! for every event, matched or not. A *view* shows records, or of those with one key the latest, or
//! counts of them.
//!
//! Events, documents and views are *collections*: multisets that change with *epochs*. A change is
//! an *update*: a datum, an epoch, and a *diff* of +1 or -1. When a document changes, the updates
//! of that epoch retract each record that it touches and insert the corrected one; views follow.
//! Epochs order the work and never enter a result: what stands in a view at the end is a function
//! of the inputs alone, however they were cut into epochs, on any number of workers.
//!
//! An epoch is *sealed* when the dataflow's *frontier* has passed it; then, and only then, its
//! updates go to the sinks, all together.
//!
//! The flow goes one way: `source`, `reference` → `dataflow` → `sink`. In reading order:
//!
//! - [`time`], [`row`]: what things are made of: epochs, days, packed rows, keys, JSON;
//! - [`spec`]: a dataflow described as data, checked and resolved into plain values;
//! - [`source`]: events, from bytes to rows, or to dead letters;
//! - [`reference`](mod@reference): documents, and what they claim;
//! - [`kafka`], [`config`]: brokers, and where they are;
//! - [`progress`]: what of it all is durable, and what a start makes of that;
//! - [`archive`]: the inputs, kept beyond what their topics hold;
//! - [`dataflow`]: from events and claims to views; pure;
//! - [`sink`]: from views to the outside world;
//! - [`feed`]: what keeps the reference log equal to what systems of record say;
//! - [`load`]: from what views say in topics to tables that analysts read;
//! - [`engine`]: the loop that reads, stamps, steps and hands on;
//! - [`http`], [`process`]: whether it lives, its metrics, its memory;
//! - [`journal`], [`serve`]: an attendance journal over it all, and its pages;
//! - [`cli`]: the program; [`generate`]: a university and its clicks, to try all this on.

/// A place at which tests have the process die (feature `failpoints`; the environment variable
/// `FAILPOINTS` says where: `commit-before=3*off->panic`). Nothing where the feature is off.
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($name);
    };
    ($name:literal, $returns:expr) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($name, $returns);
    };
}

pub mod archive;
pub mod cli;
pub mod config;
pub mod dataflow;
pub mod engine;
pub mod feed;
pub mod generate;
pub mod history;
pub mod http;
pub mod journal;
pub mod kafka;
pub mod load;
pub mod process;
pub mod progress;
pub mod reference;
pub mod row;
pub mod serve;
pub mod sink;
pub mod source;
pub mod spec;
pub mod time;
