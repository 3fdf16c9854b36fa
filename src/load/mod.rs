//! Loading: from the output topics of a dataflow into ClickHouse.
//!
//! Shape: topics that hold what views say, in; tables of which a plain SELECT through their views
//! is right at any moment, out.
//!
//! Invariants: the engine does not know that anybody loads, nor waits for it: what is not loaded
//! stands in its topics. Rows are written at least once and bear their epoch; the newest of a key
//! counts. Who reads a table's frontier finds every row up to that epoch.
//!
//! In reading order: `server` (what is asked of ClickHouse), `migrations` (the tables), `table`
//! (how rows are written), `view` (loading one), `rebuild` (a table anew beside the one that is
//! read), `readers` (whose views are read).

mod migrations;
mod readers;
mod rebuild;
mod server;
mod table;
mod view;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    config::{ClickHouseConfig, ConfigError},
    kafka::{Kafka, KafkaError},
    progress::{FrontierError, Progressing},
    spec::{Spec, ViewKind},
    time::Epoch,
};

use view::Loading;

pub use migrations::{Drift, MigrationError, Migrations};
pub use readers::{Readers, Resting};
pub use server::{Said, Server, ServerError};
pub use table::{Encoder, NoRecord, TableColumn, Unfit};
pub use view::Loaded;

/// What a table or view is called of a dataflow that runs under a name of its own.
pub fn own_name(object: &str, dataflow: &str) -> String {
    format!("{object}__{dataflow}")
}

/// What the table of a view is called, of a dataflow of a family.
fn table_of(config: &ClickHouseConfig, (family, name): (&str, &str), view: &str) -> String {
    let table = config.table(family, view);
    match family == name {
        true => table,
        false => own_name(&table, name),
    }
}

/// Between looks at the progress of the dataflow.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// What a loader is to do.
pub struct Load {
    /// The dataflow.
    pub spec: Arc<Spec>,
    /// Its brokers.
    pub kafka: Kafka,
    /// The server.
    pub config: ClickHouseConfig,
    /// It ends once everything up to this epoch is loaded, and loads nothing beyond it.
    pub until: Option<Epoch>,
    /// Whether a record that is none of its view is left out; else the frontier stands before it.
    pub leaves_out: bool,
}

/// Why a loader ended.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The brokers failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The dataflow's progress cannot be read.
    #[error(transparent)]
    Frontier(#[from] FrontierError),
    /// The server refused what it does not take tomorrow either.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The configuration is not sound.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A view has no topic.
    #[error("topic \"{topic}\" is not there: `tributary init` makes it")]
    NoTopic {
        /// The topic.
        topic: String,
    },
    /// A view has no table.
    #[error("table \"{table}\" is not in database \"{database}\": `tributary init` makes it")]
    NoTable {
        /// The table.
        table: String,
        /// Where it was looked for.
        database: String,
    },
    /// It is no view whose records stand in a topic.
    #[error("\"{view}\" is no view that is loaded; there are: {known}")]
    NoView {
        /// What was asked for.
        view: String,
        /// Those that there are.
        known: String,
    },
    /// Somebody else exchanged the table meanwhile.
    #[error(
        "table \"{table}\" was exchanged by somebody else meanwhile: is another rebuild of it at \
         work? see that none is, and start again"
    )]
    Exchanged {
        /// The table.
        table: String,
    },
    /// A table is beyond the epoch up to which it was to be loaded.
    #[error(
        "table \"{table}\" holds rows of epoch {found}, beyond {until}: what is loaded is not \
         taken back; load into a table that was made anew, or up to a later epoch"
    )]
    Beyond {
        /// The table.
        table: String,
        /// The newest epoch of its rows.
        found: Epoch,
        /// Up to where it was to be loaded.
        until: Epoch,
    },
    /// Rows that were loaded are not there.
    #[error(
        "table \"{table}\" was loaded, and is empty: what was loaded once is not loaded again; \
         `tributary load --rebuild {view}` loads it anew, and so does making it anew (drop it, \
         then `tributary init`)"
    )]
    Emptied {
        /// The table.
        table: String,
        /// Its view.
        view: String,
    },
    /// The table was loaded from a topic that is another one now.
    #[error(
        "table \"{table}\" was loaded from a topic \"{topic}\" that is not the one of its view, \
         or was deleted since: its rows may say what this one never will; once the engine has \
         caught up (`tributary status`), `tributary load --rebuild {view}` loads it anew"
    )]
    OtherTopic {
        /// The table.
        table: String,
        /// The topic.
        topic: String,
        /// The view.
        view: String,
    },
    /// It was to end before it had done what it was to do.
    #[error("was asked to end before it was done; the next start goes on")]
    Interrupted,
    /// Nobody knows whether the tables are exchanged.
    #[error(
        "whether \"{table}\" was exchanged is not known, and the server has not shown it for \
         {seconds} s: start again, it goes on from what is there"
    )]
    Unexchanged {
        /// The table.
        table: String,
        /// How long it was looked for.
        seconds: u64,
    },
    /// What is to be loaded up to an epoch cannot be loaded whole.
    #[error(
        "record {offset} in partition {partition} of topic \"{topic}\" is none of the view: look \
         who writes there; `tributary load --leave-out` passes it"
    )]
    NoRecord {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset.
        offset: u64,
    },
    /// A table does not take what the view says.
    #[error(
        "table \"{table}\" does not take what its view says: {}",
        unfit.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Unfit {
        /// The table.
        table: String,
        /// What is wrong with it.
        unfit: Vec<Unfit>,
    },
}

