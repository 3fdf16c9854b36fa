//! Where a dataflow runs: options that several subcommands share.
//!
//! Shape: a configuration or the addresses of brokers in; a client and the names of the inputs out.

use std::path::PathBuf;

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
}

impl PlaceOptions {
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
            name.unwrap_or_else(|| format!("{}_{usual}", spec.name))
        };
        let names = Names {
            events: named(config.events, "events"),
            reference: named(config.reference, "reference"),
        };
        Ok((Kafka::new(properties, &spec.name), names))
    }
}
