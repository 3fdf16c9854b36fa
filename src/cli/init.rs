//! `tributary init`: makes the topics of a dataflow, and its tables.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, place::PlaceOptions, print};
use crate::{
    config::ClickHouseConfig,
    engine::{self, Names, TopicPlan},
    kafka::Kafka,
    load::{Migrations, Server},
    spec::Spec,
};

/// Make the topics of a dataflow in Kafka: those that are not there yet, with the settings that
/// its promises rest on; and where the configuration names a server of ClickHouse, apply the
/// migrations that were not applied there yet.
///
/// Topics that are there are not touched; a setting that does not fit is named, with the command
/// that mends it, and the exit code is 1.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// The dataflow's TOML file.
    spec: PathBuf,

    #[command(flatten)]
    place: PlaceOptions,

    /// Partitions of the events, where their topic is not there yet. Their number cannot grow later
    /// without the operator's word: keys would move.
    #[arg(long, default_value_t = 6, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    event_partitions: u32,

    /// Partitions of each output; fixed for good.
    #[arg(long, default_value_t = 6, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    output_partitions: u32,

    /// Copies of each topic; without it the brokers' default. From 3 on a record must be on two
    /// brokers before it counts as written.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    replication: Option<u16>,

    /// Have ClickHouse also read the view `enriched` by its own Kafka engine, into
    /// `attendance_enriched_kafka`: the migrations in sql/kafka_engine. Its limits stand in
    /// docs/clickhouse.md.
    #[arg(long)]
    kafka_engine: bool,
}

impl Init {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spec = self.place.spec(&self.spec)?;
        let (kafka, names) = self.place.resolve(&spec)?;
        kafka.connect().map_err(Failure::failed)?;
        let partitions = (self.event_partitions, self.output_partitions);
        make(&spec, &self.place, (&kafka, &names), partitions, self.replication)?;
        if !self.kafka_engine {
            return Ok(());
        }
        if spec.is_renamed() {
            let what = "ClickHouse's own Kafka engine reads one dataflow for good: leave out \
                        --kafka-engine, or --as";
            return Err(Failure::Arguments(what.to_owned()));
        }
        let config = self.place.config()?;
        let clickhouse = self.place.clickhouse()?;
        let server = Server::new(&clickhouse).map_err(Failure::config)?;
        let topic = format!("{}_enriched", spec.name);
        let places = clickhouse.places(&config.kafka.brokers, &topic);
        let reading = Migrations::load_with(&clickhouse.kafka_engine(), places);
        apply(&reading.map_err(Failure::failed)?, &server)
    }
}

/// Makes the topics of a dataflow that are not there yet, of so many partitions for events and
/// outputs, and its tables, where the configuration names a server.
pub(super) fn make(
    spec: &Spec,
    place: &PlaceOptions,
    (kafka, names): (&Kafka, &Names),
    (events, outputs): (u32, u32),
    replication: Option<u16>,
) -> Result<(), Failure> {
    let plan = TopicPlan::of(spec, names, events, outputs);
    let done = engine::make_topics(kafka, &plan, replication).map_err(Failure::failed)?;
    for (name, partitions, is_new) in &done.topics {
        let what = if *is_new { "made" } else { "is there" };
        print(&format!("{name}: {what}, {partitions} partition(s)\n"))?;
    }
    done.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    if !done.unfit.is_empty() {
        return Err(Failure::failed(done.into_error()));
    }
    let Some(clickhouse) = place.config()?.clickhouse else { return Ok(()) };
    let server = Server::new(&clickhouse).map_err(Failure::config)?;
    apply(&migrations(spec, &clickhouse)?, &server)
}

/// The migrations of a dataflow's tables.
pub(super) fn migrations(
    spec: &Spec,
    clickhouse: &ClickHouseConfig,
) -> Result<Migrations, Failure> {
    let migrations = Migrations::load(&clickhouse.sql).map_err(Failure::failed)?;
    Ok(migrations.of_dataflow(&spec.family, &spec.name))
}

fn apply(migrations: &Migrations, server: &Server) -> Result<(), Failure> {
    for (name, is_new) in migrations.apply(server).map_err(Failure::failed)? {
        print(&format!("{name}: {}\n", if is_new { "applied" } else { "was applied" }))?;
    }
    Ok(())
}
