//! Logins: people whom a proxy has logged in, by the token that it hands on.
//!
//! Shape: the value of a header in; somebody, or why nobody, out.
//!
//! Invariants: a token counts only if one of the signer's public keys has signed it, it is of this
//! issuer and for this audience, and its time has not passed; no secret is shared with the signer,
//! so nobody who reads the configuration can make one. Keys are looked at again when a token names
//! one that is not known, and once an hour.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::http::HeaderName;
use jsonwebtoken::{AlgorithmFamily, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::{Map, Value};

use super::door::Visitor;
use crate::{
    config::{HttpConfig, LoginConfig},
    feed::http::{Client, Question},
    journal::rules::Person,
};

/// For so long keys are believed without another look.
const KEYS_AGE_MAX: Duration = Duration::from_secs(3_600);

/// Between looks that fail.
const BETWEEN_FAILURES: Duration = Duration::from_secs(300);

/// Between looks because of keys that are not known: who invents their names would have them
/// fetched at each request.
const BETWEEN_LOOKS: Duration = Duration::from_secs(10);

/// How long the signer may take to hand out its keys, and how many bytes they may have.
const PATIENCE: Duration = Duration::from_secs(10);
const KEYS_BYTES_MAX: u64 = 1 << 20;

/// Longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// How people are let in.
pub struct Login {
    config: LoginConfig,
    header: HeaderName,
    keys: RwLock<Arc<JwkSet>>,
    /// When they were looked at last; held while they are.
    looked: Mutex<Instant>,
    /// Whether they could not be had then.
    has_failed: AtomicBool,
}

/// The signer's keys cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the keys of logins \"{keys}\": {cause}; serve.login.keys names a JWKS")]
pub struct NoKeys {
    keys: String,
    cause: String,
}

impl Login {
    /// Logins of a configuration that was checked.
    ///
    /// # Errors
    /// When the keys cannot be had.
    pub fn new(config: LoginConfig) -> Result<Login, NoKeys> {
        let keys = RwLock::new(Arc::new(read(&config)?));
        let header = HeaderName::try_from(&config.header).expect("it was checked");
        Ok(Login {
            config,
            header,
            keys,
            looked: Mutex::new(Instant::now()),
            has_failed: AtomicBool::new(false),
        })
    }

    /// The header in which tokens come.
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Whose token it is; an error says what is wrong with it.
    pub fn visitor(&self, value: &str) -> Result<Visitor, String> {
        let token = value.strip_prefix("Bearer ").unwrap_or(value).trim();
        if token.len() > TOKEN_BYTES_MAX {
            return Err("the token is too long".to_owned());
        }
        let wrong = |error: jsonwebtoken::errors::Error| format!("the token is not good: {error}");
        let header = decode_header(token).map_err(wrong)?;
        let mut keys = self.keys();
        let knows = |keys: &JwkSet| match &header.kid {
            Some(kid) => keys.find(kid).is_some(),
            None => !keys.keys.is_empty(),
        };
        if !knows(&keys) {
            self.look(BETWEEN_LOOKS);
            keys = self.keys();
        }
        let key = match &header.kid {
            Some(kid) => keys.find(kid),
            None => keys.keys.first().filter(|_| keys.keys.len() == 1),
        };
        let key = key.ok_or("the token names a key that its signer does not have")?;
        let key = DecodingKey::from_jwk(key).map_err(wrong)?;
        if key.family() == AlgorithmFamily::Hmac {
            return Err("a key that is shared signs nothing here".to_owned());
        }
        let mut validation = Validation::new_for_family(key.family());
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.validate_nbf = true;
        let claims = decode::<Map<String, Value>>(token, &key, &validation).map_err(wrong)?.claims;
        self.of_claims(&claims)
    }

    fn of_claims(&self, claims: &Map<String, Value>) -> Result<Visitor, String> {
        let LoginConfig { role_claim, number_claim, .. } = &self.config;
        let role = claims.get(role_claim).and_then(Value::as_str).unwrap_or_default();
        let number = match claims.get(number_claim) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.is_empty() => None,
            Some(value) => {
                let number = match value {
                    Value::String(text) => text.parse().ok(),
                    value => value.as_u64().and_then(|number| u32::try_from(number).ok()),
                };
                Some(number.ok_or_else(|| format!("the claim {number_claim} is no number"))?)
            }
        };
        let person = match (role, number) {
            ("student", Some(number)) => Person::Student(number),
            ("teacher", number) => Person::Teacher(number),
            ("deanery", number) => Person::Deanery(number),
            ("operator", _) => return Ok(Visitor::Operator),
            ("student", None) => return Err(format!("the claim {number_claim} is missing")),
            _ => {
                return Err(format!(
                    "the claim {role_claim} is student, teacher, deanery or operator"
                ));
            }
        };
        Ok(Visitor::Person(person))
    }

    fn keys(&self) -> Arc<JwkSet> {
        Arc::clone(&self.keys.read().expect("nobody panics while holding it"))
    }

    /// Looks at the keys once an hour, beside whoever asks: what the signer has withdrawn signs
    /// nothing more.
    pub fn refresh(self: &Arc<Login>) {
        let has_failed = self.has_failed.load(Ordering::Relaxed);
        let age = if has_failed { BETWEEN_FAILURES } else { KEYS_AGE_MAX };
        let is_due = |looked: MutexGuard<'_, Instant>| looked.elapsed() >= age;
        if self.looked.try_lock().is_ok_and(is_due) {
            let login = Arc::clone(self);
            std::thread::spawn(move || login.look(age));
        }
    }

    /// Looks at the keys anew, if that is so long ago and nobody else does just now; where they
    /// cannot be had, those that are known stand.
    fn look(&self, age: Duration) {
        let Ok(mut looked) = self.looked.try_lock() else { return };
        if looked.elapsed() < age {
            return;
        }
        let keys = read(&self.config);
        self.has_failed.store(keys.is_err(), Ordering::Relaxed);
        match keys {
            Ok(keys) => {
                *self.keys.write().expect("nobody panics while holding it") = Arc::new(keys);
            }
            Err(error) => tracing::warn!("those that are known stand: {error}"),
        }
        *looked = Instant::now();
    }
}

