//! A server of ClickHouse, asked one thing after the other.
//!
//! Shape: statements and blocks of rows in; rows as JSON, or why not, out.
//!
//! Invariants: each question has its time and then is given up; of what the server says nothing is
//! told but the number and the name of its error: its text may quote rows. Whether an insert that
//! was given up was done is not known; whoever inserts may do so again.

use std::{fmt, fs, future::Future, time::Duration};

use clickhouse::{Client, error::Error as ClientError};
use hyper_tls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use native_tls::{Certificate, TlsConnector};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::runtime::Runtime;

use super::view::FRONTIERS;
use crate::{
    config::{ClickHouseConfig, ConfigError},
    time::Epoch,
};

/// How long a statement may take, and a block of rows.
const PATIENCE: Duration = Duration::from_secs(30);
const INSERT_PATIENCE: Duration = Duration::from_secs(120);

/// How long a connection that nobody uses is kept: the server closes it after 3 s.
const IDLE: Duration = Duration::from_secs(2);

/// A server.
pub struct Server {
    client: Client,
    runtime: Runtime,
    /// The database that is meant.
    pub(super) database: String,
    /// Where it is, for people.
    url: String,
    insert_patience: Duration,
}

/// What was asked of a server was not done, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {tried} in ClickHouse at {url}: {said}; {}", said.remedy())]
pub struct ServerError {
    /// What was to be done.
    pub tried: String,
    /// Where.
    pub url: String,
    /// What the server said, or that it said nothing.
    pub said: Said,
}

/// What a server said instead of doing what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Nothing: it cannot be reached, or broke off.
    Nothing,
    /// Nothing in time.
    TooLate,
    /// An error of its own, by number and name.
    Code(u32, String),
    /// Something that is no answer of ClickHouse.
    Else,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Nothing => f.write_str("it does not answer"),
            Said::TooLate => f.write_str("no answer in time"),
            Said::Code(code, name) => write!(f, "error {code} ({name})"),
            Said::Else => f.write_str("the answer is not what ClickHouse answers"),
        }
    }
}

/// The server's numbers of errors that have a remedy of their own.
mod code {
    pub(super) const NO_SUCH_COLUMN: u32 = 16;
    pub(super) const TABLE_IS_THERE: u32 = 57;
    pub(super) const UNKNOWN_TABLE: u32 = 60;
    pub(super) const UNKNOWN_DATABASE: u32 = 81;
    /// What was asked cannot be asked so, of this version or with these types or settings.
    pub(super) const WRONG: [u32; 12] = [36, 44, 46, 47, 50, 53, 62, 70, 115, 117, 344, 452];
    pub(super) const NO_SUCH_USER: [u32; 3] = [192, 193, 194];
    pub(super) const TIMEOUT: u32 = 159;
    pub(super) const READONLY: u32 = 164;
    pub(super) const TOO_MANY_QUERIES: u32 = 202;
    pub(super) const MEMORY_LIMIT: u32 = 241;
    pub(super) const TABLE_IS_READ_ONLY: u32 = 242;
    pub(super) const NOT_ENOUGH_SPACE: u32 = 243;
    pub(super) const TOO_MANY_PARTS: u32 = 252;
    pub(super) const NO_ACCESS: u32 = 497;
    pub(super) const NOT_LET_IN: u32 = 516;
}

impl Said {
    /// Whether it may pass by itself.
    pub fn may_pass(&self) -> bool {
        match self {
            Said::Nothing | Said::TooLate | Said::Else => true,
            // A server that ends, is overloaded or cannot reach its own parts has many numbers for
            // that; what never passes has few.
            Said::Code(code, _) => {
                let stays = [
                    code::NO_SUCH_COLUMN,
                    code::TABLE_IS_THERE,
                    code::UNKNOWN_TABLE,
                    code::UNKNOWN_DATABASE,
                    code::READONLY,
                    code::NO_ACCESS,
                    code::NOT_LET_IN,
                ];
                let stays = stays.iter().chain(&code::WRONG).chain(&code::NO_SUCH_USER);
                !stays.into_iter().any(|stays| stays == code)
            }
        }
    }

