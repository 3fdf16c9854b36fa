//! Migrations: the tables and views of a dataflow in ClickHouse, one object a file.
//!
//! Shape: a folder of numbered files in; which of them were applied, and where what is there is
//! other than they say, out.
//!
//! Invariants: files are applied in the order of their names, each once, and again where the table
//! or view that it makes or changes was dropped; what was applied is recorded with its text; a file
//! that was applied is never changed, but another one is added. What a file means is the server's
//! to say: it is applied to an empty database beside, and both are compared.

mod drift;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{BuildHasher, RandomState},
    io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use self::drift::drift;
use super::{
    own_name,
    readers::READERS,
    server::{Server, ServerError, named, quoted},
};

/// With this begin the names of tables that all dataflows have together.
const OF_ALL: &str = "tributary_";

/// Where it is recorded what was applied.
const APPLIED: &str = "tributary_migrations";

/// The folder's files.
#[derive(Debug)]
pub struct Migrations {
    files: Vec<File>,
    /// What stands in the files for something of the place, and that.
    places: Vec<(&'static str, String)>,
    /// The dataflow that they are of, where that is known.
    dataflow: Option<String>,
    /// What they make that is the dataflow's own, and what readers call it.
    objects: BTreeMap<String, String>,
}

/// Where views of a dataflow are that readers are shown instead of others, or others instead of
/// them: they bear other names then than the migrations say.
#[derive(Debug, Default)]
struct Moved {
    /// By the name that the migrations say.
    names: BTreeMap<String, String>,
    /// Of which it is noted whose they are.
    noted: BTreeSet<String>,
}

impl Moved {
    fn name<'m>(&'m self, wanted: &'m str) -> &'m str {
        self.names.get(wanted).map_or(wanted, String::as_str)
    }
}

/// A file, and the one statement that it holds.
#[derive(Debug)]
struct File {
    name: String,
    text: String,
    /// The table or view that it makes, by which it is called; none where it changes one.
    makes: Option<String>,
}

/// Why migrations cannot be applied or compared.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A file or the folder cannot be read.
    #[error(
        "cannot read migrations in \"{path}\"; give their folder as clickhouse.sql, see \
         sql/README.md"
    )]
    Unreadable {
        /// The folder or the file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder holds none.
    #[error("there is no migration in \"{path}\": none of its files is named like 001_name.sql")]
    None {
        /// The folder.
        path: PathBuf,
    },
    /// A file was changed after it was applied.
    #[error(
        "migration {name} was applied with another text: put its text back, and say what is to \
         change in a new file behind the last one"
    )]
    Changed {
        /// The file.
        name: String,
    },
    /// The server did not do it.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// Where what is there is other than the migrations say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The table or view.
    pub name: String,
    /// What is other.
    pub what: String,
    /// The statement that mends it, or what else to do.
    pub remedy: String,
}

/// What the server says of a table or view.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Object {
    name: String,
    engine_full: String,
    as_select: String,
}

impl Object {
    /// Its engine with partition and order, how long rows live, and its settings.
    fn engine(&self) -> (&str, &str, Vec<(&str, &str)>) {
        let all = &*self.engine_full;
        let (engine, settings) = all.split_once(" SETTINGS ").unwrap_or((all, ""));
        let (engine, ttl) = engine.split_once(" TTL ").unwrap_or((engine, ""));
        let settings = settings.split(", ").filter_map(|setting| setting.split_once(" = "));
        (engine, ttl, settings.collect())
    }
}

/// A column of one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct ObjectColumn {
    table: String,
    name: String,
    #[serde(rename = "type")]
    type_name: String,
    default_kind: String,
    default_expression: String,
}

