//! The configuration of a place: where the brokers are and how one is let in. What is computed is
//! the spec's business.
//!
//! Shape: a TOML file in; plain values out, or what is wrong with it.
//!
//! Invariants: a secret comes from a file or an environment variable that the configuration names,
//! never from the configuration itself, and nothing here ever prints one.

mod archive;
mod clickhouse;
mod serve;
mod sources;

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use sources::is_url;

pub use archive::ArchiveConfig;
pub use clickhouse::ClickHouseConfig;
pub use serve::{LoginConfig, ServeConfig};
pub use sources::{
    AppConfig, Bitrix24Config, ElasticsearchConfig, Entity, FeedConfig, HttpConfig, OneCConfig,
    SourceConfig,
};

/// Where a dataflow runs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The brokers.
    pub kafka: KafkaConfig,
    /// The systems of record whose documents are kept in the reference log, by name.
    #[serde(default)]
    pub sources: BTreeMap<String, SourceConfig>,
    /// The server of ClickHouse that shows the views to analysts.
    #[serde(default)]
    pub clickhouse: Option<ClickHouseConfig>,
    /// Where the inputs are kept beyond what their topics hold.
    #[serde(default)]
    pub archive: Option<ArchiveConfig>,
    /// The journal before the cluster.
    #[serde(default)]
    pub serve: Option<ServeConfig>,
}

/// Where a secret is to be found.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Secret {
    /// What a file holds, without the line's end.
    File {
        /// The file.
        file: PathBuf,
    },
    /// What an environment variable holds.
    Env {
        /// Its name.
        env: String,
    },
}

impl Secret {
    /// Reads it for an option.
    ///
    /// # Errors
    /// When it is not to be found.
    pub fn read(&self, option: &str) -> Result<String, ConfigError> {
        match self {
            Secret::File { file } => match fs::read_to_string(file) {
                Ok(text) => Ok(text.trim_end_matches(['\n', '\r']).to_owned()),
                Err(source) => {
                    let option = option.to_owned();
                    Err(ConfigError::NoSecret { option, path: file.clone(), source })
                }
            },
            Secret::Env { env } => std::env::var(env).map_err(|_| ConfigError::Unsound {
                option: option.to_owned(),
                cause: format!("the environment variable {env} is not set, or no text"),
            }),
        }
    }
}

/// The brokers, and what is read there.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Addresses as `host:port`, at least one; the rest of the cluster is found from there.
    pub brokers: Vec<String>,
    /// The topic of the events; `<dataflow>_events` unless it is named here.
    #[serde(default)]
    pub events: Option<String>,
    /// The topic of the reference log; `<dataflow>_reference` unless it is named here. Several
    /// dataflows may read one.
    #[serde(default)]
    pub reference: Option<String>,
    /// Properties of the client library (librdkafka), for example how one is let in:
    /// `"security.protocol" = "sasl_ssl"`, `"sasl.password" = { file = "/run/secrets/kafka" }`. A
    /// secret is `{ file = ... }` or `{ env = ... }`.
    #[serde(default)]
    pub client: BTreeMap<String, Property>,
}

/// A property's value, or where it is to be found.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Property {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Boolean(bool),
    /// A secret.
    Secret(Secret),
}

/// Properties as the client takes them: secrets among them.
#[derive(Clone, Default, PartialEq)]
pub struct Properties(pub Vec<(String, String)>);

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "cannot read configuration \"{path}\"; give the path of a TOML file, see docs/kafka.md"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not written as it must be.
    #[error("configuration \"{path}\" is wrong: {cause}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        cause: String,
    },
    /// What it says is not sound.
    #[error("{option}: {cause}")]
    Unsound {
        /// The option.
        option: String,
        /// What is wrong with it, and what to do.
        cause: String,
    },
    /// A secret is not where it should be.
    #[error("{option}: cannot read the file \"{path}\" that holds it")]
    NoSecret {
        /// The option.
        option: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Properties that are the engine's own: what it promises rests on their values.
const RESERVED: [&str; 23] = [
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "client.id",
    "client.rack",
    "debug",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "isolation.level",
    "message.max.bytes",
    "message.timeout.ms",
    "metadata.broker.list",
    "request.required.acks",
    "statistics.interval.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// Words in the name of an option that holds a secret.
const SECRET: [&str; 6] = ["password", "passphrase", "secret", "_token", "key.pem", "jaas"];

impl Property {
    /// The value of an option.
    ///
    /// # Errors
    /// When it is a secret that stands in the configuration itself, or is not to be found.
    fn resolve(&self, option: &str) -> Result<String, ConfigError> {
        let is_secret = SECRET.iter().any(|word| option.contains(word));
        match self {
            Property::Secret(secret) => secret.read(option),
            _ if is_secret => {
                let cause = "a secret does not stand in a configuration; write \
                             { file = \"...\" } or { env = \"...\" }";
                Err(ConfigError::Unsound { option: option.to_owned(), cause: cause.to_owned() })
            }
            Property::Text(text) => Ok(text.clone()),
            Property::Number(number) => Ok(number.to_string()),
            Property::Boolean(boolean) => Ok(boolean.to_string()),
        }
    }
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// When the file cannot be read or is wrong.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(unreadable)?;
        // The error's own text would show the line, and a secret may stand there by mistake.
        let wrong = |error: toml::de::Error| {
            let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or_default());
            let line = before.matches('\n').count() + 1;
            let cause = format!("line {line}: {}", without_values(error.message()));
            ConfigError::Wrong { path: path.to_owned(), cause }
        };
        toml::from_str(&text).map_err(wrong)
    }
}

