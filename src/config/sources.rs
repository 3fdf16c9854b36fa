//! The systems of record of a place: where each is, how one is let in, and how its feed goes about
//! it.
//!
//! Shape: tables `[sources.NAME]` of the configuration in; plain values out.

use std::{path::PathBuf, time::Duration};

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{ConfigError, Secret};

/// A system of record.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SourceConfig {
    /// An index of Elasticsearch.
    Elasticsearch(ElasticsearchConfig),
}

/// An index of Elasticsearch, or several.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElasticsearchConfig {
    /// Nodes, each as `https://host:9200`; the next is asked where one does not answer.
    pub urls: Vec<String>,
    /// An index, an alias, or several of both with commas between.
    pub index: String,
    /// How one is let in: a key as the system hands it out (`encoded`),
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// or a name
    #[serde(default)]
    pub username: Option<String>,
    /// and its password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The authority that the nodes' certificates are of, as a file in PEM form; what the system
    /// trusts where it is not said.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Documents a page, 1 to 10,000; fewer where documents are large.
    #[serde(default = "ElasticsearchConfig::default_page")]
    pub page: u16,
    /// How a feed goes about it.
    #[serde(default)]
    pub feed: FeedConfig,
}

impl ElasticsearchConfig {
    fn default_page() -> u16 {
        5_000
    }

    /// How its nodes are asked.
    ///
    /// # Errors
    /// With the first option that is not sound.
    pub fn http(&self) -> Result<HttpConfig, ConfigError> {
        let unsound = |option: &str, cause: &str| {
            let (option, cause) = (option.to_owned(), cause.to_owned());
            Err(ConfigError::Unsound { option, cause })
        };
        let is_url = |url: &String| {
            let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            host.is_some_and(|host| !host.is_empty() && !host.contains('@'))
        };
        if self.urls.is_empty() || !self.urls.iter().all(is_url) {
            let cause = "name at least one node as https://host:9200; a name and a password do not \
                         stand there";
            return unsound("urls", cause);
        }
        let is_name = |c: char| !c.is_whitespace() && !"/\\?\"<>|#".contains(c);
        if self.index.is_empty() || !self.index.chars().all(is_name) {
            return unsound("index", "name an index or an alias, or several with commas between");
        }
        if !(1..=10_000).contains(&self.page) {
            return unsound("page", "a page has 1 to 10,000 documents");
        }
        match (&self.api_key, &self.username, &self.password) {
            (None, None, None) | (Some(_), None, None) | (None, Some(_), Some(_)) => {}
            _ => {
                return unsound("api_key", "give a key, or a name and a password, or none of them");
            }
        }
        if !(0.0..=1.0).contains(&self.feed.max_deletes) {
            return unsound("feed.max_deletes", "a share is 0 to 1: 0.05 is one in twenty");
        }
        Ok(HttpConfig {
            urls: self.urls.clone(),
            api_key: self.api_key.clone(),
            username: self.username.clone(),
            password: self.password.clone(),
            ca: self.ca.clone(),
        })
    }
}

/// How a feed goes about it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeedConfig {
    /// How often it looks what is new.
    #[serde(deserialize_with = "duration")]
    pub look: Duration,
    /// How often it compares all.
    #[serde(deserialize_with = "duration")]
    pub compare: Duration,
    /// How long a document must have been missed before it is deleted.
    #[serde(deserialize_with = "duration")]
    pub delete_after: Duration,
    /// The share of a source's documents that may be deleted within a day without a word, 0 to 1;
    /// 20 in any case, and with 1 all.
    pub max_deletes: f64,
}

impl Default for FeedConfig {
    fn default() -> FeedConfig {
        FeedConfig {
            look: Duration::from_millis(500),
            compare: Duration::from_secs(600),
            delete_after: Duration::from_secs(5),
            max_deletes: 0.05,
        }
    }
}

/// A time as people write it: `500ms`, `10s`, `10m`.
fn duration<'d, D: Deserializer<'d>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let parsed: Result<SignedDuration, _> = text.parse();
    let parsed = parsed.ok().and_then(|time| Duration::try_from(time).ok());
    let what = || D::Error::custom(format!("\"{text}\" is no time: write 500ms, 10s or 10m"));
    parsed.filter(|time| !time.is_zero()).ok_or_else(what)
}

/// Servers that are asked over HTTP, and how one is let in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpConfig {
    /// Servers that say the same.
    pub urls: Vec<String>,
    /// An API key,
    pub api_key: Option<Secret>,
    /// or a name
    pub username: Option<String>,
    /// and a password.
    pub password: Option<Secret>,
    /// The authority that their certificates are of.
    pub ca: Option<PathBuf>,
}
