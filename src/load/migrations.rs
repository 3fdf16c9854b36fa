//! Migrations: the tables and views of a dataflow in ClickHouse, one object a file.
//!
//! Shape: a folder of numbered files in; which of them were applied, and where what is there is
//! other than they say, out.
//!
//! Invariants: files are applied in the order of their names, each once and again where
//! the table or view that it makes was dropped, and what was applied is
//! recorded with its text; a file that was applied is never changed, but another one is added. What
//! a file means is the server's to say: it is applied to an empty database beside, and both are
//! compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use super::server::{Server, ServerError, named, quoted};

/// Where it is recorded what was applied.
const APPLIED: &str = "tributary_migrations";

/// The folder's files.
#[derive(Debug)]
pub struct Migrations {
    files: Vec<File>,
    /// What stands in the files for something of the place, and that.
    places: Vec<(&'static str, String)>,
}

/// A file, and the one statement that it holds.
#[derive(Debug)]
struct File {
    name: String,
    text: String,
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
    /// Its engine with partition and order, and its settings.
    fn engine(&self) -> (&str, Vec<(&str, &str)>) {
        let (engine, settings) = self.engine_full.split_once(" SETTINGS ").unwrap_or_default();
        if engine.is_empty() {
            return (&self.engine_full, Vec::new());
        }
        (engine, settings.split(", ").filter_map(|setting| setting.split_once(" = ")).collect())
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
                files.push(File { name, text });
            }
        }
        if files.is_empty() {
            return Err(MigrationError::None { path: folder.to_owned() });
        }
        files.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Migrations { files, places: Vec::new() })
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
        Ok(Migrations { places, ..migrations })
    }

    /// The statement of a file; the server takes no more than one, and none that ends with a
    /// semicolon.
    fn statement(&self, file: &File) -> String {
        let text = file.text.trim_end().trim_end_matches(';').to_owned();
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
        let there = objects(server, &server.database)?;
        let mut done = Vec::new();
        for file in &self.files {
            // What was dropped since is made again.
            let is_gone = file.makes().is_some_and(|object| !there.contains_key(object));
            let is_new = !applied.contains(&*file.name) || is_gone;
            if is_new {
                // It may have been applied and not been recorded: it does no harm again.
                server.execute(&format!("apply {}", file.name), &self.statement(file))?;
                failpoint!("migration-applied");
                let record = format!(
                    "INSERT INTO {APPLIED} (name, hash, text) VALUES ({}, {}, {})",
                    quoted(&file.name),
                    quoted(&file.hash()),
                    quoted(&file.text)
                );
                server.execute(&format!("record {}", file.name), &record)?;
            }
            done.push((&*file.name, is_new));
        }
        Ok(done)
    }

    /// The names of those that were applied.
    fn applied(&self, server: &Server) -> Result<BTreeSet<String>, MigrationError> {
        #[derive(Deserialize)]
        struct Row {
            name: String,
            hash: String,
        }
        let question = format!("SELECT name, hash FROM {APPLIED} FINAL");
        let rows: Vec<Row> = server.rows("ask which migrations were applied", &question)?;
        for Row { name, hash } in &rows {
            let file = self.files.iter().find(|file| file.name == *name);
            if file.is_some_and(|file| file.hash() != *hash) {
                return Err(MigrationError::Changed { name: name.clone() });
            }
        }
        Ok(rows.into_iter().map(|row| row.name).collect())
    }

    /// Compares what is there with what the migrations say; nothing is changed. They are applied to
    /// a database of their own for that, which goes afterwards.
    ///
    /// # Errors
    /// When the server does not let it.
    pub fn compare(&self, server: &Server) -> Result<Vec<Drift>, MigrationError> {
        let beside = format!("{}_check_{:08x}", server.database, std::process::id());
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
            there.execute(&format!("apply {} beside", file.name), &self.statement(file))?;
        }
        let (wanted, found) = (objects(server, beside)?, objects(server, &server.database)?);
        let (wanted_columns, found_columns) =
            (columns(server, beside)?, columns(server, &server.database)?);
        let none = Vec::new();
        let of = |columns: &'_ BTreeMap<String, Vec<ObjectColumn>>, name: &str| {
            columns.get(name).unwrap_or(&none).clone()
        };
        let mut drifts = Vec::new();
        for (name, wanted) in &wanted {
            match found.get(name) {
                None => drifts.push(Drift {
                    name: name.clone(),
                    what: "is not there".to_owned(),
                    remedy: "`tributary init` makes it".to_owned(),
                }),
                Some(found) => {
                    let of_columns = (of(&wanted_columns, name), of(&found_columns, name));
                    drifts.extend(drift(wanted, found, of_columns));
                }
            }
        }
        Ok(drifts)
    }
}

