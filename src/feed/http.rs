//! HTTP as feeds speak it: one request at a time, answers of bounded size.
//!
//! Shape: a request in; the answer, whatever its status, or why there is none, out; a large one as
//! it comes.
//!
//! Invariants: a request that names several servers is asked of the next where one does not answer;
//! nothing of what a server says is told but its status and the kind of its error; a secret is read
//! anew once it is refused, and never told.
//!
//! Not here: which answers are good ones.

use std::{
    fs,
    io::{self, Read},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ureq::{
    Agent, Body,
    http::{self, Request, StatusCode, header},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem},
};

use super::{Kind, SystemError};
use crate::config::{ConfigError, HttpConfig};

/// Said by a server that is not well, or of one that is not there.
const UNWELL: [StatusCode; 3] =
    [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];

/// How reading says that an answer has no end.
const BROKEN_OFF: [io::ErrorKind; 4] = [
    io::ErrorKind::InvalidData,
    io::ErrorKind::UnexpectedEof,
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionAborted,
];

/// What is read at most of an answer that is no good one.
const REFUSAL_BYTES_MAX: u64 = 1 << 20;

/// Reads what an answer of a status says.
type ReadBody<'r> = dyn FnMut(StatusCode, &mut dyn Read) -> io::Result<Vec<u8>> + 'r;

/// How long a server may take to take a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Servers that say the same, and how one is let in.
pub struct Client {
    agent: Agent,
    config: HttpConfig,
    authorization: Option<String>,
    /// The server that answered last.
    at: usize,
}

/// What a server answered.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// When it wants to be asked again, where it says so.
    pub after: Option<Duration>,
    /// What it says.
    pub body: Vec<u8>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// GET, POST, DELETE.
    pub method: &'static str,
    /// Path and query.
    pub path: &'q str,
    /// JSON, where it has one.
    pub body: Option<&'q str>,
    /// How long the whole of it may take.
    pub patience: Duration,
    /// How many bytes the answer may have.
    pub bytes_max: u64,
}

impl Client {
    /// A client of these servers.
    ///
    /// # Errors
    /// When a secret or a certificate is not to be found.
    pub fn new(config: HttpConfig) -> Result<Client, ConfigError> {
        let roots = match &config.ca {
            None => RootCerts::PlatformVerifier,
            Some(path) => {
                let unsound = |cause: String| ConfigError::Unsound {
                    option: "ca".to_owned(),
                    cause: format!("\"{}\": {cause}", path.display()),
                };
                let pem = fs::read(path).map_err(|error| unsound(error.to_string()))?;
                let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
                    .filter_map(|item| match item {
                        Ok(PemItem::Certificate(certificate)) => Some(certificate),
                        _ => None,
                    })
                    .collect();
                if certificates.is_empty() {
                    return Err(unsound("holds no certificate in PEM form".to_owned()));
                }
                RootCerts::from(certificates)
            }
        };
        let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(roots).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_PATIENCE))
            .user_agent(concat!("tributary/", env!("CARGO_PKG_VERSION")))
            .proxy(None)
            .build()
            .new_agent();
        let mut client = Client { agent, config, authorization: None, at: 0 };
        client.read_secret()?;
        Ok(client)
    }

    /// Asks.
    ///
    /// # Errors
    /// When no server answers, or the answer is too long.
    pub fn ask(&mut self, tried: &str, question: Question<'_>) -> Result<Answer, SystemError> {
        self.ask_and_read(tried, question, &mut |_, body| {
            let mut bytes = Vec::new();
            body.read_to_end(&mut bytes)?;
            Ok(bytes)
        })
    }

    /// Asks, and has a good answer read as it comes; of another one the body is in the answer.
    /// Where it breaks off, it may be asked and read anew.
    ///
    /// # Errors
    /// As `ask`, and when it cannot be read to its end.
    pub fn ask_for_much(
        &mut self,
        tried: &str,
        question: Question<'_>,
        take: &mut dyn FnMut(&mut dyn Read) -> io::Result<()>,
    ) -> Result<Answer, SystemError> {
        self.ask_and_read(tried, question, &mut |status, body| {
            let mut bytes = Vec::new();
            match status.is_success() {
                true => take(body)?,
                false => drop(body.take(REFUSAL_BYTES_MAX).read_to_end(&mut bytes)?),
            }
            Ok(bytes)
        })
    }

    fn ask_and_read(
        &mut self,
        tried: &str,
        question: Question<'_>,
        read: &mut ReadBody<'_>,
    ) -> Result<Answer, SystemError> {
        let mut answer = self.ask_all(tried, question, read)?;
        // A secret may have been replaced since it was read.
        if answer.status == StatusCode::UNAUTHORIZED && self.read_secret().is_ok_and(|new| new) {
            answer = self.ask_all(tried, question, read)?;
        }
        Ok(answer)
    }

    fn ask_all(
        &mut self,
        tried: &str,
        question: Question<'_>,
        read: &mut ReadBody<'_>,
    ) -> Result<Answer, SystemError> {
        let servers = self.config.urls.len();
        let mut failed = None;
        for next in 0..servers {
            let at = (self.at + next) % servers;
            match self.ask_one(at, question, read) {
                Ok(answer) => {
                    // One that is not well is not asked first the next time.
                    let is_well = !UNWELL.contains(&answer.status);
                    self.at = if is_well { at } else { (at + 1) % servers };
                    return Ok(answer);
                }
                Err(error) => {
                    failed =
                        Some(unanswered(format!("{tried} at {}", self.config.urls[at]), &error));
                }
            }
        }
        Err(failed.expect("there is a server"))
    }

    fn ask_one(
        &self,
        at: usize,
        question: Question<'_>,
        read: &mut ReadBody<'_>,
    ) -> Result<Answer, ureq::Error> {
        let Question { method, path, body, patience, bytes_max } = question;
        let url = format!("{}{path}", self.config.urls[at].trim_end_matches('/'));
        let mut request = Request::builder().method(method).uri(url);
        request = request.header(header::ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let configured = |request: Request<Vec<u8>>| {
            let request = self.agent.configure_request(request);
            request.timeout_global(Some(patience)).build()
        };
        let response = match body {
            None => self.agent.run(configured(request.body(Vec::new())?))?,
            Some(body) => {
                let request = request.header(header::CONTENT_TYPE, "application/json");
                self.agent.run(configured(request.body(body.as_bytes().to_vec())?))?
            }
        };
        answer(response, bytes_max, read)
    }

    /// Reads the secret; returns whether it is another one than before.
    fn read_secret(&mut self) -> Result<bool, ConfigError> {
        let HttpConfig { api_key, username, password, .. } = &self.config;
        let authorization = match (api_key, username, password) {
            (Some(key), None, None) => Some(format!("ApiKey {}", key.read("api_key")?)),
            (None, Some(name), Some(password)) => {
                let pair = format!("{name}:{}", password.read("password")?);
                Some(format!("Basic {}", BASE64.encode(pair)))
            }
            _ => None,
        };
        let is_new = authorization != self.authorization;
        self.authorization = authorization;
        Ok(is_new)
    }
}

