//! A server of ClickHouse: where it is, how one is let in, and what stands where.
//!
//! Shape: the table `[clickhouse]` of the configuration in; plain values out.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{ConfigError, Secret, sources::duration};

/// A server of ClickHouse that shows views to analysts.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClickHouseConfig {
    /// Its HTTP interface, as `https://host:8443`.
    pub url: String,
    /// The database in which the tables are; it must be there.
    #[serde(default = "ClickHouseConfig::default_database")]
    pub database: String,
    /// How one is let in: a name,
    #[serde(default)]
    pub username: Option<String>,
    /// and its password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The authority that its certificate is of, as a file in PEM form; what the system trusts
    /// where it is not said.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// The folder of the migrations, which make the tables: see sql/README.md.
    #[serde(default = "ClickHouseConfig::default_sql")]
    pub sql: PathBuf,
    /// How long a block of rows may take, as `90s`; then it is inserted again.
    #[serde(default, deserialize_with = "duration")]
    pub insert_timeout: Option<Duration>,
    /// By view of the dataflow the table that it is loaded into; `<dataflow>_<view>_rows` where it
    /// is not said.
    #[serde(default)]
    pub tables: BTreeMap<String, String>,
    /// How its own Kafka engine reads, where that is asked for: as which group, `clickhouse_` and
    /// the database where it is not said,
    #[serde(default)]
    pub consumer_group: Option<String>,
    /// and at which brokers; those of `kafka.brokers` where none is said.
    #[serde(default)]
    pub brokers: Vec<String>,
}

impl ClickHouseConfig {
    fn default_database() -> String {
        "default".to_owned()
    }

    fn default_sql() -> PathBuf {
        PathBuf::from("sql")
    }

    /// What the table of a view is called.
    pub fn table(&self, dataflow: &str, view: &str) -> String {
        self.tables.get(view).cloned().unwrap_or_else(|| format!("{dataflow}_{view}_rows"))
    }

    /// The folder of the migrations by which its own Kafka engine reads.
    pub fn kafka_engine(&self) -> PathBuf {
        self.sql.join("kafka_engine")
    }

    /// What stands in those for their placeholders: brokers, the topic and the group.
    pub fn places(&self, brokers: &[String], topic: &str) -> Vec<(&'static str, String)> {
        let brokers = if self.brokers.is_empty() { brokers } else { &self.brokers };
        let group = || format!("clickhouse_{}", self.database);
        vec![
            ("{brokers}", brokers.join(",")),
            ("{topic}", topic.to_owned()),
            ("{group}", self.consumer_group.clone().unwrap_or_else(group)),
        ]
    }

    /// Checks what can be checked without the server.
    ///
    /// # Errors
    /// With the first option that is not sound.
    pub fn check(&self) -> Result<(), ConfigError> {
        let unsound = |option: &str, cause: &str| {
            let (option, cause) = (format!("clickhouse.{option}"), cause.to_owned());
            Err(ConfigError::Unsound { option, cause })
        };
        if !super::is_url(&self.url) {
            let cause = "name its HTTP interface as https://host:8443; a name and a password do \
                         not stand there";
            return unsound("url", cause);
        }
        if self.password.is_some() && self.username.is_none() {
            return unsound("password", "give the name that it is of, as username");
        }
        let is_name = |name: &str| {
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            !name.is_empty() && name.chars().all(is_word)
        };
        if !is_name(&self.database) {
            return unsound("database", "a name has letters, digits and underscores");
        }
        match self.tables.values().all(|table| is_name(table)) {
            true => Ok(()),
            false => unsound("tables", "a name has letters, digits and underscores"),
        }
    }
}
