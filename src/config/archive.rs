//! The archive of a dataflow's inputs: where it lies.
//!
//! Shape: the table `[archive]` of the configuration in; plain values out.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{ConfigError, Property, sources::duration};

/// Longest time until what came is kept.
const EVERY_MAX: Duration = Duration::from_secs(900);

/// Where the inputs of a dataflow are kept beyond what their topics hold.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveConfig {
    /// A folder, or `s3://bucket/prefix` of a store that speaks S3. Several hosts need one that all
    /// of them reach.
    pub place: String,
    /// What the store is to be told, as `aws_endpoint`, `aws_region`, `aws_access_key_id`; a secret
    /// is `{ file = ... }` or `{ env = ... }`.
    #[serde(default)]
    pub options: BTreeMap<String, Property>,
    /// How often what came is kept, as `60s`.
    #[serde(default, deserialize_with = "duration")]
    pub every: Option<Duration>,
}

impl ArchiveConfig {
    /// An archive in a folder.
    pub fn in_folder(place: &str) -> ArchiveConfig {
        ArchiveConfig { place: place.to_owned(), options: BTreeMap::new(), every: None }
    }

    /// What the store is to be told, secrets resolved.
    ///
    /// # Errors
    /// With the first option that is not sound, or whose secret is not to be found.
    pub fn resolve(&self) -> Result<Vec<(String, String)>, ConfigError> {
        if self.every.is_some_and(|every| every.is_zero() || every > EVERY_MAX) {
            let cause = "it is more than nothing and at most 15m: files that no manifest names are \
                         removed after an hour";
            let option = "archive.every".to_owned();
            return Err(ConfigError::Unsound { option, cause: cause.to_owned() });
        }
        let resolved = self.options.iter().map(|(name, property)| {
            let option = format!("archive.options.{name}");
            Ok((name.clone(), property.resolve(&option)?))
        });
        resolved.collect()
    }
}