impl Migrations {
    /// Those of a folder: `NNN_name.sql`, in the order of their names.
    ///
    /// # Errors
    /// When they cannot be read, or there is none.
    pub fn load(folder: &Path) -> Result<Migrations, MigrationError> {
        let unreadable =
            |path: &Path, source| MigrationError::Unreadable { path: path.to_owned(), source };
        let entries = fs::read_dir(folder).map_err(|error| unreadable(folder, error))?;
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| unreadable(folder, error))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let number = name.split('_').next().unwrap_or_default();
            let is_numbered = number.len() == 3 && number.bytes().all(|b| b.is_ascii_digit());
            if is_numbered && name.ends_with(".sql") {
                let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
                files.push(File::new(name, text));
            }
        }
        if files.is_empty() {
            return Err(MigrationError::None { path: folder.to_owned() });
        }
        files.sort_by(|one, other| one.name.cmp(&other.name));
        let made = files.iter().filter_map(|file| file.makes.clone());
        let own = made.filter(|object| !object.starts_with(OF_ALL));
        let objects = own.map(|object| (object.clone(), object)).collect();
        Ok(Migrations { files, places: Vec::new(), dataflow: None, objects })
    }

    /// Those of a dataflow of a family: where that runs under a name of its own, its tables and
    /// views bear names of their own too; those in which it is kept how far loading is are of all.
    #[must_use]
    pub fn of_dataflow(self, family: &str, dataflow: &str) -> Migrations {
        let with_name = Migrations { dataflow: Some(dataflow.to_owned()), ..self };
        if family == dataflow {
            return with_name;
        }
        let Migrations { files, objects, .. } = with_name;
        let own: BTreeSet<String> = objects.into_keys().collect();
        let files = files.into_iter().map(|file| file.renamed(&own, dataflow)).collect();
        let objects = own.into_iter().map(|object| (own_name(&object, dataflow), object));
        Migrations { files, objects: objects.collect(), ..with_name }
    }

    /// What readers call the tables and views that they make.
    pub fn objects(&self) -> impl Iterator<Item = &str> {
        self.objects.values().map(String::as_str)
    }

    /// Those of a folder within another one, recorded with its name before theirs, in which words
    /// stand for something of the place, each within quotes.
    ///
    /// # Errors
    /// When they cannot be read, or there is none.
    pub fn load_with(
        folder: &Path,
        places: Vec<(&'static str, String)>,
    ) -> Result<Migrations, MigrationError> {
        let mut migrations = Migrations::load(folder)?;
        let within = folder.file_name().unwrap_or_default().to_string_lossy();
        migrations.files.iter_mut().for_each(|file| file.name = format!("{within}/{}", file.name));
        // What only one dataflow may have.
        Ok(Migrations { places, dataflow: None, objects: BTreeMap::new(), ..migrations })
    }

    /// The statement of a file; the server takes no more than one, and none that ends with a
    /// semicolon.
    fn statement(&self, file: &File, moved: &Moved) -> String {
        let text = file.text.trim_end().trim_end_matches(';');
        let text = replaced(text, &|word| moved.names.get(word).cloned());
        self.places
            .iter()
            .fold(text, |text, (word, value)| text.replace(&format!("'{word}'"), &quoted(value)))
    }

    /// Applies those that were not applied yet; returns of each its name, and whether it was now.
    ///
    /// # Errors
    /// When one was changed after it was applied, before anything is done; or when the server does
    /// not do it: what was applied before stands.
    pub fn apply(&self, server: &Server) -> Result<Vec<(&str, bool)>, MigrationError> {
        server.execute(
            "make the record of migrations",
            &format!(
                "CREATE TABLE IF NOT EXISTS {APPLIED} (name String, hash String, text String, at \
                 DateTime64(3, 'UTC') DEFAULT now64(3)) ENGINE = ReplacingMergeTree ORDER BY name"
            ),
        )?;
        let applied = self.applied(server)?;
        let mut there: BTreeSet<String> = objects(server, &server.database)?.into_keys().collect();
        let moved = self.moved(server, &there)?;
        there.extend(moved.names.keys().cloned());
        let due = self.due(&applied, &there);
        // Known before anything is made again, or one that dies would leave out the changes.
        for (file, _) in self.files.iter().zip(&due).filter(|(_, is_due)| **is_due) {
            if applied.contains(&file.name) {
                let record =
                    format!("INSERT INTO {APPLIED} (name) VALUES ({})", quoted(&file.name));
                server.execute(&format!("say that {} is due again", file.name), &record)?;
            }
        }
        let mut done = Vec::new();
        for (file, is_due) in self.files.iter().zip(due) {
            if is_due {
                // It may have been applied and not been recorded: it does no harm again.
                server.execute(&format!("apply {}", file.name), &self.statement(file, &moved))?;
                self.note(server, file, &moved)?;
                failpoint!("migration-applied");
                let record = format!(
                    "INSERT INTO {APPLIED} (name, hash, text) VALUES ({}, {}, {})",
                    quoted(&file.name),
                    quoted(&file.hash()),
                    quoted(&file.text)
                );
                server.execute(&format!("record {}", file.name), &record)?;
            }
            done.push((&*file.name, is_due));
        }
        Ok(done)
    }

    /// Of each file whether it is to be applied: it was not yet, or what it makes was dropped
    /// since; or it changes something that is made again.
    fn due(&self, applied: &BTreeSet<String>, there: &BTreeSet<String>) -> Vec<bool> {
        let mut made_again = BTreeSet::new();
        let due = |file: &File| {
            let is_gone = match &file.makes {
                Some(object) if !there.contains(object) => {
                    made_again.insert(object.clone());
                    true
                }
                Some(_) => false,
                None => file.words().any(|word| made_again.contains(word)),
            };
            is_gone || !applied.contains(&file.name)
        };
        self.files.iter().map(due).collect()
    }

    /// The names of those that were applied.
    fn applied(&self, server: &Server) -> Result<BTreeSet<String>, MigrationError> {
        #[derive(Deserialize)]
        struct Row {
            name: String,
            hash: String,
        }
        let question = format!("SELECT name, hash FROM {APPLIED} FINAL");
        let mut rows: Vec<Row> = server.rows("ask which migrations were applied", &question)?;
        // One that is due again has none.
        rows.retain(|row| !row.hash.is_empty());
        for Row { name, hash } in &rows {
            let file = self.files.iter().find(|file| file.name == *name);
            if file.is_some_and(|file| file.hash() != *hash) {
                return Err(MigrationError::Changed { name: name.clone() });
            }
        }
        Ok(rows.into_iter().map(|row| row.name).collect())
    }

    /// Where the views of the dataflow are, if readers were ever switched.
    fn moved(&self, server: &Server, there: &BTreeSet<String>) -> Result<Moved, ServerError> {
        #[derive(Deserialize)]
        struct Row {
            object: String,
            name: String,
        }
        let Some(dataflow) = self.dataflow.as_ref().filter(|_| there.contains(READERS)) else {
            return Ok(Moved::default());
        };
        let question = format!(
            "SELECT readers.object AS object, tables.name AS name FROM {READERS} AS readers FINAL \
             INNER JOIN system.tables AS tables ON tables.uuid = readers.view_uuid WHERE \
             readers.dataflow = {} AND tables.database = {}",
            quoted(dataflow),
            quoted(&server.database)
        );
        let rows: Vec<Row> = server.rows("ask whose the views are", &question)?;
        let mut moved = Moved::default();
        for (wanted, object) in &self.objects {
            if let Some(row) = rows.iter().find(|row| row.object == *object) {
                moved.noted.insert(wanted.clone());
                if row.name != *wanted {
                    moved.names.insert(wanted.clone(), row.name.clone());
                }
            }
        }
        Ok(moved)
    }

    /// Notes whose a view is that was made anew in place of one of which that was known.
    fn note(&self, server: &Server, file: &File, moved: &Moved) -> Result<(), ServerError> {
        let made = file.makes.as_ref().filter(|made| moved.noted.contains(*made));
        let (Some(made), Some(dataflow)) = (made, &self.dataflow) else { return Ok(()) };
        let statement = format!(
            "INSERT INTO {READERS} (view_uuid, object, dataflow) SELECT uuid, {}, {} FROM \
             system.tables WHERE database = {} AND name = {}",
            quoted(&self.objects[made]),
            quoted(dataflow),
            quoted(&server.database),
            quoted(moved.name(made))
        );
        server.execute("note whose the view is", &statement)
    }

    /// Compares what is there with what the migrations say; nothing is changed. They are applied to
    /// a database of their own for that, which goes afterwards.
    ///
    /// # Errors
    /// When the server does not let it.
    pub fn compare(&self, server: &Server) -> Result<Vec<Drift>, MigrationError> {
        let beside =
            format!("{}_check_{:08x}", server.database, RandomState::new().hash_one(0) as u32);
        server.execute(
            "make a database to compare with",
            &format!("CREATE DATABASE {}", named(&beside)),
        )?;
        let compared = self.compare_with(server, &beside);
        let dropped = server.execute(
            "take away the database that was compared with",
            &format!("DROP DATABASE {} SYNC", named(&beside)),
        );
        let compared = compared?;
        dropped?;
        Ok(compared)
    }

    fn compare_with(&self, server: &Server, beside: &str) -> Result<Vec<Drift>, MigrationError> {
        let there = server.within(beside);
        for file in &self.files {
            let statement = self.statement(file, &Moved::default());
            there.execute(&format!("apply {} beside", file.name), &statement)?;
        }
        let (wanted, found) = (objects(server, beside)?, objects(server, &server.database)?);
        let (wanted_columns, found_columns) =
            (columns(server, beside)?, columns(server, &server.database)?);
        let none = Vec::new();
        let of = |columns: &'_ BTreeMap<String, Vec<ObjectColumn>>, name: &str| {
            columns.get(name).unwrap_or(&none).clone()
        };
        let mut drifts = Vec::new();
        let moved = self.moved(server, &found.keys().cloned().collect())?;
        for (name, wanted) in &wanted {
            let now = moved.name(name);
            let wanted = &Object { name: now.to_owned(), ..wanted.clone() };
            match found.get(now) {
                None => drifts.push(Drift {
                    name: name.clone(),
                    what: "is not there".to_owned(),
                    remedy: "`tributary init` makes it".to_owned(),
                }),
                Some(found) => {
                    let of_columns = (of(&wanted_columns, name), of(&found_columns, now));
                    drifts.extend(drift(wanted, found, of_columns));
                }
            }
        }
        Ok(drifts)
    }
}

