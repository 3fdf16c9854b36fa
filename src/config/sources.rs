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
    /// A portal of Bitrix24.
    Bitrix24(Bitrix24Config),
    /// A base of 1C.
    #[serde(rename = "1c")]
    OneC(OneCConfig),
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
    pub feed: FeedFile,
}

/// Items of a portal of Bitrix24, of one kind.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bitrix24Config {
    /// The portal, as `https://name.bitrix24.ru`.
    pub url: String,
    /// Which items: `contact`, `company`, `lead`, `deal`, or the number of a kind of one's own.
    pub entity: Entity,
    /// How one is let in: by a webhook, `USER/CODE`, as it stands in its address behind `/rest/`,
    #[serde(default)]
    pub webhook: Option<Secret>,
    /// or as an application, which alone is told what changes.
    #[serde(default)]
    pub app: Option<AppConfig>,
    /// How often a second the portal lets itself be asked; all sources of a portal share it.
    #[serde(default = "Bitrix24Config::default_rate")]
    pub requests_per_second: f64,
    /// The authority that the portal's certificate is of, as a file in PEM form; what the system
    /// trusts where it is not said.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// How a feed goes about it.
    #[serde(default)]
    pub feed: FeedFile,
}

/// An application of a portal.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppConfig {
    /// What it is called there.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// A file with `{"access_token", "refresh_token"}`. It is written anew whenever the tokens are
    /// changed for others: a refresh token is good once, so nobody else may use it.
    pub tokens: PathBuf,
    /// Where tokens are changed for others.
    #[serde(default = "AppConfig::default_server")]
    pub server: String,
}

/// A kind of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "EntityFile")]
pub enum Entity {
    /// People.
    Contact,
    /// Companies.
    Company,
    /// Leads.
    Lead,
    /// Deals.
    Deal,
    /// Of one's own, by its number.
    Own(u32),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum EntityFile {
    Name(String),
    Number(u32),
}

impl TryFrom<EntityFile> for Entity {
    type Error = &'static str;

    fn try_from(file: EntityFile) -> Result<Entity, &'static str> {
        match file {
            EntityFile::Name(name) => match name.as_str() {
                "contact" => Ok(Entity::Contact),
                "company" => Ok(Entity::Company),
                "lead" => Ok(Entity::Lead),
                "deal" => Ok(Entity::Deal),
                _ => Err("entity is contact, company, lead, deal, or a number"),
            },
            EntityFile::Number(number) => Ok(Entity::Own(number)),
        }
    }
}

/// Entries of a base of 1C, of one kind.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneCConfig {
    /// The base's OData interface, as `https://host/base/odata/standard.odata`.
    pub url: String,
    /// Which entries, as `Catalog_Студенты`.
    pub entity: String,
    /// Who asks,
    #[serde(default)]
    pub username: Option<String>,
    /// and the password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The plan of exchange that says what changes, as `ExchangePlan_Tributary`; without it changes
    /// are found by comparison alone.
    #[serde(default)]
    pub exchange: Option<String>,
    /// The code of the feed's node in that plan. Nobody else may exchange under it.
    #[serde(default)]
    pub node: Option<String>,
    /// How large a message of changes may be.
    #[serde(default = "OneCConfig::default_message_bytes")]
    pub message_bytes_max: u64,
    /// The authority that the server's certificate is of, as a file in PEM form; what the system
    /// trusts where it is not said.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// How a feed goes about it.
    #[serde(default)]
    pub feed: FeedFile,
}

/// How a feed goes about it, as far as it is said.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeedFile {
    /// How often it looks what is new.
    #[serde(deserialize_with = "duration")]
    look: Option<Duration>,
    /// How often it compares all.
    #[serde(deserialize_with = "duration")]
    compare: Option<Duration>,
    /// How long a document must have been missed before it is deleted.
    #[serde(deserialize_with = "duration")]
    delete_after: Option<Duration>,
    /// The share of a source's documents that may be deleted within a day without a word, 0 to 1;
    /// 20 in any case, and with 1 all.
    max_deletes: Option<f64>,
}

/// How a feed goes about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeedConfig {
    /// How often it looks what is new.
    pub look: Duration,
    /// How often it compares all.
    pub compare: Duration,
    /// How long a document must have been missed before it is deleted.
    pub delete_after: Duration,
    /// The share of a source's documents that may be deleted within a day without a word.
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

