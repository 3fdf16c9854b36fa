//! An application in a portal: the tokens by which it is let in.
//!
//! Shape: a file of tokens in; the one that is good now out.
//!
//! Invariants: tokens that were given stand in the file before anything is asked with them, where
//! that can be written; they are told to nobody.

use std::{fs, io::Write, path::Path};

use serde::{Deserialize, Serialize};
use tracing::warn;
use ureq::http::StatusCode;

use super::api::{BYTES_MAX, PATIENCE};
use crate::{
    config::{AppConfig, ConfigError},
    feed::{
        SystemError,
        http::{Answer, Client, Question, percent_coded},
    },
};

/// An application, and its tokens as they are now.
pub(super) struct App {
    config: AppConfig,
    secret: String,
    server: Client,
    tokens: Tokens,
    /// The access token that stands in the file.
    in_file: String,
}

#[derive(Deserialize, Serialize)]
struct Tokens {
    access_token: String,
    refresh_token: String,
}

impl App {
    /// With the tokens that stand in its file, where others can be kept there.
    pub(super) fn new(config: &AppConfig) -> Result<App, ConfigError> {
        let secret = config.client_secret.read("app.client_secret")?;
        let tokens = App::read(&config.tokens)?;
        // Where others could not be kept, that is told while these are good.
        keep(&config.tokens, &tokens).map_err(|error| ConfigError::Unsound {
            option: "app.tokens".to_owned(),
            cause: format!("the file and its folder must be writable: {}", error.kind()),
        })?;
        Ok(App {
            secret,
            server: Client::new(config.http()?)?,
            in_file: tokens.access_token.clone(),
            tokens,
            config: config.clone(),
        })
    }

    /// The token that is good now.
    pub(super) fn token(&self) -> &str {
        &self.tokens.access_token
    }

    fn read(path: &Path) -> Result<Tokens, ConfigError> {
        let option = "app.tokens".to_owned();
        let text = fs::read(path).map_err(|source| ConfigError::NoSecret {
            option: option.clone(),
            path: path.to_owned(),
            source,
        })?;
        serde_json::from_slice(&text).map_err(|_| ConfigError::Unsound {
            option,
            cause: "the file does not hold {\"access_token\", \"refresh_token\"}".to_owned(),
        })
    }

    /// Changes the tokens for others, and keeps those before anything is asked with them. Where
    /// they cannot be kept they serve this process all the same: those before may be good no more.
    pub(super) fn refresh(&mut self) -> Result<(), SystemError> {
        let tried = "change the application's tokens for others";
        // Whoever installed the application anew has written others.
        if let Ok(tokens) = App::read(&self.config.tokens)
            && tokens.access_token != self.in_file
        {
            self.in_file.clone_from(&tokens.access_token);
            self.tokens = tokens;
            return Ok(());
        }
        let query = [
            ("grant_type", "refresh_token"),
            ("client_id", &self.config.client_id),
            ("client_secret", &self.secret),
            ("refresh_token", &self.tokens.refresh_token),
        ];
        let coded = |(name, value): (&str, &str)| format!("{name}={}", percent_coded(value));
        let path = format!("/oauth/token/?{}", query.map(coded).join("&"));
        let (patience, bytes_max) = (PATIENCE, BYTES_MAX);
        let question = Question { method: "GET", path: &path, body: None, patience, bytes_max };
        let Answer { status, after, body } = self.server.ask(tried, question)?;
        let fails = |said: String| {
            let remedy = match status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                true => "it is asked again",
                false => {
                    "install the application in the portal again, and put the tokens that it is \
                     given into `app.tokens`"
                }
            };
            SystemError { after, ..SystemError::new(tried.to_owned(), said, remedy) }
        };
        if !status.is_success() {
            return Err(fails(format!("the answer is {}", status.as_u16())));
        }
        let tokens: Tokens =
            serde_json::from_slice(&body).map_err(|_| fails("the answer holds none".to_owned()))?;
        self.tokens = tokens;
        let path = &self.config.tokens;
        match keep(path, &self.tokens) {
            Ok(()) => self.in_file.clone_from(&self.tokens.access_token),
            Err(error) => warn!(
                "cannot keep the application's new tokens in \"{}\" ({}): make it and its folder \
                 writable; a start before they are kept needs the application installed again",
                path.display(),
                error.kind()
            ),
        }
        Ok(())
    }
}

/// Writes tokens where they are read from, whole or not at all, for nobody else to read.
fn keep(path: &Path, tokens: &Tokens) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    serde_json::to_writer(&mut file, tokens)?;
    file.flush()?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
