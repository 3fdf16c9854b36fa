//! What readers are shown in ClickHouse: views of one dataflow or another, under the same names.
//!
//! Shape: two dataflows of one family in; the views of the other under the names that are read out.
//!
//! Invariants: each dataflow has views of its own, which read tables of its own; that of which
//! readers are shown the views has them under the names in the migrations, every other one under
//! names that end with its own. All change places in one statement. Whose a view is stands in
//! `tributary_readers` by its UUID before it is moved, so whoever finds them half-way knows.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Migrations, own_name,
    server::{Server, ServerError, named, quoted},
    table::EPOCH,
    view::EXCHANGES,
};
use crate::{config::ClickHouseConfig, spec::Spec, time::Epoch};

/// Where it stands whose a view is.
pub(super) const READERS: &str = "tributary_readers";

/// What readers are shown of a family.
pub struct Readers<'r> {
    server: &'r Server,
    config: &'r ClickHouseConfig,
    spec: &'r Spec,
    /// What the migrations make.
    objects: Vec<String>,
}

/// Where a view is, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    /// What readers call it.
    object: String,
    dataflow: String,
    name: String,
}

/// A table or a view.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Object {
    name: String,
    id: String,
    is_view: u8,
    /// What a view selects.
    text: String,
}

fn is_view(name: &str, there: &BTreeMap<String, Object>) -> bool {
    there.get(name).is_some_and(|of| of.is_view == 1)
}

/// What says that a frontier rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resting {
    uuids: Vec<String>,
    until: String,
}

