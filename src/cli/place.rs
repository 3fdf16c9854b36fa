//! Where a dataflow runs: options that several subcommands share.
//!
//! Shape: a configuration or the addresses of brokers in; a client and the names of the inputs out.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use crate::{
    config::{ClickHouseConfig, Config, KafkaConfig},
    engine::Names,
    kafka::Kafka,
    spec::Spec,
};

/// Which brokers.
#[derive(Debug, Args)]
pub(super) struct PlaceOptions {
    /// Brokers of Kafka, host:port, several with commas between; the short form of a configuration
    /// that says no more than that.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "config")]
    kafka: Option<String>,

    /// A configuration of the place: brokers, how one is let in, names of the inputs; see
    /// docs/kafka.md.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The dataflow under another name than that in its file: over the same inputs, with outputs,
    /// progress, archive and tables of its own, as `tributary backfill` makes them.
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
}

impl PlaceOptions {
    /// A spec under the name that is asked for.
    pub(super) fn spec(&self, path: &Path) -> Result<Spec, Failure> {
        let spec = Spec::load(path)?;
        let Some(name) = &self.name else { return Ok(spec) };
        let named = spec.named(name);
        named.map_err(|hint| Failure::Arguments(format!("--as \"{name}\" is no name: {hint}")))
    }

    /// A spec under the name that is asked for, which is to be another one than in its file.
    pub(super) fn own_spec(&self, path: &Path) -> Result<Spec, Failure> {
        let spec = self.spec(path)?;
        match spec.is_renamed() {
            true => Ok(spec),
            false => Err(Failure::Arguments(format!(
                "name the dataflow that was made anew, under a name other than \"{}\": --as {}_2",
                spec.name, spec.name
            ))),
        }
    }

    /// Whether brokers are named.
    pub(super) fn is_given(&self) -> bool {
        self.kafka.is_some() || self.config.is_some()
    }

    /// The configuration of the place.
    pub(super) fn config(&self) -> Result<Config, Failure> {
        match (&self.kafka, &self.config) {
            (Some(brokers), _) => {
                let brokers = brokers.split(',').map(|broker| broker.trim().to_owned()).collect();
                let kafka = KafkaConfig { brokers, ..KafkaConfig::default() };
                Ok(Config { kafka, ..Config::default() })
            }
            (None, Some(path)) => Config::load(path).map_err(Failure::config),
            (None, None) => {
                let what = "name the brokers: --kafka HOST:PORT, or --config FILE".to_owned();
                Err(Failure::Arguments(what))
            }
        }
    }

    /// The server of ClickHouse.
    pub(super) fn clickhouse(&self) -> Result<ClickHouseConfig, Failure> {
        let config = self.config()?.clickhouse;
        config.ok_or_else(|| {
            let what = "name the server of ClickHouse: [clickhouse] in the file of --config";
            Failure::Arguments(what.to_owned())
        })
    }

    /// The brokers, and what the inputs of a dataflow are called there.
    pub(super) fn resolve(&self, spec: &Spec) -> Result<(Kafka, Names), Failure> {
        let config = self.config()?.kafka;
        let properties = config.properties().map_err(Failure::config)?;
        let named = |name: Option<String>, usual: &str| {
            name.unwrap_or_else(|| format!("{}_{usual}", spec.family))
        };
        let names = Names {
            events: named(config.events, "events"),
            reference: named(config.reference, "reference"),
        };
        Ok((Kafka::new(properties, &spec.name), names))
    }
}
