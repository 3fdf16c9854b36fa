//! Feeds: each keeps the reference log equal to what a system of record says.
//!
//! Shape: a system that can be compared as a whole and asked what is new in; records of the
//! reference log out.
//!
//! Invariants: a comparison is the truth, what is new is a hint; nothing is written of a system
//! that is another one than was known, nor more deleted than the guard lets, until the operator
//! gives the word; a system that does not answer changes nothing, and is asked again.
//!
//! Not here: what is other than the log says (`reference::reconcile`), and the systems themselves.
//!
//! In reading order: `follow` (what a feed does), `desk` (where both are held against each other),
//! `files`, `elasticsearch`, `bitrix24`, `onec`.

mod bitrix24;
mod desk;
mod elasticsearch;
mod files;
mod follow;
mod health;
pub(crate) mod http;
mod number;
mod onec;
mod word;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use serde_json::Value;

use crate::{
    kafka::{Kafka, KafkaError},
    reference::log::{Hold, SEPARATOR},
    source::FileError,
    spec::Spec,
};

use follow::Following;

pub use bitrix24::Bitrix24;
pub use desk::{Desk, Fed, Tally};
pub use elasticsearch::Elasticsearch;
pub use files::Files;
pub use health::{Comparison, Health};
pub use onec::OneC;
pub use word::{SILENCE, await_silence, give_word, held, marks};

pub use crate::reference::{log::Mark, reconcile::Guard};

/// The reference log, and one source's part of it.
#[derive(Clone)]
pub struct Log {
    /// The brokers.
    pub kafka: Kafka,
    /// The log's topic.
    pub topic: String,
    /// What the source is called: keys begin with it.
    pub source: String,
}

impl Log {
    /// The key of a document's record; that of the mark where there is no id.
    fn key(&self, id: &str) -> String {
        format!("{}{SEPARATOR}{id}", self.source)
    }

    /// The key of the operator's word.
    fn word_key(&self) -> String {
        format!("{SEPARATOR}{}", self.source)
    }
}

/// A system of record, as a feed reads it.
pub trait System {
    /// A feed begins: what was known is of an earlier one.
    fn begin(&mut self) {}

    /// Which collection it is that stands in its place now. Another value means another
    /// collection: re-created, restored, or under an alias that was switched.
    ///
    /// # Errors
    /// When the system does not say.
    fn identity(&mut self) -> Result<Value, SystemError>;

    /// Whether these are one collection, as far as they say.
    fn is_same(&self, one: &Value, other: &Value) -> bool {
        one == other
    }

    /// What it says of a collection, with what it said before where it does not say that now.
    fn completed(&self, now: Value, _before: &Value) -> Value {
        now
    }

    /// Up to where the collection was taken: all that it says up to there is in the log, but for
    /// what is gone. Nothing where it was not compared yet.
    fn positions(&self) -> Value {
        Value::Null
    }

    /// Goes on from where an earlier feed has come with this collection: looks find what is new
    /// since, also before it is compared.
    fn resume(&mut self, _identity: &Value, _positions: &Value) {}