    fn remedy(&self) -> &'static str {
        match self {
            Said::Nothing => "is it up, and does clickhouse.url name its HTTP interface?",
            Said::TooLate => "has it too much to do?",
            Said::Else => "is this the address of its HTTP interface?",
            Said::Code(code, _) => match *code {
                code::NO_SUCH_COLUMN => "`tributary check` names the column, and what adds it",
                code::UNKNOWN_TABLE => "`tributary init` makes the tables",
                code::UNKNOWN_DATABASE => "make the database that clickhouse.database names",
                code::TIMEOUT | code::TOO_MANY_QUERIES => "it has too much to do",
                code::READONLY | code::NO_ACCESS => {
                    "give this user the rights that sql/README.md lists"
                }
                code::MEMORY_LIMIT => "it has too little memory for its queries",
                code::TABLE_IS_READ_ONLY => "look why the table takes nothing",
                code::NOT_ENOUGH_SPACE => "give its disk more room",
                code::TOO_MANY_PARTS => "its merges fall behind",
                code if code == code::NOT_LET_IN || code::NO_SUCH_USER.contains(&code) => {
                    "check clickhouse.username and clickhouse.password"
                }
                code if code::WRONG.contains(&code) => "look into the server's log",
                _ => "look into the server's log",
            },
        }
    }
}

impl Server {
    /// The server of a configuration; nothing is asked yet.
    ///
    /// # Errors
    /// When the configuration is not sound.
    pub fn new(config: &ClickHouseConfig) -> Result<Server, ConfigError> {
        config.check()?;
        let mut tls = TlsConnector::builder();
        if let Some(path) = &config.ca {
            let unsound = |cause: String| ConfigError::Unsound {
                option: "clickhouse.ca".to_owned(),
                cause: format!("\"{}\": {cause}", path.display()),
            };
            let pem = fs::read(path).map_err(|error| unsound(error.to_string()))?;
            let authority = Certificate::from_pem(&pem);
            let none = |_| unsound("holds no certificate in PEM form".to_owned());
            tls.disable_built_in_roots(true).add_root_certificate(authority.map_err(none)?);
        }
        let tls = tls.build().map_err(|error| ConfigError::Unsound {
            option: "clickhouse.url".to_owned(),
            cause: format!("TLS cannot be set up: {error}"),
        })?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let connector = HttpsConnector::from((tcp, tls.into()));
        let http =
            HttpClient::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(connector);
        let mut client = Client::with_http_client(http)
            .with_url(&config.url)
            .with_database(&config.database)
            .with_product_info("tributary", env!("CARGO_PKG_VERSION"))
            // What is answered is to be there, whatever the user's profile says.
            .with_setting("async_insert", "0");
        if let Some(name) = &config.username {
            client = client.with_user(name);
        }
        if let Some(password) = &config.password {
            client = client.with_password(password.read("clickhouse.password")?);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the system lets a runtime be made");
        let (database, url) = (config.database.clone(), config.url.clone());
        let insert_patience = config.insert_timeout.unwrap_or(INSERT_PATIENCE);
        Ok(Server { client, runtime, database, url, insert_patience })
    }

    /// The same server, of which another database is meant.
    pub(super) fn within(&self, database: &str) -> Within<'_> {
        Within { server: self, client: self.client.clone().with_database(database) }
    }

    /// Has a statement carried out.
    ///
    /// # Errors
    /// When the server does not say that it was.
    pub fn execute(&self, tried: &str, statement: &str) -> Result<(), ServerError> {
        // A question mark in a statement stands for itself.
        let asked = self.client.query_raw(statement).execute();
        self.wait(tried, PATIENCE, asked)
    }

    /// What a question brings, a row as a JSON object; numbers of 64 bits are numbers.
    ///
    /// # Errors
    /// When the server does not answer it.
    pub fn rows<T: DeserializeOwned>(
        &self,
        tried: &str,
        question: &str,
    ) -> Result<Vec<T>, ServerError> {
        let query = self.client.query_raw(question);
        let query = query.with_setting("output_format_json_quote_64bit_integers", "0");
        let asked = async {
            let mut cursor = query.fetch_bytes("JSONEachRow")?;
            let mut text = Vec::new();
            while let Some(piece) = cursor.next().await? {
                text.extend_from_slice(&piece);
            }
            Ok(text)
        };
        let text = self.wait(tried, PATIENCE, asked)?;
        let rows = serde_json::Deserializer::from_slice(&text).into_iter::<T>();
        rows.collect::<Result<_, _>>().map_err(|_| self.failed(tried, Said::Else))
    }