impl File {
    /// The table or view that it makes, by which it is called; none where it changes one.
    fn makes(&self) -> Option<&str> {
        let mut lines = self.text.lines().filter(|line| !line.starts_with("--"));
        let name = self.name.rsplit('/').next().and_then(|name| name.strip_suffix(".sql"));
        let makes = lines.next().is_some_and(|line| line.starts_with("CREATE "));
        name.and_then(|name| name.split_once('_')).map(|(_, name)| name).filter(|_| makes)
    }

    fn hash(&self) -> String {
        format!("{:016x}", xxh3_64(self.text.as_bytes()))
    }
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

/// Where one is other than it is to be.
fn drift(
    wanted: &Object,
    found: &Object,
    (wanted_columns, found_columns): (Vec<ObjectColumn>, Vec<ObjectColumn>),
) -> Vec<Drift> {
    let of = |what: String, remedy: String| Drift { name: wanted.name.clone(), what, remedy };
    if !wanted.as_select.is_empty() {
        return match wanted.as_select == found.as_select {
            true => Vec::new(),
            false => {
                let remedy =
                    format!("CREATE OR REPLACE VIEW {} AS {}", wanted.name, wanted.as_select);
                vec![of("shows something else".to_owned(), remedy)]
            }
        };
    }
    let mut drifts = Vec::new();
    let table = named(&wanted.name);
    let ((engine, settings), (found_engine, found_settings)) = (wanted.engine(), found.engine());
    for (name, value) in &settings {
        if !found_settings.contains(&(*name, *value)) {
            drifts.push(of(
                format!("has not the setting {name} = {value}"),
                format!("ALTER TABLE {table} MODIFY SETTING {name} = {value}"),
            ));
        }
    }
    if engine != found_engine {
        let what = format!("is {found_engine}, not {engine}");
        let remedy = "no ALTER mends that: rename the table, and have `tributary init` make it: it \
                      is loaded anew";
        drifts.push(of(what, remedy.to_owned()));
    }
    let mut previous = None::<&str>;
    for column in &wanted_columns {
        let name = named(&column.name);
        let place = previous.map_or("FIRST".to_owned(), |p| format!("AFTER {}", named(p)));
        let default = match &*column.default_kind {
            "" => String::new(),
            kind => format!(" {kind} {}", column.default_expression),
        };
        let as_it_is = format!("{name} {}{default}", column.type_name);
        previous = Some(&column.name);
        match found_columns.iter().find(|found| found.name == column.name) {
            None => drifts.push(of(
                format!("has no column {}", column.name),
                format!("ALTER TABLE {table} ADD COLUMN {as_it_is} {place}"),
            )),
            Some(found) if found != column => drifts.push(of(
                format!("has column {} as {}", column.name, found.type_name),
                format!("ALTER TABLE {table} MODIFY COLUMN {as_it_is}"),
            )),
            Some(_) => {}
        }
    }
    for column in &found_columns {
        if !wanted_columns.iter().any(|wanted| wanted.name == column.name) {
            drifts.push(of(
                format!("has a column {} that no migration made", column.name),
                format!("ALTER TABLE {table} DROP COLUMN {}", named(&column.name)),
            ));
        }
    }
    drifts
}