/// What a parser said, without what it quotes of the values: a secret may stand there by mistake.
fn without_values(said: &str) -> String {
    let parts = said.split("string \"").enumerate().map(|(place, part)| match place {
        0 => part.to_owned(),
        _ => format!("string{}", part.rsplit_once('"').map_or("", |(_, rest)| rest)),
    });
    parts.collect()
}

impl KafkaConfig {
    /// What the client is to be told, secrets resolved.
    ///
    /// # Errors
    /// With the first option that is not sound, or whose secret is not to be found.
    pub fn properties(&self) -> Result<Properties, ConfigError> {
        let unsound = |option: &str, cause: String| {
            Err(ConfigError::Unsound { option: option.to_owned(), cause })
        };
        if self.brokers.is_empty() {
            return unsound("kafka.brokers", "name at least one broker as host:port".to_owned());
        }
        let mut found = vec![("bootstrap.servers".to_owned(), self.brokers.join(","))];
        for (name, property) in &self.client {
            let option = format!("kafka.client.\"{name}\"");
            if RESERVED.contains(&name.as_str()) {
                let cause = "this one is the engine's own; what it promises rests on it";
                return unsound(&option, cause.to_owned());
            }
            found.push((name.clone(), property.resolve(&option)?));
        }
        Ok(Properties(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(client: &str) -> KafkaConfig {
        let text = format!("[kafka]\nbrokers = [\"a:1\", \"b:2\"]\n[kafka.client]\n{client}");
        toml::from_str::<Config>(&text).expect("the test is written so").kafka
    }

    #[test]
    fn secrets_come_from_files_and_the_environment_and_are_never_printed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("secret");
        fs::write(&file, "hush\n").expect("it can be written");
        let client = format!("\"sasl.password\" = {{ file = \"{}\" }}", file.display());
        let properties = config(&client).properties().expect("sound");
        assert!(properties.0.contains(&("sasl.password".to_owned(), "hush".to_owned())));
        assert!(!format!("{properties:?}").contains("hush"));
        let missing = config("\"sasl.password\" = { file = \"/nowhere\" }").properties();
        assert!(missing.expect_err("no file").to_string().contains("/nowhere"));
        let unset = config("\"sasl.password\" = { env = \"NOT_SET_ANYWHERE\" }").properties();
        assert!(unset.expect_err("not set").to_string().contains("NOT_SET_ANYWHERE"));
    }

    #[test]
    fn secrets_in_the_configuration_and_the_engines_own_properties_are_refused() {
        let plain = config("\"sasl.password\" = \"hush\"").properties();
        let said = plain.expect_err("a secret in plain text").to_string();
        assert!(said.contains("sasl.password") && !said.contains("hush"), "{said}");
        for name in RESERVED {
            let own = config(&format!("\"{name}\" = \"mine\"")).properties();
            let said = own.expect_err(name).to_string();
            assert!(said.contains(name) && said.contains("the engine's own"), "{said}");
        }
        for plain in ["1234", "true"] {
            let plain = config(&format!("\"sasl.password\" = {plain}")).properties();
            let said = plain.expect_err("a secret in plain text").to_string();
            assert!(said.contains("sasl.password") && !said.contains("1234"), "{said}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("place.toml");
        for wrong in
            ["kafka = \"hu\\\"sh\"", "[kafka]\nbrokers = \"hush\"", "kafka = { client = \"hush\" }"]
        {
            fs::write(&file, wrong).expect("it can be written");
            let said = Config::load(&file).expect_err(wrong).to_string();
            assert!(said.contains("line") && !said.contains("sh"), "{said}");
        }
        for name in ["ssl.key.pem", "ssl.key.password", "sasl.oauthbearer.client.secret"] {
            let plain = config(&format!("\"{name}\" = \"hush\"")).properties();
            let said = plain.expect_err(name).to_string();
            assert!(said.contains(name) && !said.contains("hush"), "{said}");
        }
    }
}