    /// The UUID of the table that bears a name now; empty where there is none.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn uuid(&self, table: &str) -> Result<String, ServerError> {
        #[derive(Deserialize)]
        struct Uuid {
            uuid: String,
        }
        let question = format!(
            "SELECT toString(uuid) AS uuid FROM system.tables WHERE database = {} AND name = {}",
            quoted(&self.database),
            quoted(table)
        );
        let found: Vec<Uuid> = self.rows(&format!("look for {table}"), &question)?;
        Ok(found.into_iter().next().map(|found| found.uuid).unwrap_or_default())
    }

    /// Up to which epoch all rows of a table are said to be there; 0 where nothing is said.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn frontier(&self, uuid: &str) -> Result<Epoch, ServerError> {
        #[derive(Deserialize)]
        struct Row {
            epoch: Epoch,
        }
        let question = format!(
            "SELECT max(epoch) AS epoch FROM {FRONTIERS} WHERE table_uuid = {}",
            quoted(uuid)
        );
        let found: Vec<Row> = self.rows("ask for a frontier", &question)?;
        Ok(found.first().map_or(0, |found| found.epoch))
    }

    /// Inserts rows, as bytes in the format that the statement names. `settings` hold for it alone.
    ///
    /// # Errors
    /// When the server does not say that it has them: it may have them all the same.
    pub fn insert(
        &self,
        tried: &str,
        statement: &str,
        settings: &[(&str, &str)],
        rows: Vec<u8>,
    ) -> Result<(), ServerError> {
        let mut insert = self.client.insert_formatted_with(statement);
        for (name, value) in settings {
            insert = insert.with_setting(*name, *value);
        }
        let asked = async move {
            insert.send(rows.into()).await?;
            insert.end().await
        };
        self.wait(tried, self.insert_patience, asked)
    }

    fn wait<T>(
        &self,
        tried: &str,
        patience: Duration,
        asked: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ServerError> {
        let within = self.runtime.block_on(async { tokio::time::timeout(patience, asked).await });
        match within {
            Ok(answered) => answered.map_err(|error| self.failed(tried, said(&error))),
            Err(_) => Err(self.failed(tried, Said::TooLate)),
        }
    }

    fn failed(&self, tried: &str, said: Said) -> ServerError {
        ServerError { tried: tried.to_owned(), url: self.url.clone(), said }
    }
}

/// A database of a server.
pub(super) struct Within<'s> {
    server: &'s Server,
    client: Client,
}

impl Within<'_> {
    /// As `Server::execute`, there.
    pub(super) fn execute(&self, tried: &str, statement: &str) -> Result<(), ServerError> {
        self.server.wait(tried, PATIENCE, self.client.query_raw(statement).execute())
    }
}

/// What an error of the client says of the server.
fn said(error: &ClientError) -> Said {
    match error {
        ClientError::Network(_) => Said::Nothing,
        ClientError::TimedOut => Said::TooLate,
        ClientError::BadResponse(text) => code_of(text).unwrap_or(Said::Else),
        _ => Said::Else,
    }
}

/// The number and the name of an error: `Code: 60. DB::Exception: ... (UNKNOWN_TABLE) (version
/// ...)`.
fn code_of(text: &str) -> Option<Said> {
    let (_, after) = text.split_once("Code: ")?;
    let (code, after) = after.split_once('.')?;
    let is_name = |word: &&str| {
        !word.is_empty()
            && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    let names = after.split('(').skip(1).filter_map(|part| part.split_once(')'));
    let name = names.map(|(name, _)| name).filter(is_name).last().unwrap_or_default();
    Some(Said::Code(code.parse().ok()?, name.to_owned()))
}

/// A name as statements hold it.
pub(super) fn named(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A text as statements hold it.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_known_by_number_and_name_and_tell_nothing_of_rows() {
        let text = "Code: 252. DB::Exception: Too many parts (3000 with average size of 1.00 KiB) \
                    in table 'a.b'. Merges are processing significantly slower than inserts: while \
                    pushing 'Иванов'. (TOO_MANY_PARTS) (version 26.9.2.1 (official build))\n";
        assert_eq!(code_of(text), Some(Said::Code(252, "TOO_MANY_PARTS".to_owned())));
        assert_eq!(code_of("<html>502</html>"), None);
        let error = ServerError {
            tried: "insert rows into a".to_owned(),
            url: "http://h".to_owned(),
            said: code_of(text).expect("one"),
        };
        assert_eq!(
            error.to_string(),
            "cannot insert rows into a in ClickHouse at http://h: error 252 (TOO_MANY_PARTS); its \
             merges fall behind"
        );
    }

    #[test]
    fn names_and_texts_stay_within_their_quotes() {
        assert_eq!(named("a`b"), "`a\\`b`");
        assert_eq!(quoted("a'b\\"), "'a\\'b\\\\'");
    }
}
