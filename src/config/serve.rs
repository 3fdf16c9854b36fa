//! The journal before a cluster: where it listens, and who is let in.
//!
//! Shape: the table `[serve]` of the configuration in; plain values out.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use super::{ConfigError, Secret, is_url};

/// How `tributary serve` goes about it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeConfig {
    /// Where to listen; 127.0.0.1:8080 where it is not said.
    #[serde(default)]
    pub address: Option<SocketAddr>,
    /// The lessons, one JSON object a line; looked at again when the file changes.
    #[serde(default)]
    pub lessons: Option<PathBuf>,
    /// Names by which pages are asked for, as `journal.university.example`; this machine's own
    /// ones are known.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The bearer token of programs, which may read everything and act in anybody's name.
    #[serde(default)]
    pub token: Option<Secret>,
    /// How people are let in.
    #[serde(default)]
    pub login: Option<LoginConfig>,
}

/// People who bear a signed token (JWT), as a proxy that logs them in hands it on.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginConfig {
    /// The header in which it comes, with `Bearer ` before it or not.
    #[serde(default = "LoginConfig::default_header")]
    pub header: String,
    /// Who signs: the claim `iss`.
    pub issuer: String,
    /// For whom: the claim `aud`, or one of it.
    pub audience: String,
    /// The signer's public keys (JWKS): a file, or an address as
    /// `https://login.example/realms/university/protocol/openid-connect/certs`.
    pub keys: String,
    /// The authority that the certificate of that address is of, as a file in PEM form; what the
    /// system trusts where it is not said.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// The claim that says what somebody is: student, teacher, deanery or operator.
    #[serde(default = "LoginConfig::default_role")]
    pub role_claim: String,
    /// The claim with the number: of a student in the portal, of an employee in the deanery.
    #[serde(default = "LoginConfig::default_number")]
    pub number_claim: String,
}

impl LoginConfig {
    fn default_header() -> String {
        "authorization".to_owned()
    }

    fn default_role() -> String {
        "tributary_role".to_owned()
    }

    fn default_number() -> String {
        "tributary_number".to_owned()
    }

    /// Whether its keys are fetched; else they are read from a file.
    pub fn is_fetched(&self) -> bool {
        is_url(&self.keys)
    }
}

impl ServeConfig {
    /// Checks what can be checked without anybody else.
    ///
    /// # Errors
    /// With the first option that is not sound.
    pub fn check(&self) -> Result<(), ConfigError> {
        let unsound = |option: &str, cause: &str| {
            let (option, cause) = (format!("serve.{option}"), cause.to_owned());
            Err(ConfigError::Unsound { option, cause })
        };
        let is_name = |host: &String| {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        };
        if !self.hosts.iter().all(is_name) {
            return unsound("hosts", "a host is a name without scheme and port");
        }
        let Some(login) = &self.login else { return Ok(()) };
        for (option, text) in [
            ("issuer", &login.issuer),
            ("audience", &login.audience),
            ("role_claim", &login.role_claim),
            ("number_claim", &login.number_claim),
        ] {
            if text.is_empty() {
                return unsound(&format!("login.{option}"), "say it: an empty one lets anybody in");
            }
        }
        if axum::http::HeaderName::try_from(&login.header).is_err() {
            return unsound("login.header", "it is no name of a header");
        }
        Ok(())
    }
}