impl Load {
    /// The views that are loaded: those whose records stand in a topic.
    pub fn views(spec: &Spec) -> impl Iterator<Item = &str> {
        let is_in_topic = |kind: &ViewKind| !matches!(kind, ViewKind::Counts { .. });
        spec.views.iter().filter(move |view| is_in_topic(&view.kind)).map(|view| &*view.name)
    }

    fn table(&self, view: &str) -> String {
        table_of(&self.config, (&self.spec.family, &self.spec.name), view)
    }

    /// How far each view is, before it has begun.
    pub fn begin(spec: &Spec) -> BTreeMap<String, Loaded> {
        Load::views(spec).map(|view| (view.to_owned(), Loaded::default())).collect()
    }

    /// Loads until it is to end, or everything up to the epoch is loaded. Each view has a thread,
    /// and says in `loaded` how far it is.
    ///
    /// # Errors
    /// With the first that does not pass; the others end then too.
    pub fn run(
        &self,
        end: &AtomicBool,
        loaded: &BTreeMap<String, Loaded>,
    ) -> Result<(), LoadError> {
        let (committed, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let loading = |view| {
            let table = self.table(view);
            self.loading(view, table, &committed, &over, &loaded[view])
        };
        let views: Vec<_> = Load::views(&self.spec).map(loading).collect::<Result<_, _>>()?;
        self.run_views(&views, end, &mut || Ok(()))?;
        let has_all =
            |until| loaded.values().all(|view| view.frontier.load(Ordering::Relaxed) >= until);
        match self.until {
            Some(until) if !has_all(until) => Err(LoadError::Interrupted),
            _ => Ok(()),
        }
    }

    /// Loads one view until it is to end: what fails it fails no other.
    ///
    /// # Errors
    /// With what does not pass.
    pub fn run_view(&self, view: &str, end: &AtomicBool, loaded: &Loaded) -> Result<(), LoadError> {
        let (committed, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let table = self.table(view);
        let loading = self.loading(view, table, &committed, &over, loaded)?;
        self.run_views(&[loading], end, &mut || Ok(()))
    }

    /// The loading of a view into a table.
    fn loading<'l>(
        &'l self,
        view: &str,
        table: String,
        committed: &'l AtomicU64,
        end: &'l AtomicBool,
        loaded: &'l Loaded,
    ) -> Result<Loading<'l>, LoadError> {
        let Load { spec, kafka, config, until, leaves_out } = self;
        Ok(Loading {
            spec,
            kafka,
            server: Server::new(config)?,
            view: view.to_owned(),
            topic: format!("{}_{view}", spec.name),
            table,
            shown_as: self.table(view),
            until: *until,
            leaves_out: *leaves_out,
            committed,
            end,
            loaded,
        })
    }

    /// Runs loadings until they end, and follows meanwhile how far the outputs are; `tick` is
    /// called now and then, and may end them.
    fn run_views(
        &self,
        views: &[Loading<'_>],
        end: &AtomicBool,
        tick: &mut dyn FnMut() -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        let Some(first) = views.first() else { return Ok(()) };
        let (committed, over) = (first.committed, first.end);
        let mut progress = Progressing::new(&self.kafka, &self.spec.name, self.spec.shards)?;
        thread::scope(|scope| {
            let mut running: Vec<_> =
                views.iter().map(|view| scope.spawn(move || view.run())).collect();
            let mut ended = Ok(());
            while !running.is_empty() {
                let taken = progress.take(committed).map_err(LoadError::from);
                let ticked = taken.and_then(|()| tick());
                let (done, left): (Vec<_>, Vec<_>) =
                    running.into_iter().partition(|view| view.is_finished());
                running = left;
                let joined = done.into_iter().map(|view| view.join().expect("a panic ends all"));
                let outcome = joined.fold(ticked, Result::and);
                over.fetch_or(outcome.is_err() || end.load(Ordering::Relaxed), Ordering::Relaxed);
                ended = ended.and(outcome);
                thread::sleep(BETWEEN_LOOKS);
            }
            ended
        })
    }
}
