//! The journal: in which lessons are marked, by rules, over what is maintained.
//!
//! Shape: clicks in; events that are durable, and views that people look at, out.
//!
//! Invariants: see each part. This knows the domain, as `generate` does; the engine does not.
//!
//! In reading order: `lessons` and `people` (who is where), `rules` (who may set what), `marks`
//! with `versions` (what counts), `boards` (how it adds up), `shown` (what of it is
//! looked at, and the sink that fills it), `desk` and `log` (clicks, judged and written), `clock`,
//! `university` (the folder of a demonstration); before a cluster `follow` (in place of the sink)
//! and `events` (in place of the log).

pub mod boards;
pub mod clock;
pub mod desk;
pub mod events;
pub mod follow;
pub mod lessons;
pub mod log;
pub mod marks;
pub mod people;
pub mod rules;
pub mod shown;
pub mod university;
pub mod versions;

pub use clock::Clock;
pub use desk::Desk;
pub use lessons::{Journals, Timetable};
pub use people::People;
pub use shown::{Shown, ShownSink};