impl SourceConfig {
    /// How its feed goes about it. What is not said is as suits a system of its kind.
    ///
    /// # Errors
    /// When it is not sound.
    pub fn feed(&self) -> Result<FeedConfig, ConfigError> {
        let (file, look_s, compare_s) = match self {
            SourceConfig::Elasticsearch(config) => (&config.feed, 0.5, 600),
            SourceConfig::Bitrix24(config) => (&config.feed, 2.0, 3_600),
            SourceConfig::OneC(config) => (&config.feed, 5.0, 24 * 3_600),
        };
        let max_deletes = file.max_deletes.unwrap_or(FeedConfig::default().max_deletes);
        if !(0.0..=1.0).contains(&max_deletes) {
            return unsound("feed.max_deletes", "a share is 0 to 1: 0.05 is one in twenty");
        }
        Ok(FeedConfig {
            look: file.look.unwrap_or(Duration::from_secs_f64(look_s)),
            compare: file.compare.unwrap_or(Duration::from_secs(compare_s)),
            delete_after: file.delete_after.unwrap_or(FeedConfig::default().delete_after),
            max_deletes,
        })
    }
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
        if self.urls.is_empty() || !self.urls.iter().all(|url| is_url(url)) {
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
        Ok(HttpConfig {
            urls: self.urls.clone(),
            api_key: self.api_key.clone(),
            username: self.username.clone(),
            password: self.password.clone(),
            ca: self.ca.clone(),
        })
    }
}

impl Bitrix24Config {
    fn default_rate() -> f64 {
        2.0
    }

    /// How the portal is asked.
    ///
    /// # Errors
    /// With the first option that is not sound.
    pub fn http(&self) -> Result<HttpConfig, ConfigError> {
        if !is_url(&self.url) {
            return unsound("url", "name the portal as https://name.bitrix24.ru, and no more");
        }
        if self.webhook.is_some() == self.app.is_some() {
            return unsound("webhook", "give either a webhook or an app");
        }
        if !(0.01..=50.0).contains(&self.requests_per_second) {
            return unsound("requests_per_second", "0.01 to 50; a portal lets 2, some plans 5");
        }
        Ok(HttpConfig { urls: vec![self.url.clone()], ca: self.ca.clone(), ..Default::default() })
    }
}

impl AppConfig {
    fn default_server() -> String {
        "https://oauth.bitrix.info".to_owned()
    }

    /// How the server is asked that changes tokens.
    ///
    /// # Errors
    /// Where it is not named soundly.
    pub fn http(&self) -> Result<HttpConfig, ConfigError> {
        if !is_url(&self.server) {
            return unsound("app.server", "name it as https://oauth.bitrix.info");
        }
        Ok(HttpConfig { urls: vec![self.server.clone()], ..Default::default() })
    }
}

impl Entity {
    /// Its number.
    pub fn number(self) -> u32 {
        match self {
            Entity::Lead => 1,
            Entity::Deal => 2,
            Entity::Contact => 3,
            Entity::Company => 4,
            Entity::Own(number) => number,
        }
    }

    /// What the portal calls that something happens to one: `add`, `update` or `delete`.
    pub fn event(self, what: &str) -> String {
        let what = what.to_uppercase();
        match self {
            Entity::Lead => format!("ONCRMLEAD{what}"),
            Entity::Deal => format!("ONCRMDEAL{what}"),
            Entity::Contact => format!("ONCRMCONTACT{what}"),
            Entity::Company => format!("ONCRMCOMPANY{what}"),
            Entity::Own(number) => format!("ONCRMDYNAMICITEM{what}_{number}"),
        }
    }
}

impl OneCConfig {
    fn default_message_bytes() -> u64 {
        4 << 30
    }

    /// How the base is asked.
    ///
    /// # Errors
    /// With the first option that is not sound.
    pub fn http(&self) -> Result<HttpConfig, ConfigError> {
        if !is_url(&self.url) {
            return unsound("url", "name it as https://host/base/odata/standard.odata");
        }
        let is_name =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if !is_name(&self.entity) {
            return unsound("entity", "name one as Catalog_Students, as the base publishes it");
        }
        if self.entity.split('_').next().is_some_and(|class| class.ends_with("Register")) {
            let cause = "what a register says has no key of its own, and cannot be a document: \
                         name a catalog, or another class of objects that have a Ref_Key";
            return unsound("entity", cause);
        }
        if self.exchange.is_some() != self.node.is_some() {
            return unsound("exchange", "a plan needs a node, and a node its plan");
        }
        let named = self.exchange.as_deref().is_none_or(is_name);
        if !named {
            return unsound("exchange", "name it as ExchangePlan_Tributary");
        }
        if self.username.is_some() != self.password.is_some() {
            return unsound("username", "give a name and a password, or none of them");
        }
        Ok(HttpConfig {
            urls: vec![self.url.clone()],
            username: self.username.clone(),
            password: self.password.clone(),
            ca: self.ca.clone(),
            ..Default::default()
        })
    }
}

