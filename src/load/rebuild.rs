//! Rebuilding: a table is loaded anew beside the one that is read, and takes its place.
//!
//! Shape: the view's topic, which holds all that counts, in; a fresh table under the name that is
//! read out.
//!
//! Invariants: the fresh table takes the place of the other only once it holds all that the
//! frontier of that one says; from the last look at that frontier until then nobody moves it, for
//! who moves it lets the server look first whether the table is to be exchanged. A rebuild that
//! dies is begun again where it was: its table bears the UUID of the one that it is to replace.

use std::{
    mem::replace,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use serde::Deserialize;
use tracing::{info, warn};

use super::{
    Load, LoadError, Loaded,
    server::{Server, ServerError, named, quoted},
    view::{EXCHANGES, FRONTIER_SECONDS_MAX, FRONTIERS},
};

/// How long nobody moves the frontier of the table that is to be exchanged, in s.
const NOTICE_SECONDS: u64 = 60;

/// Between looks how far the fresh table is.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// How far a rebuild is.
enum Stage {
    /// The fresh table is loaded.
    Loading,
    /// It was told at that moment that the table is to be exchanged.
    Told(Instant),
    Done,
}

/// A rebuild on its way.
struct Rebuild<'r> {
    server: Server,
    /// What is read, and its UUID.
    table: String,
    uuid: String,
    /// What is to take its place.
    fresh: String,
    fresh_uuid: String,
    loaded: &'r Loaded,
    stage: Stage,
    looked: Option<Instant>,
    /// Whether the server failed when it was asked last.
    fails: bool,
}