impl File {
    fn new(name: String, text: String) -> File {
        let mut lines = text.lines().filter(|line| !line.starts_with("--"));
        let is_making = lines.next().is_some_and(|line| line.starts_with("CREATE "));
        let object = name.strip_suffix(".sql").and_then(|name| name.split_once('_'));
        let makes = object.map(|(_, object)| object.to_owned()).filter(|_| is_making);
        File { name, text, makes }
    }

    /// The same for a dataflow that has tables of its own, where it says something of one of these
    /// objects.
    fn renamed(self, objects: &BTreeSet<String>, dataflow: &str) -> File {
        if !self.words().any(|word| objects.contains(word)) {
            return self;
        }
        let own = |word: &str| objects.contains(word).then(|| own_name(word, dataflow));
        let text = replaced(&self.text, &own);
        let makes = self.makes.map(|object| match objects.contains(&object) {
            true => own_name(&object, dataflow),
            false => object,
        });
        File { name: format!("{dataflow}/{}", self.name), text, makes }
    }

    /// The words of its statement, names among them.
    fn words(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.lines().filter(|line| !line.starts_with("--"));
        lines.flat_map(|line| line.split(|c: char| c != '_' && !c.is_alphanumeric()))
    }

    fn hash(&self) -> String {
        format!("{:016x}", xxh3_64(self.text.as_bytes()))
    }
}

