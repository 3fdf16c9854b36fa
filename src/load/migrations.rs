//! Migrations: the tables and views of a dataflow in ClickHouse, one object a file.
//!
//! Shape: a folder of numbered files in; which of them were applied, and where what is there is
//! other than they say, out.
//!
//! Invariants: files are applied in the order of their names, each once, and again where the table
//! or view that it makes or changes was dropped; what was applied is recorded with its text; a file
//! that was applied is never changed, but another one is added. What a file means is the server's
//! to say: it is applied to an empty database beside, and both are compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{BuildHasher, RandomState},
    io,
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
        let there = objects(server, &server.database)?.into_keys().collect();
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
            done.push((&*file.name, is_due));
        }
        Ok(done)
    }

    /// Of each file whether it is to be applied: it was not yet, or what it makes was dropped
    /// since; or it changes something that is made again.
    fn due(&self, applied: &BTreeSet<String>, there: &BTreeSet<String>) -> Vec<bool> {
        let mut made_again = BTreeSet::new();
        let due = |file: &File| {
            let is_gone = match file.makes() {
                Some(object) if !there.contains(object) => {
                    made_again.insert(object.to_owned());
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

    /// The words of its statement, names among them.
    fn words(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.lines().filter(|line| !line.starts_with("--"));
        lines.flat_map(|line| line.split(|c: char| c != '_' && !c.is_alphanumeric()))
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
    let (engine, ttl, settings) = wanted.engine();
    let (found_engine, found_ttl, found_settings) = found.engine();
    for (name, value) in &settings {
        if !found_settings.contains(&(*name, *value)) {
            drifts.push(of(
                format!("has not the setting {name} = {value}"),
                format!("ALTER TABLE {table} MODIFY SETTING {name} = {value}"),
            ));
        }
    }
    if ttl != found_ttl {
        let remedy = match ttl {
            "" => format!("ALTER TABLE {table} REMOVE TTL"),
            ttl => format!("ALTER TABLE {table} MODIFY TTL {ttl}"),
        };
        drifts.push(of(format!("has the TTL \"{found_ttl}\", not \"{ttl}\""), remedy));
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
            Some(found)
                if found.type_name == column.type_name
                    && column.default_kind.is_empty()
                    && found != column =>
            {
                let kind = &found.default_kind;
                drifts.push(of(
                    format!("has column {} with {kind} {}", column.name, found.default_expression),
                    format!("ALTER TABLE {table} MODIFY COLUMN {name} REMOVE {kind}"),
                ));
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_made_again_with_what_changed_it_since() {
        let file = |name: &str, text: &str| File { name: name.to_owned(), text: text.to_owned() };
        let files = vec![
            file("001_rows.sql", "-- Rows.\nCREATE TABLE IF NOT EXISTS rows (a UInt8)"),
            file("002_other_rows.sql", "CREATE TABLE IF NOT EXISTS other_rows (a UInt8)"),
            file("003_shown.sql", "CREATE OR REPLACE VIEW shown AS SELECT a FROM rows"),
            file("004_more.sql", "ALTER TABLE `rows` ADD COLUMN b UInt8"),
            file("005_more.sql", "-- Not of rows.\nALTER TABLE other_rows ADD COLUMN b UInt8"),
            file("006_new.sql", "CREATE TABLE IF NOT EXISTS new (a UInt8)"),
        ];
        let migrations = Migrations { files, places: Vec::new() };
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