fn answer(
    mut response: http::Response<Body>,
    bytes_max: u64,
    read: &mut ReadBody<'_>,
) -> Result<Answer, ureq::Error> {
    let status = response.status();
    let after = response.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok());
    let after = after.and_then(|after| after.parse().ok()).map(Duration::from_secs);
    // ureq has a limit of its own, of 10 MB, where none is given.
    let body = response.body_mut().with_config().limit(u64::MAX).reader();
    let mut body = body.take(bytes_max + 1);
    let read = read(status, &mut body);
    if body.limit() == 0 {
        return Err(ureq::Error::BodyExceedsLimit(bytes_max));
    }
    let body = read?;
    Ok(Answer { status, after, body })
}

/// A part of an address.
pub fn percent_coded(value: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let coded = |byte: u8| match plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    value.bytes().map(coded).collect()
}

/// What a feed is to make of a status that is no good one.
pub fn kind(status: StatusCode) -> Kind {
    match status {
        StatusCode::FORBIDDEN => Kind::Forbidden,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::GATEWAY_TIMEOUT => Kind::TooMuch,
        _ => Kind::Other,
    }
}

/// No server answered.
fn unanswered(tried: String, error: &ureq::Error) -> SystemError {
    use ureq::Error::{
        BodyExceedsLimit, ConnectionFailed, HostNotFound, Io, NativeTls, Timeout, Tls,
    };
    let reach = "is it up, and is this its address? it is asked again";
    let trust = "does `ca` name the authority that its certificate is of?";
    let again = "it is asked again";
    let (said, remedy) = match error {
        HostNotFound => ("no such host".to_owned(), reach),
        ConnectionFailed => ("nobody answers".to_owned(), reach),
        Timeout(_) => ("no answer in time".to_owned(), again),
        BodyExceedsLimit(most) => (format!("the answer is longer than {most} bytes"), again),
        NativeTls(error) => (error.to_string(), trust),
        Tls(said) => ((*said).to_owned(), trust),
        Io(error) if error.kind() == io::ErrorKind::TimedOut => {
            ("no answer in time".to_owned(), again)
        }
        Io(error) if BROKEN_OFF.contains(&error.kind()) => {
            ("the answer breaks off, or is not what it should be".to_owned(), again)
        }
        Io(error) => (error.kind().to_string(), reach),
        // The address may hold a secret.
        ureq::Error::BadUri(_) => ("the address is none".to_owned(), "write it as the docs say"),
        error => (error.to_string(), reach),
    };
    let is_too_much = match error {
        // A host that takes no connection has not heard the question.
        Timeout(at) => !matches!(at, ureq::Timeout::Resolve | ureq::Timeout::Connect),
        BodyExceedsLimit(_) => true,
        Io(error) => error.kind() == io::ErrorKind::TimedOut || BROKEN_OFF.contains(&error.kind()),
        _ => false,
    };
    let kind = if is_too_much { Kind::TooMuch } else { Kind::Other };
    SystemError { kind, ..SystemError::new(tried, said, remedy) }
}