fn read(config: &LoginConfig) -> Result<JwkSet, NoKeys> {
    let no_keys = |cause: String| NoKeys { keys: config.keys.clone(), cause };
    let bytes = match config.is_fetched() {
        true => fetch(config).map_err(no_keys)?,
        false => fs::read(&config.keys).map_err(|error| no_keys(error.to_string()))?,
    };
    serde_json::from_slice(&bytes).map_err(|error| no_keys(error.to_string()))
}

fn fetch(config: &LoginConfig) -> Result<Vec<u8>, String> {
    let place = config.keys.find("://").map_or(0, |place| place + 3);
    let path = config.keys[place..].find('/').map_or(config.keys.len(), |slash| place + slash);
    let (server, path) = config.keys.split_at(path);
    let (urls, ca): (_, Option<PathBuf>) = (vec![server.to_owned()], config.ca.clone());
    let http = HttpConfig { urls, ca, api_key: None, username: None, password: None };
    let mut client = Client::new(http).map_err(|error| error.to_string())?;
    let question = Question {
        method: "GET",
        path: if path.is_empty() { "/" } else { path },
        body: None,
        patience: PATIENCE,
        bytes_max: KEYS_BYTES_MAX,
    };
    let answer = client.ask("ask for the keys of logins", question);
    let answer = answer.map_err(|error| error.to_string())?;
    match answer.status.is_success() {
        true => Ok(answer.body),
        false => Err(format!("the server answered {}", answer.status)),
    }
}

#[cfg(test)]
mod tests;