impl<'r> Readers<'r> {
    /// Of the family of a spec.
    pub fn new(
        server: &'r Server,
        config: &'r ClickHouseConfig,
        spec: &'r Spec,
        migrations: &Migrations,
    ) -> Readers<'r> {
        let objects = migrations.objects().map(str::to_owned).collect();
        Readers { server, config, spec, objects }
    }

    /// Of the tables alone of the family of a spec.
    pub fn of_tables(
        server: &'r Server,
        config: &'r ClickHouseConfig,
        spec: &'r Spec,
    ) -> Readers<'r> {
        Readers { server, config, spec, objects: Vec::new() }
    }

    /// The newest epoch of the rows of a view in which a column has this value.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn newest_of(
        &self,
        dataflow: &str,
        (view, column, value): (&str, &str, &str),
    ) -> Result<Option<Epoch>, ServerError> {
        #[derive(Deserialize)]
        struct Row {
            rows: u64,
            newest: Epoch,
        }
        let table = super::table_of(self.config, (&self.spec.family, dataflow), view);
        let question = format!(
            "SELECT count() AS rows, max({EPOCH}) AS newest FROM {} WHERE {} = {}",
            named(&table),
            named(column),
            quoted(value)
        );
        let found: Vec<Row> = self.server.rows(&format!("look for a row of {table}"), &question)?;
        Ok(found.first().filter(|row| row.rows > 0).map(|row| row.newest))
    }

    /// Some columns of the rows of a view, those of them that its table has, in the order of a
    /// column: so many, behind a value.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn rows_of(
        &self,
        dataflow: &str,
        view: &str,
        columns: &[&str],
        (key, behind, most): (&str, Option<&str>, usize),
    ) -> Result<Vec<Map<String, Value>>, ServerError> {
        #[derive(Deserialize)]
        struct Column {
            name: String,
        }
        let table = super::table_of(self.config, (&self.spec.family, dataflow), view);
        let tried = format!("read rows of {table}");
        let question = format!("DESCRIBE TABLE {}", named(&table));
        let found: Vec<Column> = self.server.rows(&tried, &question)?;
        let is_there = |name: &&&str| found.iter().any(|column| column.name == **name);
        let wanted: Vec<String> = columns.iter().filter(is_there).map(|name| named(name)).collect();
        let behind = behind
            .map_or(String::new(), |value| format!("WHERE {} > {} ", named(key), quoted(value)));
        let question = format!(
            "SELECT {} FROM {} FINAL {behind}ORDER BY {} LIMIT {most}",
            wanted.join(", "),
            named(&table),
            named(key)
        );
        self.server.rows(&tried, &question)
    }

    /// The tables of some views of a dataflow.
    fn tables<'v>(
        &'v self,
        dataflow: &'v str,
        views: &'v [String],
    ) -> impl Iterator<Item = String> + 'v {
        let family = (&*self.spec.family, dataflow);
        views.iter().map(move |view| super::table_of(self.config, family, view))
    }

    /// Up to which epoch all tables of a dataflow hold everything; 0 where one is not there, or
    /// was never loaded.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn frontier(&self, dataflow: &str, views: &[String]) -> Result<Epoch, ServerError> {
        let of_table = |table: String| match self.server.uuid(&table)? {
            uuid if uuid.is_empty() => Ok(0),
            uuid => self.server.frontier(&uuid),
        };
        let all: Result<Vec<Epoch>, ServerError> =
            self.tables(dataflow, views).map(of_table).collect();
        Ok(all?.into_iter().min().unwrap_or(0))
    }

    /// Has nobody move the frontier of a dataflow for so many seconds; returns what says so.
    ///
    /// # Errors
    /// When that cannot be said.
    pub fn rest(
        &self,
        dataflow: &str,
        views: &[String],
        seconds: u64,
    ) -> Result<Resting, ServerError> {
        #[derive(Deserialize)]
        struct Until {
            until: String,
        }
        let question = format!("SELECT toString(now64(3) + INTERVAL {seconds} SECOND) AS until");
        let until: Vec<Until> = self.server.rows("ask for the time", &question)?;
        let until = until.into_iter().next().map(|row| row.until).unwrap_or_default();
        let mut uuids = Vec::new();
        for table in self.tables(dataflow, views) {
            let uuid = self.server.uuid(&table)?;
            if uuid.is_empty() {
                continue;
            }
            let (of, until) = (quoted(&uuid), quoted(&until));
            let statement =
                format!("INSERT INTO {EXCHANGES} (table_uuid, until) VALUES ({of}, {until})");
            let tried = format!("have the frontier of {table} rest");
            self.server.execute(&tried, &statement)?;
            uuids.push(uuid);
        }
        Ok(Resting { uuids, until })
    }

    /// Lets what rests move again; what others have said of it stands.
    ///
    /// # Errors
    /// When that cannot be said: it moves again by itself once the time is over.
    pub fn wake(&self, resting: &Resting) -> Result<(), ServerError> {
        for uuid in &resting.uuids {
            let statement = format!(
                "DELETE FROM {EXCHANGES} WHERE table_uuid = {} AND until = {}",
                quoted(uuid),
                quoted(&resting.until)
            );
            self.server.execute("let a frontier move", &statement)?;
        }
        Ok(())
    }

    /// Notes whose the views are that are to change places; returns those that are not there, or of
    /// which it is not known whose they are.
    ///
    /// # Errors
    /// When the server does not do it.
    pub fn note(&self, shown: &str, to: &str) -> Result<Vec<String>, ServerError> {
        let (known, there) = (self.known()?, self.there()?);
        let mut rows = Vec::new();
        let mut missing = Vec::new();
        for object in self.objects.iter().filter(|object| is_view(object, &there)) {
            let mut note = |dataflow: &str, name: &str| {
                let is_noted = there.values().any(|of| {
                    let noted = known.get(&of.id).map(|(of, whose)| (&**of, &**whose));
                    noted == Some((object, dataflow))
                });
                if is_noted {
                    return;
                }
                // One that nobody noted, or that was made anew since, shows by what it reads whose
                // it is.
                match there.get(name).filter(|of| !known.contains_key(&of.id)) {
                    Some(of) if self.reads(of, dataflow, [shown, to]) => {
                        let row = [&*of.id, object, dataflow].map(quoted).join(", ");
                        rows.push(format!("({row})"));
                    }
                    _ => missing.push(name.to_owned()),
                }
            };
            note(shown, object);
            note(to, &own_name(object, to));
        }
        if !rows.is_empty() && missing.is_empty() {
            let statement = format!(
                "INSERT INTO {READERS} (view_uuid, object, dataflow) VALUES {}",
                rows.join(", ")
            );
            self.server.execute("note whose the views are", &statement)?;
        }
        Ok(missing)
    }

    /// Whether a view reads the tables of a dataflow, and of no other one of these.
    fn reads(&self, view: &Object, dataflow: &str, among: [&str; 2]) -> bool {
        let is_of_word = |c: char| c == '_' || c.is_alphanumeric();
        let words: Vec<&str> = view.text.split(|c| !is_of_word(c)).collect();
        let names = |of: &str| {
            let own = self.objects.iter().map(|object| own_name(object, of));
            own.into_iter().any(|name| words.contains(&&*name))
        };
        let others = among.iter().filter(|of| **of != dataflow && **of != self.spec.family);
        match dataflow == self.spec.family {
            true => !others.into_iter().any(|of| names(of)),
            false => names(dataflow),
        }
    }

    /// Whether readers are shown a dataflow; where nothing is made that could be shown, they are.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn show(&self, dataflow: &str) -> Result<bool, ServerError> {
        let there = self.there()?;
        let (views, read) = (self.views()?, |object: &&String| is_view(object, &there));
        let is_its = |object: &String| {
            let mut at = views.iter().filter(|view| view.name == *object);
            at.next().is_some_and(|view| view.dataflow == dataflow)
        };
        Ok(self.objects.iter().filter(read).all(is_its))
    }

    /// Has the views of a dataflow take the names that are read; `at` is another one for each try.
    ///
    /// They get names of just this try before: a statement of another one that was asked for and
    /// never answered comes to nothing, for its names are gone. Asked once a start: asked again
    /// while it is not known whether it was done, it could take them back.
    ///
    /// # Errors
    /// When the server does not say that it did.
    pub fn exchange(&self, to: &str, at: i64) -> Result<(), ServerError> {
        let mut pairs = Vec::new();
        let views = self.views()?;
        for read in views.iter().filter(|view| view.name == view.object && view.dataflow != to) {
            let is_its = |view: &&View| view.object == read.object && view.dataflow == to;
            let Some(view) = views.iter().find(is_its) else { continue };
            // No dataflow has a name with a capital letter.
            let name = format!("{}__S{at}", own_name(&view.object, to));
            if view.name != name {
                self.rename(&view.name, &name)?;
            }
            pairs.push(format!("{} AND {}", named(&read.name), named(&name)));
        }
        if pairs.is_empty() {
            return Ok(());
        }
        failpoint!("promote-renamed");
        let statement = format!("EXCHANGE TABLES {}", pairs.join(", "));
        self.server.execute(&format!("show readers \"{to}\""), &statement)
    }

    fn rename(&self, name: &str, wanted: &str) -> Result<(), ServerError> {
        let statement = format!("RENAME TABLE {} TO {}", named(name), named(wanted));
        self.server.execute(&format!("call {name} {wanted}"), &statement)
    }

    /// Gives views that are not read names that end with that of their dataflow.
    ///
    /// # Errors
    /// When the server does not do it.
    pub fn tidy(&self) -> Result<(), ServerError> {
        for View { object, dataflow, name, .. } in self.views()? {
            let wanted = own_name(&object, &dataflow);
            if name != object && name != wanted {
                self.rename(&name, &wanted)?;
            }
        }
        Ok(())
    }

    /// Drops what a dataflow has of its own, and what is noted of it.
    ///
    /// # Errors
    /// When the server does not do it.
    pub fn drop_all(&self, dataflow: &str) -> Result<Vec<String>, ServerError> {
        let there = self.there()?;
        let all = self.views()?;
        let (own, others): (Vec<View>, Vec<View>) =
            all.into_iter().partition(|view| view.dataflow == dataflow);
        let mut names: Vec<String> = own.into_iter().map(|view| view.name).collect();
        names.extend(self.objects.iter().map(|object| own_name(object, dataflow)));
        let views: Vec<String> = super::Load::views(self.spec).map(str::to_owned).collect();
        names.extend(self.tables(dataflow, &views));
        names.sort();
        names.dedup();
        // What is read, or is another's whatever it is called just now, stays.
        let stays = |name: &String| {
            self.objects.contains(name) || others.iter().any(|view| view.name == *name)
        };
        names.retain(|name| there.contains_key(name) && !stays(name));
        for name in &names {
            let kind = if is_view(name, &there) { "VIEW" } else { "TABLE" };
            let statement = format!("DROP {kind} IF EXISTS {} SYNC", named(name));
            self.server.execute(&format!("drop {name}"), &statement)?;
        }
        let statement = format!(
            "INSERT INTO tributary_migrations (name) SELECT name FROM tributary_migrations WHERE \
             startsWith(name, {})",
            quoted(&format!("{dataflow}/"))
        );
        self.server.execute("forget which migrations were applied", &statement)?;
        let statement = format!("DELETE FROM {READERS} WHERE dataflow = {}", quoted(dataflow));
        self.server.execute("forget which views it had", &statement)?;
        Ok(names)
    }

    /// By UUID, whose a view is.
    fn known(&self) -> Result<BTreeMap<String, (String, String)>, ServerError> {
        #[derive(Deserialize)]
        struct Known {
            uuid: String,
            object: String,
            dataflow: String,
        }
        let question =
            format!("SELECT toString(view_uuid) AS uuid, object, dataflow FROM {READERS} FINAL");
        let known: Vec<Known> = self.server.rows("ask whose the views are", &question)?;
        let of = |Known { uuid, object, dataflow }| (uuid, (object, dataflow));
        Ok(known.into_iter().map(of).collect())
    }

    /// By name, what there is.
    fn there(&self) -> Result<BTreeMap<String, Object>, ServerError> {
        let question = format!(
            "SELECT name, toString(uuid) AS id, engine = 'View' AS is_view, as_select AS text FROM \
             system.tables WHERE database = {}",
            quoted(&self.server.database)
        );
        let there: Vec<Object> = self.server.rows("ask which views there are", &question)?;
        Ok(there.into_iter().map(|of| (of.name.clone(), of)).collect())
    }

    /// The views of the family of which it is known whose they are.
    fn views(&self) -> Result<Vec<View>, ServerError> {
        let known = self.known()?;
        let views = self.there()?.into_iter().filter_map(|(name, of)| {
            let (object, dataflow) = known.get(&of.id)?.clone();
            Some(View { object, dataflow, name })
        });
        Ok(views.filter(|view| self.objects.contains(&view.object)).collect())
    }
}
