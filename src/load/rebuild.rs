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
    thread,
    time::{Duration, Instant, UNIX_EPOCH},
};

use serde::Deserialize;
use tracing::{info, warn};

use super::{
    Load, LoadError, Loaded,
    server::{Server, ServerError, named, quoted},
    view::{EXCHANGES, FRONTIER_SECONDS_MAX, LOADED},
};

/// How long nobody moves the frontier of the table that is to be exchanged, in s.
const NOTICE_SECONDS: u64 = 60;

/// Between looks how far the fresh table is.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// Between tries of a server that is to be asked before there is anything to load.
const BETWEEN_TRIES: Duration = Duration::from_secs(2);

/// Between words what a rebuild waits for.
const BETWEEN_WORDS: Duration = Duration::from_secs(60);

/// How far a rebuild is.
enum Stage {
    /// The fresh table is loaded.
    Loading,
    /// It was told that the table is to be exchanged: when that was begun to be said, and when it
    /// was known to be.
    Told {
        from: Instant,
        known: Instant,
    },
    /// It is not known whether they were exchanged; asked at that moment.
    Exchanging(Instant),
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
    /// When it said last what it waits for.
    spoke: Instant,
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
        let table = self.table(view);
        let topic = format!("{}_{view}", self.spec.name);
        let identity = self.kafka.asker()?.identities(std::slice::from_ref(&topic))?;
        let Some((_, topic_id, _)) = identity.into_iter().next() else {
            return Err(LoadError::NoTopic { topic });
        };
        let begin = || Rebuild::begin(Server::new(&self.config)?, &table, &topic_id, loaded);
        let Some(mut rebuild) = patiently(end, begin)? else { return Err(LoadError::Interrupted) };
        let loading = self.loading(view, rebuild.fresh.clone(), &committed, &over, loaded)?;
        self.run_views(&[loading], end, &mut || {
            rebuild.go_on()?;
            if matches!(rebuild.stage, Stage::Done) {
                over.store(true, Ordering::Relaxed);
            }
            Ok(())
        })?;
        // Its loader ends too where an exchange is done that nobody answered.
        if matches!(rebuild.stage, Stage::Exchanging(_)) {
            let uuid = patiently(end, || Ok(rebuild.server.uuid(&rebuild.table)?))?;
            if uuid.is_some_and(|uuid| uuid == rebuild.fresh_uuid) {
                rebuild.stage = Stage::Done;
            }
        }
        match rebuild.stage {
            // What was read before goes once nobody loads it any more, or by the next rebuild.
            Stage::Done => {
                if let Err(error) = rebuild.drop_table(&rebuild.fresh) {
                    warn!("the table that was read before is there still: {error}");
                }
                Ok(())
            }
            Stage::Loading | Stage::Told { .. } | Stage::Exchanging(_) => {
                Err(LoadError::Interrupted)
            }
        }
    }
}

/// Asks a server until it answers; `None` where it is to end before that.
fn patiently<T>(
    end: &AtomicBool,
    mut ask: impl FnMut() -> Result<T, LoadError>,
) -> Result<Option<T>, LoadError> {
    let mut fails = false;
    loop {
        match ask() {
            Err(LoadError::Server(error)) if error.said.may_pass() => {
                if !replace(&mut fails, true) {
                    warn!("the rebuild waits: {error}");
                }
            }
            answer => return answer.map(Some),
        }
        if end.load(Ordering::Relaxed) {
            return Ok(None);
        }
        thread::sleep(BETWEEN_TRIES);
    }
}