/// A text in which words are others.
fn replaced(text: &str, other: &dyn Fn(&str) -> Option<String>) -> String {
    let is_of_word = |c: char| c == '_' || c.is_alphanumeric();
    let (mut replaced, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| is_of_word(c) != is_of_word(first));
        let (run, behind) = rest.split_at(end.unwrap_or(rest.len()));
        replaced.push_str(&other(run).unwrap_or_else(|| run.to_owned()));
        rest = behind;
    }
    replaced
}

/// Tables and views of a database, by name, without the database in what they say.
fn objects(server: &Server, database: &str) -> Result<BTreeMap<String, Object>, ServerError> {
    let question = format!(
        "SELECT name, engine_full, as_select FROM system.tables WHERE database = {}",
        quoted(database)
    );
    let found: Vec<Object> = server.rows("ask which tables there are", &question)?;
    let object = |object: Object| {
        let as_select = object.as_select.replace(&format!("{database}."), "");
        (object.name.clone(), Object { as_select, ..object })
    };
    Ok(found.into_iter().map(object).collect())
}

/// Columns of a database, by table, in their order.
fn columns(
    server: &Server,
    database: &str,
) -> Result<BTreeMap<String, Vec<ObjectColumn>>, ServerError> {
    let question = format!(
        "SELECT table, name, type, default_kind, default_expression FROM system.columns WHERE \
         database = {} ORDER BY table, position",
        quoted(database)
    );
    let found: Vec<ObjectColumn> = server.rows("ask which columns there are", &question)?;
    let mut columns = BTreeMap::<_, Vec<_>>::new();
    for column in found {
        columns.entry(column.table.clone()).or_default().push(column);
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dataflow_of_another_name_has_tables_of_its_own() {
        let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
        let plain = Migrations::load(&sql).expect("the project's own");
        let own = Migrations::load(&sql).expect("the same").of_dataflow("attendance", "v2");
        let text = |name: &str| {
            let file = own.files.iter().find(|file| file.name.ends_with(name));
            &*file.unwrap_or_else(|| panic!("{name}")).text
        };
        assert!(text("006_attendance_enriched.sql").contains("FROM attendance_enriched_rows__v2"));
        let latest = text("007_latest_attendance_mv.sql");
        assert!(latest.contains("VIEW latest_attendance_mv__v2 AS"), "{latest}");
        assert!(latest.contains("ATTENDANCE_MARK AS attendance_mark,"), "columns are no objects");
        assert!(text("008_attendance_frontier.sql").contains("'attendance_latest_rows__v2'"));
        let shared = own.files.iter().filter(|file| !file.name.contains('/'));
        assert!(
            shared.clone().count() > 0 && shared.clone().all(|file| file.text.contains(OF_ALL))
        );
        let objects: Vec<&str> = plain.objects().collect();
        assert!(objects.iter().all(|object| !object.contains("__")) && objects.len() == 5);
        assert!(own.objects().eq(objects), "readers call both alike");
    }

    #[test]
    fn what_was_dropped_is_made_again_with_what_changed_it_since() {
        let file = |name: &str, text: &str| File::new(name.to_owned(), text.to_owned());
        let files = vec![
            file("001_rows.sql", "-- Rows.\nCREATE TABLE IF NOT EXISTS rows (a UInt8)"),
            file("002_other_rows.sql", "CREATE TABLE IF NOT EXISTS other_rows (a UInt8)"),
            file("003_shown.sql", "CREATE OR REPLACE VIEW shown AS SELECT a FROM rows"),
            file("004_more.sql", "ALTER TABLE `rows` ADD COLUMN b UInt8"),
            file("005_more.sql", "-- Not of rows.\nALTER TABLE other_rows ADD COLUMN b UInt8"),
            file("006_new.sql", "CREATE TABLE IF NOT EXISTS new (a UInt8)"),
        ];
        let (places, objects) = (Vec::new(), BTreeMap::new());
        let migrations = Migrations { files, places, dataflow: None, objects };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let applied: BTreeSet<String> =
            migrations.files[..5].iter().map(|file| file.name.clone()).collect();
        let due = |there: &[&str]| migrations.due(&applied, &names(there));
        let all = ["rows", "other_rows", "shown"];
        assert_eq!(due(&all), [false, false, false, false, false, true]);
        assert_eq!(due(&all[1..]), [true, false, false, true, false, true]);
        assert_eq!(due(&all[..1]), [false, true, true, false, true, true]);
    }
}