impl Load {
    /// Loads the table of a view anew, and has it take the place of the one that is read. Others
    /// may load meanwhile.
    ///
    /// # Errors
    /// When it does not come to its end; the table that is read stands then, and the next rebuild
    /// goes on.
    pub fn rebuild(&self, view: &str, end: &AtomicBool, loaded: &Loaded) -> Result<(), LoadError> {
        if !Load::views(&self.spec).any(|known| known == view) {
            let known = Load::views(&self.spec).collect::<Vec<_>>().join(", ");
            return Err(LoadError::NoView { view: view.to_owned(), known });
        }
        let (committed, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let table = self.config.table(&self.spec.name, view);
        let mut rebuild = Rebuild::begin(Server::new(&self.config)?, table, loaded)?;
        let loading = self.loading(view, rebuild.fresh.clone(), &committed, &over, loaded)?;
        self.run_views(&[loading], end, &mut || {
            rebuild.go_on()?;
            if matches!(rebuild.stage, Stage::Done) {
                over.store(true, Ordering::Relaxed);
            }
            Ok(())
        })?;
        match rebuild.stage {
            // What was read before goes once nobody loads it any more.
            Stage::Done => Ok(rebuild.drop_table(&rebuild.fresh)?),
            Stage::Loading | Stage::Told(_) => Ok(()),
        }
    }
}

impl<'r> Rebuild<'r> {
    /// Makes the fresh table, or finds the one of a rebuild that died.
    fn begin(server: Server, table: String, loaded: &'r Loaded) -> Result<Rebuild<'r>, LoadError> {
        let uuid = server.uuid(&table)?;
        if uuid.is_empty() {
            return Err(LoadError::NoTable { table, database: server.database.clone() });
        }
        let fresh = format!("{table}_rebuild_{}", &uuid[..8]);
        let (looked, stage, fresh_uuid) = (None, Stage::Loading, String::new());
        let fails = false;
        let mut rebuild =
            Rebuild { server, table, uuid, fresh, fresh_uuid, loaded, stage, looked, fails };
        for left in rebuild.left_behind()? {
            rebuild.drop_table(&left)?;
        }
        let statement = format!(
            "CREATE TABLE IF NOT EXISTS {} AS {}",
            named(&rebuild.fresh),
            named(&rebuild.table)
        );
        rebuild.server.execute(&format!("make {}", rebuild.fresh), &statement)?;
        rebuild.fresh_uuid = rebuild.server.uuid(&rebuild.fresh)?;
        Ok(rebuild)
    }

    /// Tables of rebuilds that are over: they replaced another one.
    fn left_behind(&self) -> Result<Vec<String>, ServerError> {
        #[derive(Deserialize)]
        struct Found {
            name: String,
        }
        let question = format!(
            "SELECT name FROM system.tables WHERE database = {} AND startsWith(name, {}) AND name \
             != {}",
            quoted(&self.server.database),
            quoted(&format!("{}_rebuild_", self.table)),
            quoted(&self.fresh)
        );
        let found: Vec<Found> = self.server.rows("look what rebuilds have left", &question)?;
        Ok(found.into_iter().map(|found| found.name).collect())
    }

    fn drop_table(&self, table: &str) -> Result<(), ServerError> {
        self.server.execute(&format!("drop {table}"), &format!("DROP TABLE {} SYNC", named(table)))
    }

    /// The frontier of the table that is read; 0 where it has none.
    fn published(&self) -> Result<u64, ServerError> {
        #[derive(Deserialize)]
        struct Epoch {
            epoch: u64,
        }
        let question = format!(
            "SELECT max(epoch) AS epoch FROM {FRONTIERS} WHERE table_uuid = {}",
            quoted(&self.uuid)
        );
        let found: Vec<Epoch> =
            self.server.rows(&format!("ask for the frontier of {}", self.table), &question)?;
        Ok(found.first().map_or(0, |found| found.epoch))
    }

    /// Whether the fresh table holds all that the frontier of the other says.
    fn has_passed(&self) -> Result<bool, ServerError> {
        let frontier = self.loaded.frontier.load(Ordering::Relaxed);
        Ok(frontier > 0 && frontier >= self.published()?)
    }

    fn go_on(&mut self) -> Result<(), LoadError> {
        if self.looked.is_some_and(|looked| looked.elapsed() < BETWEEN_LOOKS) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        match self.step() {
            // A server that is away comes back, and what was done shows then.
            Err(LoadError::Server(error)) if error.said.may_pass() => {
                if !replace(&mut self.fails, true) {
                    warn!("the rebuild waits: {error}");
                }
                Ok(())
            }
            done => {
                self.fails = false;
                done
            }
        }
    }

    fn step(&mut self) -> Result<(), LoadError> {
        match self.stage {
            Stage::Loading if self.has_passed()? => {
                let statement = format!(
                    "INSERT INTO {EXCHANGES} (table_uuid, until) SELECT {}, now64(3) + INTERVAL \
                     {NOTICE_SECONDS} SECOND",
                    quoted(&self.uuid)
                );
                let tried = format!("say that {} is to be exchanged", self.table);
                let told = Instant::now();
                self.server.execute(&tried, &statement)?;
                failpoint!("rebuild-told");
                self.stage = Stage::Told(told);
            }
            Stage::Told(told) if told.elapsed().as_secs() >= NOTICE_SECONDS / 2 => {
                // It came no further in time: the frontier is let go again, and it tries once more.
                self.stage = Stage::Loading;
            }
            // Whoever looked before it was told has moved the frontier by now, or never will.
            Stage::Told(told)
                if told.elapsed().as_secs() > FRONTIER_SECONDS_MAX && self.has_passed()? =>
            {
                self.exchange()?;
                self.stage = Stage::Done;
            }
            Stage::Loading | Stage::Told(_) | Stage::Done => {}
        }
        Ok(())
    }

    fn exchange(&self) -> Result<(), LoadError> {
        let uuids = (self.server.uuid(&self.table)?, self.server.uuid(&self.fresh)?);
        if uuids.0 == self.fresh_uuid {
            return Ok(());
        }
        if uuids != (self.uuid.clone(), self.fresh_uuid.clone()) {
            return Err(LoadError::Exchanged { table: self.table.clone() });
        }
        let statement =
            format!("EXCHANGE TABLES {} AND {}", named(&self.table), named(&self.fresh));
        self.server.execute(&format!("exchange {}", self.table), &statement)?;
        failpoint!("rebuild-exchanged");
        info!(table = self.table, "was exchanged for the one that was loaded anew");
        Ok(())
    }
}