fn unsound<T>(option: &str, cause: &str) -> Result<T, ConfigError> {
    let (option, cause) = (option.to_owned(), cause.to_owned());
    Err(ConfigError::Unsound { option, cause })
}

pub(super) fn is_url(url: &str) -> bool {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && !host.contains('@'))
}

/// A time as people write it: `500ms`, `10s`, `10m`.
pub(super) fn duration<'d, D: Deserializer<'d>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    let parsed: Result<SignedDuration, _> = text.parse();
    let parsed = parsed.ok().and_then(|time| Duration::try_from(time).ok());
    let what = || D::Error::custom(format!("\"{text}\" is no time: write 500ms, 10s or 10m"));
    parsed.filter(|time| !time.is_zero()).map(Some).ok_or_else(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(), String> {
        let source: SourceConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        let http = match &source {
            SourceConfig::Elasticsearch(config) => config.http(),
            SourceConfig::Bitrix24(config) => config.http(),
            SourceConfig::OneC(config) => config.http(),
        };
        http.and_then(|_| source.feed()).map(drop).map_err(|error| error.to_string())
    }

    const SECRET: &str = "{ env = \"KEY\" }";

    #[test]
    fn sources_are_checked_before_anything_is_asked() {
        let source = |url: &str, more: &str| {
            read(&format!("kind = \"elasticsearch\"\nurls = [{url}]\nindex = \"people\"\n{more}"))
        };
        let good = "\"https://a:1\"";
        assert_eq!(source(good, &format!("api_key = {SECRET}")), Ok(()));
        assert_eq!(source(good, &format!("username = \"a\"\npassword = {SECRET}")), Ok(()));
        for (wrong, option) in [
            ("page = 0", "page"),
            ("page = 10001", "page"),
            ("username = \"a\"", "api_key"),
            ("feed = { max_deletes = 5.0 }", "feed.max_deletes"),
            ("feed = { max_deletes = nan }", "feed.max_deletes"),
        ] {
            assert!(source(good, wrong).expect_err(wrong).starts_with(option), "{wrong}");
        }
        for wrong in ["", "\"es:9200\"", "\"https://a:hush@es:9200\""] {
            let said = source(wrong, "").expect_err(wrong);
            assert!(said.starts_with("urls") && !said.contains("hush"), "{said}");
        }
        assert!(toml::from_str::<FeedFile>("look = \"0s\"").is_err());
        assert!(toml::from_str::<FeedFile>("look = \"often\"").is_err());
    }

    #[test]
    fn portals_and_bases_are_checked_too() {
        let portal = |entity: &str, more: &str| {
            let text = "kind = \"bitrix24\"\nurl = \"https://a\"";
            read(&format!("{text}\nentity = {entity}\n{more}"))
        };
        let webhook = format!("webhook = {SECRET}");
        assert_eq!(portal("\"contact\"", &webhook), Ok(()));
        assert_eq!(portal("180", &webhook), Ok(()));
        assert!(portal("\"person\"", &webhook).is_err());
        assert!(portal("\"contact\"", "").expect_err("no way in").starts_with("webhook"));
        let often = format!("{webhook}\nrequests_per_second = 100.0");
        assert!(portal("3", &often).expect_err("too often").starts_with("requests_per_second"));
        let base = |more: &str| {
            let text = "kind = \"1c\"\nurl = \"https://a/b/odata/standard.odata\"";
            read(&format!("{text}\nentity = \"Catalog_Студенты\"\n{more}"))
        };
        assert_eq!(base(""), Ok(()));
        assert_eq!(base("exchange = \"ExchangePlan_A\"\nnode = \"T\""), Ok(()));
        assert!(base("exchange = \"ExchangePlan_A\"").expect_err("no node").starts_with("exch"));
        assert!(base("username = \"a\"").expect_err("no password").starts_with("username"));
        let register = "kind = \"1c\"\nurl = \"https://a/b\"\nentity = \"InformationRegister_A\"";
        assert!(read(register).expect_err("no keys").contains("no key of its own"));
    }

    #[test]
    fn feeds_go_about_it_as_suits_their_systems() {
        let text =
            format!("kind = \"bitrix24\"\nurl = \"https://a\"\nentity = 3\nwebhook = {SECRET}");
        let of = |more: &str| {
            let source = toml::from_str::<SourceConfig>(&format!("{text}\n{more}"));
            source.expect("it is sound").feed().expect("it is sound")
        };
        assert_eq!(of("").compare, Duration::from_secs(3_600));
        let said = of("feed = { look = \"1s\" }");
        assert_eq!((said.look, said.compare), (Duration::from_secs(1), of("").compare));
    }
}