impl<'r> Rebuild<'r> {
    /// Makes the fresh table, or finds the one of a rebuild that died.
    fn begin(
        server: Server,
        table: &str,
        topic_id: &str,
        loaded: &'r Loaded,
    ) -> Result<Rebuild<'r>, LoadError> {
        let table = table.to_owned();
        let uuid = server.uuid(&table)?;
        if uuid.is_empty() {
            return Err(LoadError::NoTable { table, database: server.database.clone() });
        }
        let now_ms = UNIX_EPOCH.elapsed().map_or(0, |now| now.as_millis());
        let fresh = format!("{table}_rebuild_{}_{now_ms}", &uuid[..8]);
        let (looked, stage, fresh_uuid) = (None, Stage::Loading, String::new());
        let (fails, spoke) = (false, Instant::now());
        let mut rebuild =
            Rebuild { server, table, uuid, fresh, fresh_uuid, loaded, stage, looked, fails, spoke };
        let (ours, others) = rebuild.left_behind()?;
        for other in others {
            rebuild.drop_table(&other)?;
        }
        let (table, fresh) = (&rebuild.table, &rebuild.fresh);
        match ours {
            // Under another name, so that an exchange that was asked for and never answered comes
            // to nothing.
            Some(left) if rebuild.is_alike(&left, topic_id)? => {
                let statement = format!("RENAME TABLE {} TO {}", named(&left), named(fresh));
                rebuild.server.execute(&format!("go on with {left}"), &statement)?;
            }
            left => {
                left.into_iter().try_for_each(|left| rebuild.drop_table(&left))?;
                let statement = format!("CREATE TABLE {} AS {}", named(fresh), named(table));
                rebuild.server.execute(&format!("make {fresh}"), &statement)?;
            }
        }
        rebuild.fresh_uuid = rebuild.server.uuid(&rebuild.fresh)?;
        Ok(rebuild)
    }

    /// Whether a table has the columns of the one that is read, was loaded from this topic alone,
    /// and was not emptied: one that has changed meanwhile is loaded anew.
    fn is_alike(&self, left: &str, topic_id: &str) -> Result<bool, ServerError> {
        #[derive(Deserialize)]
        struct Found {
            alike: u8,
        }
        let database = quoted(&self.server.database);
        let columns = |table: &str| {
            format!(
                "SELECT groupArray((name, type)) FROM (SELECT name, type FROM system.columns WHERE \
                 database = {database} AND table = {} ORDER BY position)",
                quoted(table)
            )
        };
        let question = format!(
            "WITH (SELECT uuid FROM system.tables WHERE database = {database} AND name = {}) AS of \
             SELECT ({}) = ({}) AND (SELECT count() FROM {LOADED} WHERE table_uuid = of AND \
             topic_id != {}) = 0 AND ((SELECT count() FROM {LOADED} WHERE table_uuid = of) = 0 \
             OR (SELECT count() FROM {}) > 0) AS alike",
            quoted(left),
            columns(left),
            columns(&self.table),
            quoted(topic_id),
            named(left)
        );
        let found: Vec<Found> = self.server.rows(&format!("look at {left}"), &question)?;
        Ok(found.first().is_some_and(|found| found.alike == 1))
    }

    /// What rebuilds have left: one of the table that is read, and those that are over, or were
    /// begun twice.
    fn left_behind(&self) -> Result<(Option<String>, Vec<String>), ServerError> {
        #[derive(Deserialize)]
        struct Found {
            name: String,
        }
        let question = format!(
            "SELECT name FROM system.tables WHERE database = {} AND startsWith(name, {}) ORDER BY \
             metadata_modification_time DESC, name",
            quoted(&self.server.database),
            quoted(&format!("{}_rebuild_", self.table)),
        );
        let found: Vec<Found> = self.server.rows("look what rebuilds have left", &question)?;
        let begins = format!("{}_rebuild_", self.table);
        // Another's table may begin so, but bears no such numbers.
        let is_of_rebuild = |name: &String| {
            let numbers = name.strip_prefix(&begins).and_then(|rest| rest.split_once('_'));
            numbers.is_some_and(|(uuid, at)| {
                uuid.len() == 8
                    && u32::from_str_radix(uuid, 16).is_ok()
                    && at.parse::<u64>().is_ok()
            })
        };
        let mut names: Vec<String> =
            found.into_iter().map(|found| found.name).filter(is_of_rebuild).collect();
        let ours = format!("{begins}{}", &self.uuid[..8]);
        let ours = names.iter().position(|name| name.starts_with(&ours));
        let ours = ours.map(|place| names.remove(place));
        Ok((ours, names))
    }

    fn drop_table(&self, table: &str) -> Result<(), ServerError> {
        self.server.execute(
            &format!("drop {table}"),
            &format!("DROP TABLE IF EXISTS {} SYNC", named(table)),
        )
    }

    /// Whether the fresh table holds all that the frontier of the other says.
    fn has_passed(&self) -> Result<bool, ServerError> {
        let frontier = self.loaded.frontier.load(Ordering::Relaxed);
        Ok(frontier > 0 && frontier >= self.server.frontier(&self.uuid)?)
    }

    fn go_on(&mut self) -> Result<(), LoadError> {
        if self.looked.is_some_and(|looked| looked.elapsed() < BETWEEN_LOOKS) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        if self.spoke.elapsed() >= BETWEEN_WORDS {
            self.spoke = Instant::now();
            let frontier = self.loaded.frontier.load(Ordering::Relaxed);
            info!(
                table = self.fresh,
                frontier,
                "takes its place once it holds all up to the frontier of the table that is read, \
                 and the engine has committed something"
            );
        }
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
                let from = Instant::now();
                self.server.execute(&tried, &statement)?;
                failpoint!("rebuild-told");
                self.stage = Stage::Told { from, known: Instant::now() };
            }
            Stage::Told { from, .. } if from.elapsed().as_secs() >= NOTICE_SECONDS / 2 => {
                // It came no further in time: the frontier is let go again, and it tries once more.
                self.stage = Stage::Loading;
            }
            // Whoever looked before it was told has moved the frontier by now, or never will.
            Stage::Told { from, known }
                if known.elapsed().as_secs() > FRONTIER_SECONDS_MAX && self.has_passed()? =>
            {
                self.exchange(from)?;
            }
            Stage::Exchanging(_) if self.server.uuid(&self.table)? == self.fresh_uuid => {
                self.stage = Stage::Done;
            }
            Stage::Exchanging(since) if since.elapsed().as_secs() >= NOTICE_SECONDS => {
                let (table, seconds) = (self.table.clone(), NOTICE_SECONDS);
                return Err(LoadError::Unexchanged { table, seconds });
            }
            Stage::Loading | Stage::Told { .. } | Stage::Exchanging(_) | Stage::Done => {}
        }
        Ok(())
    }

    fn exchange(&mut self, from: Instant) -> Result<(), LoadError> {
        let uuids = (self.server.uuid(&self.table)?, self.server.uuid(&self.fresh)?);
        if uuids != (self.uuid.clone(), self.fresh_uuid.clone()) {
            return Err(LoadError::Exchanged { table: self.table.clone() });
        }
        // These questions took their time.
        if from.elapsed().as_secs() >= NOTICE_SECONDS / 2 {
            return Ok(());
        }
        // Asked once: asked again, it could put the elder table back.
        self.stage = Stage::Exchanging(Instant::now());
        let statement =
            format!("EXCHANGE TABLES {} AND {}", named(&self.table), named(&self.fresh));
        self.server.execute(&format!("exchange {}", self.table), &statement)?;
        failpoint!("rebuild-exchanged");
        info!(table = self.table, "was exchanged for the one that was loaded anew");
        self.stage = Stage::Done;
        Ok(())
    }
}