    /// Says all documents to the desk, and ends the comparison there; or begins to, and goes on
    /// whenever `compare_on` is called, with looks in between.
    ///
    /// # Errors
    /// When it could not be brought to its end; what was said stands all the same.
    fn compare(&mut self, identity: &Value, desk: &mut Desk<'_>) -> Result<(), Trouble>;

    /// Whether a comparison goes on from where it was after it failed.
    fn keeps_its_place(&self) -> bool {
        false
    }

    /// Whether a look tells who has come back; else only a comparison does.
    fn tells_who_comes_back(&self) -> bool {
        true
    }

    /// Goes on with the comparison; returns whether it is at its end.
    ///
    /// # Errors
    /// As `compare`.
    fn compare_on(&mut self, _: &mut Desk<'_>) -> Result<bool, Trouble> {
        Ok(true)
    }

    /// Says to the desk what is new since the last comparison or look; returns whether there may
    /// be more already.
    ///
    /// # Errors
    /// As `compare`.
    fn look(&mut self, desk: &mut Desk<'_>) -> Result<bool, Trouble>;
}

/// Why a look did not come to its end.
#[derive(Debug)]
pub enum Trouble {
    /// The system did not answer as it should.
    System(SystemError),
    /// It is not the collection any more that was asked for.
    Other,
    /// The feed cannot go on.
    Feed(FeedError),
}

/// A system did not answer as it should; it is asked again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {tried}: {said}; {remedy}")]
pub struct SystemError {
    /// What was asked of whom.
    pub tried: String,
    /// What came of it; nothing that a document says.
    pub said: String,
    /// What to do.
    pub remedy: &'static str,
    /// When it wants to be asked again, where it says so.
    pub after: Option<Duration>,
    /// What the feed is to make of it.
    pub kind: Kind,
}

/// What a feed is to make of an answer that is no good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// That is not allowed.
    Forbidden,
    /// That was too much for one question.
    TooMuch,
    /// Whatever else.
    Other,
}

impl SystemError {
    fn new(tried: String, said: String, remedy: &'static str) -> SystemError {
        SystemError { tried, said, remedy, after: None, kind: Kind::Other }
    }
}

impl From<SystemError> for Trouble {
    fn from(error: SystemError) -> Trouble {
        Trouble::System(error)
    }
}

impl From<FeedError> for Trouble {
    fn from(error: FeedError) -> Trouble {
        Trouble::Feed(error)
    }
}

/// Why a feed cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// A file failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The brokers failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A system did not answer, and is not asked again.
    #[error(transparent)]
    System(SystemError),
    /// What it wrote is not there.
    #[error(
        "topic \"{topic}\" does not hold what this feed wrote: it was deleted and made again; \
         start the feed again, which writes all anew"
    )]
    OtherLog {
        /// The topic.
        topic: String,
    },
    /// The operator's word is awaited.
    #[error(
        "source \"{source_name}\" is held: {hold}; look whether that is as it should be, and give \
         --accept-difference to write it"
    )]
    Held {
        /// The source.
        source_name: String,
        /// Why, and what would be written.
        hold: Box<Hold>,
    },
    /// No lookup is about the source.
    #[error(
        "no lookup of the dataflow takes anything from source \"{source_name}\": name it in a \
         lookup's `from`, or take it out of the configuration"
    )]
    Unused {
        /// The source.
        source_name: String,
    },
    /// The log keeps more of the source's documents than the spec takes.
    #[error(
        "the reference log keeps {dropped} of the documents of source \"{source_name}\", which \
         this spec does not take: another dataflow may read it there; give this one a log of its \
         own (`reference` in the configuration), or --accept-difference to drop them"
    )]
    OtherSpec {
        /// The source.
        source_name: String,
        /// Paths of documents.
        dropped: String,
    },
    /// Another feed of this source has begun.
    #[error(
        "another feed of source \"{source_name}\" has begun; this one writes nothing more, and \
         must not be started again beside it"
    )]
    Fenced {
        /// The source.
        source_name: String,
    },
}

/// What a feed is to do.
pub struct Feed {
    /// The dataflow whose lookups say what is kept of a document.
    pub spec: Arc<Spec>,
    /// Where it writes.
    pub log: Log,
    /// Whether it ends once all is compared.
    pub once: bool,
    /// Whether the operator has given the word for whatever the first comparison finds.
    pub accepted: bool,
    /// How often it looks.
    pub between_looks: Duration,
    /// How often it compares all; never again where it is not said.
    pub between_comparisons: Option<Duration>,
    /// How long a document must have been missed before it is deleted.
    pub grace: Duration,
    /// How much may be deleted without a word.
    pub guard: Guard,
}

impl Feed {
    /// Feeds until `end` is set, or all is compared; `told` is called whenever all is compared for
    /// the first time or anew.
    ///
    /// # Errors
    /// When brokers fail, or another feed has begun; of a feed that is to end by itself also when
    /// the system does not answer or the operator's word is needed.
    pub fn run(
        &self,
        system: &mut dyn System,
        end: &AtomicBool,
        health: &Health,
        told: &dyn Fn(Fed),
    ) -> Result<Fed, FeedError> {
        Following::new(self, end, health, told).run(system)
    }
}
